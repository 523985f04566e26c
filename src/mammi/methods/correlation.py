"""The plainest method: the concept whose cosine rises and falls with the unit over all films."""

from dataclasses import dataclass

from torch import Tensor

from mammi.functional.correlation import film_correlations
from mammi.functional.matching import keep_first
from mammi.functional.selection import Selection, select_top
from mammi.functional.similarity import check_widths
from mammi.methods.base import METHODS, Evidence, Match, Needs, Verdict
from mammi.methods.options import check_whole

__all__ = ["Correlation"]


@METHODS.register("correlation", "the concept whose cosine correlates best with the activation, over all films")
@dataclass(frozen=True)
class Correlation:
    """Pearson's correlation of activation and cosine over all films; the best concept, if it is above 0.

    The template is not used: what it would take off differs from film to film and would blur every concept alike.

    Attributes:
        top_k: number of strongest films shown as examples; all films are scored.
    """

    top_k: int = 10

    def __post_init__(self) -> None:
        """Check the range at once."""
        check_whole("top_k", self.top_k, 1)

    @property
    def needs(self) -> Needs:
        """Every film."""
        return "films"

    @property
    def whole_layer(self) -> bool:
        """A unit is named from its own activations alone."""
        return False

    def select(self, activations: Tensor) -> Selection:
        """Choose the films to show: the strongest."""
        return select_top(activations, self.top_k)

    def match(self, evidence: Evidence, selection: Selection) -> Match:
        """Score every concept over all films, and keep the best."""
        check_widths(evidence.films, evidence.concepts, evidence.template)
        scores = film_correlations(evidence.activations, evidence.films, evidence.concepts)
        kept = keep_first(scores, above=0)
        verdict = Verdict.only_reasons(kept, lambda unit: "no concept's cosine rises with its activation")
        return Match(scores, kept, verdict=verdict)
