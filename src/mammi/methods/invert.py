"""INVERT (Bykov et al., NeurIPS 2023): the logical formula of concepts that best tells a unit's films apart."""

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Literal

import torch
from torch import Tensor

from mammi.errors import InputError
from mammi.functional.auroc import auroc
from mammi.functional.invert_search import Formula, search_formulas
from mammi.functional.matching import concept_scores
from mammi.functional.presence import present_by_share
from mammi.functional.selection import Selection, select_top
from mammi.methods.base import METHODS, Evidence, Match, Needs, Verdict

__all__ = ["Invert"]

#: Strongest films shown beside a unit; all films are scored.
EXAMPLES = 10


@METHODS.register(
    "invert", "formula of concepts with AND, OR and NOT that best tells strong films from weak ones (AUC)"
)
@dataclass(frozen=True)
class Invert:
    """AUC of every concept, then a beam search over formulas with AND, OR and NOT.

    Attributes:
        source: ``"vlm"``: a concept is on the films where the vision-language model scores it highest (ours);
            ``"labels"``: on those that the label table says (published).
        length: most concepts in a formula.
        beam: formulas that the search keeps at a time.
        min_fraction: a formula must hold on at least this share of the films.
        max_fraction: and on at most this share.
        limit_search: join only with this many concepts, the most telling first (None: with all).
        share: share of the films on which a concept is called present under ``"vlm"``.
    """

    source: Literal["vlm", "labels"] = "vlm"
    length: int = 3
    beam: int = 3
    min_fraction: float = 0.0
    max_fraction: float = 0.5
    limit_search: int | None = None
    share: float = 0.05

    def __post_init__(self) -> None:
        """Check the ranges at once, so that a wrong option fails before any film is read."""
        if self.source not in ("vlm", "labels"):
            raise InputError(f"'source' must be vlm or labels, got {self.source!r}")
        for name in ("length", "beam", "limit_search"):
            count = getattr(self, name)
            if count is None and name == "limit_search":
                continue
            if not isinstance(count, Integral) or not 1 <= int(count) < 2**31:
                raise InputError(f"{name!r} must be a whole number, at least 1, got {count!r}")
        for name in ("min_fraction", "max_fraction", "share"):
            share = getattr(self, name)
            if not isinstance(share, Real) or not 0 <= float(share) <= 1:
                raise InputError(f"{name!r} must be a number in [0, 1], got {share!r}")
        if self.min_fraction > self.max_fraction:
            raise InputError(f"'min_fraction' must not exceed 'max_fraction', got {self.min_fraction}")
        if not 0 < self.share < 1:
            raise InputError(f"'share' must be in (0, 1), got {self.share}")

    @property
    def needs(self) -> Needs:
        """All films, or the label table."""
        return "labels" if self.source == "labels" else "films"

    @property
    def whole_layer(self) -> bool:
        """A unit is named from its own activations alone."""
        return False

    def select(self, activations: Tensor) -> Selection:
        """Choose the strongest films to show; the score looks at all films."""
        return select_top(activations, EXAMPLES)

    def match(self, evidence: Evidence, selection: Selection) -> Match:
        """Score every concept by its AUC, and keep the concepts of the best formula."""
        labels = self._labels(evidence)
        activations = evidence.activations
        scores = auroc(activations, labels)
        found = search_formulas(
            activations, labels, self.length, self.beam, self.min_fraction, self.max_fraction, self.limit_search
        )
        concepts = [_concepts(formula, own) for formula, own in zip(found, scores, strict=True)]
        none = (
            f"no concept or formula holds on {self.min_fraction:g} to {self.max_fraction:g} of the films "
            "and fails on others"
        )
        effect = [
            torch.full((len(kept),), 2 * formula.auc - 1 if formula else torch.nan, dtype=torch.float64)
            for kept, formula in zip(concepts, found, strict=True)
        ]
        verdict = Verdict.only(concepts, ["" if formula else none for formula in found], effect)
        return Match(scores, concepts, [_text(formula) for formula in found], verdict)

    def _labels(self, evidence: Evidence) -> Tensor:
        if self.source == "vlm":
            return present_by_share(concept_scores(evidence.films, evidence.concepts, evidence.template), self.share)
        if evidence.labels is None:
            raise InputError("method 'invert' with source=labels needs a label table: give one, or take source=vlm")
        return evidence.labels


def _concepts(formula: Formula | None, scores: Tensor) -> Tensor:
    """Return the concepts a formula asks for, highest AUC first; those it excludes if it asks for none."""
    if formula is None:
        return torch.empty(0, dtype=torch.int64)
    wanted = {term.concept for term in formula.terms if not term.negated}
    excluded = {term.concept for term in formula.terms}
    kept = torch.tensor(sorted(wanted or excluded))
    # Among concepts that only exclude, the most telling one has the lowest AUC.
    return kept[scores[kept].argsort(descending=bool(wanted), stable=True)]


def _text(formula: Formula | None) -> str:
    """Return the formula's text; nothing where its one concept says all."""
    if formula is None or (len(formula.terms) == 1 and not formula.terms[0].negated):
        return ""
    return str(formula)
