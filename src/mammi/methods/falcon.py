"""The contrast step of FALCON (Kalibhat et al., ICML 2023): a concept that look-alike films share is no explanation."""

from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from mammi.functional.contrast import caption_scores, contrast_films, high_films
from mammi.functional.selection import Selection, select_top, select_where
from mammi.functional.similarity import check_widths
from mammi.methods.base import METHODS, Evidence, Match, Needs, Verdict
from mammi.methods.options import check_number, check_whole

__all__ = ["Falcon"]


@METHODS.register("falcon", "films far above the layer's level; concepts that similar films below it show are removed")
@dataclass(frozen=True)
class Falcon:
    """Concepts of the films on which a unit stands out, less those of films that only lack the unit.

    Kept of FALCON: activations scaled film by film, the high films by mean and standard deviation of the whole layer,
    captions by softmax, and the contrast films with their threshold. Not kept, as it cannot be had from arrays: groups
    of units (here each unit stands alone), captions from LAION cut into words (here the concept set captions), crops
    around the Grad-CAM maximum (here whole films), and the filter by the likeness of those crops.

    Attributes:
        high_std: a film is high for a unit this many standard deviations above the mean of the layer.
        min_films: a unit needs more high films than this.
        contrast_similarity: how similar the rest of the layer must be on a contrast film.
        contrast_films: number of contrast films at most; 0 to remove nothing.
        contrast_threshold: a concept that scores this much on the contrast films is removed.
        max_concepts: number of concepts kept at most.
    """

    high_std: float = 5.0
    min_films: int = 10
    contrast_similarity: float = 0.3
    contrast_films: int = 10
    contrast_threshold: float = 0.1
    max_concepts: int = 8

    def __post_init__(self) -> None:
        """Check the ranges at once."""
        check_number("high_std", self.high_std, 0, inf)
        check_number("contrast_similarity", self.contrast_similarity, -1, inf)
        check_number("contrast_threshold", self.contrast_threshold, 0, inf)
        for name, least in (("min_films", 0), ("contrast_films", 0), ("max_concepts", 1)):
            check_whole(name, getattr(self, name), least)

    @property
    def needs(self) -> Needs:
        """Every film: the contrast is looked for in all."""
        return "films"

    @property
    def whole_layer(self) -> bool:
        """What is high, and what is similar, depends on the layer."""
        return True

    def select(self, activations: Tensor) -> Selection:
        """Choose the high films of each unit, or its strongest film where it has none, over a whole layer.

        Units that never vary are no part of the layer here, as they are none when concepts are matched.
        """
        low, high = activations.aminmax(dim=0)
        live = (high > low).nonzero().flatten()
        chosen = torch.zeros(activations.shape, dtype=torch.bool)
        if len(live):
            chosen[:, live] = high_films(activations[:, live], self.high_std)
        strongest = select_top(activations, 1)
        lacking = ~chosen[:, strongest.units].any(dim=0)
        chosen[strongest.images[lacking], strongest.units[lacking]] = True
        return select_where(activations, chosen)

    def match(self, evidence: Evidence, selection: Selection) -> Match:
        """Score concepts as captions of the examples, and keep the best that the contrast films do not share."""
        check_widths(evidence.films, evidence.concepts, evidence.template)
        high = high_films(evidence.activations, self.high_std)
        counts = high.sum(dim=0).tolist()
        scores = caption_scores(selection, evidence.films, evidence.concepts)
        films = contrast_films(evidence.activations, high, self.contrast_similarity, self.contrast_films)
        lengths = torch.tensor([0, *map(len, films)])
        contrast = Selection(torch.cat(films), torch.zeros(int(lengths.sum())), lengths.cumsum(0))
        # NaN where a unit has no contrast film: no comparison with NaN holds, so nothing is removed.
        shared = caption_scores(contrast, evidence.films, evidence.concepts) >= self.contrast_threshold
        kept = []
        for unit, row in enumerate(scores):
            left = ((row > 0) & ~shared[unit]).nonzero().flatten()
            best = left[row[left].argsort(descending=True, stable=True)][: self.max_concepts]
            kept.append(best if counts[unit] > self.min_films else best[:0])
        verdict = Verdict.only_reasons(kept, lambda unit: self._reason(counts[unit]))
        return Match(scores, kept, verdict=verdict)

    def _reason(self, n_high: int) -> str:
        if n_high <= self.min_films:
            return f"it is high on {n_high} films, and more than {self.min_films} are asked for"
        return "films that lack it show every one of its concepts"
