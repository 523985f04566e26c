"""MAMMI as published (Kim, Ahn, Kim: MAMMI, MICCAI 2024), with bounds on the number of examples beside it."""

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Literal

from torch import Tensor

from mammi.errors import InputError
from mammi.functional.matching import concept_scores, keep_best, mean_embeddings
from mammi.functional.selection import Selection, limit_examples, select_adaptive, select_quantile, select_top
from mammi.methods.base import METHODS, Evidence, Match, Needs

__all__ = ["Mammi"]


@METHODS.register("mammi", "strongest films by share of the unit's range; mean cosine above the bare template")
@dataclass(frozen=True)
class Mammi:
    """Adaptive examples, then the mean of template-corrected cosines, then all concepts close to the best.

    The defaults are the paper's. The other options are for layers where the published rule picks one film or
    thousands (see the page on MAMMI in the docs).

    Attributes:
        example_threshold: share ``a`` of the unit's activation range that an example must exceed, in ``[0, 1)``.
        concept_threshold: share of the best score that a concept must exceed, in ``[0, 1)``.
        selection: ``"adaptive"`` (published), ``"top-k"`` or ``"quantile"``.
        top_k: number of examples under ``"top-k"``.
        quantile: quantile of the unit's activations that an example must exceed under ``"quantile"``.
        min_examples: fill up to this many by rank (0: as chosen).
        max_examples: keep at most this many (None: as chosen).
    """

    example_threshold: float = 0.93
    concept_threshold: float = 0.95
    selection: Literal["adaptive", "top-k", "quantile"] = "adaptive"
    top_k: int = 10
    quantile: float = 0.99
    min_examples: int = 0
    max_examples: int | None = None

    def __post_init__(self) -> None:
        """Check the ranges at once, so that a wrong option fails before any film is read."""
        for name in ("example_threshold", "concept_threshold", "quantile"):
            share = getattr(self, name)
            if not isinstance(share, Real) or not 0 <= float(share) < 1:
                raise InputError(f"{name!r} must be a number in [0, 1), got {share!r}")
        for name in ("top_k", "min_examples", "max_examples"):
            count = getattr(self, name)
            if count is None and name == "max_examples":
                continue
            if not isinstance(count, Integral) or abs(int(count)) >= 2**31:
                raise InputError(f"{name!r} must be a whole number below 2 147 483 648, got {count!r}")
        if self.selection not in ("adaptive", "top-k", "quantile"):
            raise InputError(f"'selection' must be adaptive, top-k or quantile, got {self.selection!r}")
        if self.top_k < 1:
            raise InputError(f"'top_k' must be at least 1, got {self.top_k}")
        if self.min_examples < 0:
            raise InputError(f"'min_examples' must be 0 or more, got {self.min_examples}")
        if self.max_examples is not None and self.max_examples < max(1, self.min_examples):
            raise InputError(f"'max_examples' must be at least {max(1, self.min_examples)}, got {self.max_examples}")

    def select(self, activations: Tensor) -> Selection:
        """Choose examples for units: ``(n_images, n_units)`` activations in, a ragged table out."""
        if self.selection == "top-k":
            chosen = select_top(activations, self.top_k)
        elif self.selection == "quantile":
            chosen = select_quantile(activations, self.quantile)
        else:
            chosen = select_adaptive(activations, self.example_threshold)
        return limit_examples(activations, chosen, self.min_examples, self.max_examples)

    @property
    def needs(self) -> Needs:
        """The chosen films."""
        return "examples"

    @property
    def whole_layer(self) -> bool:
        """A unit is named from its own examples alone."""
        return False

    def match(self, evidence: Evidence, selection: Selection) -> Match:
        """Score concepts by the mean over examples, and keep all within a share of the best."""
        means = mean_embeddings(selection, evidence.films)
        scores = concept_scores(means, evidence.concepts, evidence.template)
        return Match(scores, keep_best(scores, self.concept_threshold))
