"""CLIP-Dissect (Oikarinen, Weng, ICLR 2023) with its five similarities of a unit's activations and a concept."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from mammi.errors import InputError
from mammi.functional.correlation import film_cosines, film_cosines_cubed
from mammi.functional.matching import keep_first
from mammi.functional.rank_reorder import rank_reorder
from mammi.functional.selection import Selection, select_top
from mammi.functional.similarity import check_widths
from mammi.functional.wpmi import soft_wpmi, wpmi
from mammi.methods.base import METHODS, Evidence, Match, Needs, Verdict
from mammi.methods.options import check_whole

__all__ = ["ClipDissect"]

Similarity = Literal["cos_similarity", "cos_similarity_cubed", "rank_reorder", "wpmi", "soft_wpmi"]

#: How many films are scored as published. The cosines score all films, and show this many.
TOP = {"wpmi": 28, "soft_wpmi": 100, "cos_similarity": 10, "cos_similarity_cubed": 10}

#: Share of the films that rank reorder scores, as published.
SHARE = 0.05


@METHODS.register("clip-dissect", "the concept most similar to the unit over the films, against the whole layer")
@dataclass(frozen=True)
class ClipDissect:
    """One concept a unit: the most similar by one of five published similarities.

    Concepts are meant to come without a template (``template="{}"``); the bare template is not used.

    Attributes:
        similarity: ``"soft_wpmi"`` (published default), ``"wpmi"``, ``"rank_reorder"``, ``"cos_similarity"`` or
            ``"cos_similarity_cubed"``. The first two compare a unit with all live units of its layer.
        top_k: number of strongest films to score; None for the published: 100, 28 under ``"wpmi"``, 5 % of the films
            (at least 2) under ``"rank_reorder"``. The cosines score all films, and show this many: 10. All films
            where there are fewer.
        seed: of the random orders that scale ``"rank_reorder"``.
    """

    similarity: Similarity = "soft_wpmi"
    top_k: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the options at once."""
        if self.similarity not in get_args(Similarity):
            raise InputError(f"'similarity' must be one of {', '.join(get_args(Similarity))}, got {self.similarity!r}")
        if self.top_k is not None:
            check_whole("top_k", self.top_k, 2 if self.similarity == "rank_reorder" else 1)
        check_whole("seed", self.seed, 0)

    @property
    def needs(self) -> Needs:
        """Every film: the strongest of all units are most of them, and the cosines look at all."""
        return "films"

    @property
    def whole_layer(self) -> bool:
        """WPMI takes off what a concept says of the layer's other units."""
        return self.similarity in ("wpmi", "soft_wpmi")

    def select(self, activations: Tensor) -> Selection:
        """Choose the strongest films of each unit."""
        top_k = self.top_k or TOP.get(self.similarity) or max(2, int(len(activations) * SHARE))
        return select_top(activations, top_k)

    def match_layer(
        self, evidence: Evidence, selection: Selection, columns: Callable[[slice], Tensor]
    ) -> Iterator[Match]:
        """Score every concept at once: WPMI looks at the chosen films of all units, and at no activation."""
        yield self.match(evidence, selection)

    def match(self, evidence: Evidence, selection: Selection) -> Match:
        """Score every concept, and keep the best."""
        films, concepts = evidence.films, evidence.concepts
        check_widths(films, concepts, evidence.template)
        if self.similarity == "soft_wpmi":
            scores = soft_wpmi(selection, films, concepts, top_k=self.top_k or TOP["soft_wpmi"])
        elif self.similarity == "wpmi":
            scores = wpmi(selection, films, concepts)
        elif self.similarity == "rank_reorder":
            scores = rank_reorder(selection, films, concepts, self.seed)
        elif self.similarity == "cos_similarity":
            scores = film_cosines(evidence.activations, films, concepts)
        else:
            scores = film_cosines_cubed(evidence.activations, films, concepts)
        kept = keep_first(scores)
        return Match(scores, kept, verdict=Verdict.only_reasons(kept, lambda unit: f"{self.similarity} has no value"))
