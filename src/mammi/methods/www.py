"""WWW's naming of units (Ahn, Kim, Kim: WWW, CVPR 2024): a fixed number of examples, then MAMMI's score and rule."""

from dataclasses import dataclass

from torch import Tensor

from mammi.functional.matching import concept_scores, keep_best, mean_embeddings
from mammi.functional.selection import Selection, select_top
from mammi.methods.base import METHODS, Evidence, Match, Needs
from mammi.methods.options import check_number, check_whole

__all__ = ["Www"]


@METHODS.register("www", "40 strongest films; mean cosine above the bare template, all concepts close to the best")
@dataclass(frozen=True)
class Www:
    """The strongest films by rank, then the mean of template-corrected cosines, then all concepts close to the best.

    Only the naming: WWW's importances, heat maps and uncertainty need the network.

    Attributes:
        top_k: number of examples; all films where there are fewer.
        concept_threshold: share of the best score that a concept must exceed (the paper's alpha), in ``[0, 1)``.

    Notes:
        The mean over examples is taken; the published code sums, which keeps the same concepts.
    """

    top_k: int = 40
    concept_threshold: float = 0.95

    def __post_init__(self) -> None:
        """Check the ranges at once."""
        check_whole("top_k", self.top_k, 1)
        check_number("concept_threshold", self.concept_threshold, 0, 1)

    @property
    def needs(self) -> Needs:
        """The chosen films."""
        return "examples"

    @property
    def whole_layer(self) -> bool:
        """A unit is named from its own examples alone."""
        return False

    def select(self, activations: Tensor) -> Selection:
        """Choose the strongest films of each unit."""
        return select_top(activations, self.top_k)

    def match(self, evidence: Evidence, selection: Selection) -> Match:
        """Score concepts by the mean over examples, and keep all within a share of the best."""
        means = mean_embeddings(selection, evidence.films)
        scores = concept_scores(means, evidence.concepts, evidence.template)
        return Match(scores, keep_best(scores, self.concept_threshold))
