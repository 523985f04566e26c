"""Linear Explanations (Oikarinen and Weng, ICML 2024): a unit as a short weighted sum of concepts."""

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Literal

import torch
from torch import Tensor

from mammi.errors import InputError
from mammi.functional.greedy_linear import (
    LinearFit,
    Moments,
    correlations,
    explain_linearly,
    fit_correlation,
    standardise,
)
from mammi.functional.matching import concept_scores
from mammi.functional.patient_split import split_patients
from mammi.functional.selection import Selection, select_top
from mammi.methods.base import METHODS, Evidence, Match, Needs, Verdict

__all__ = ["Linear"]

#: Strongest films shown beside a unit; all films are used.
EXAMPLES = 10
NOTHING = "no concept predicts the unit on films held back"


@METHODS.register("linear", "short weighted sum of concepts that predicts the unit on films held back (correlation)")
@dataclass(frozen=True)
class Linear:
    """Concept activations, an elastic net that orders them, then greedy least squares judged on other patients.

    Attributes:
        source: ``"vlm"``: concept activations are ``sigmoid(a (P + b))`` of similarities; ``"labels"``: they are the
            label table.
        cosines: ``"standardised"``: each concept's template-corrected cosines have mean 0 and deviation 1 over the
            training films (ours, for any vision-language model); ``"raw"``: plain cosines, with the published
            pairs of ``a`` and ``b`` for the models they were fitted to.
        a: slope of the sigmoid.
        b: offset of the sigmoid.
        max_terms: most concepts in a sum.
        min_gain: how much a concept must raise the correlation on the validation films.
        seed: of the split into training, validation and test patients.
    """

    source: Literal["vlm", "labels"] = "vlm"
    cosines: Literal["standardised", "raw"] = "standardised"
    a: float = 1.0
    b: float = 0.0
    max_terms: int = 10
    min_gain: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges at once, so that a wrong option fails before any film is read."""
        if self.source not in ("vlm", "labels"):
            raise InputError(f"'source' must be vlm or labels, got {self.source!r}")
        if self.cosines not in ("standardised", "raw"):
            raise InputError(f"'cosines' must be standardised or raw, got {self.cosines!r}")
        for name in ("a", "b", "min_gain"):
            value = getattr(self, name)
            if not isinstance(value, Real) or not math.isfinite(float(value)):
                raise InputError(f"{name!r} must be a finite number, got {value!r}")
        if not self.a > 0:
            raise InputError(f"'a' must be above 0, got {self.a}")
        if not 0 <= self.min_gain < 1:
            raise InputError(f"'min_gain' must be in [0, 1), got {self.min_gain}")
        for name, least in (("max_terms", 1), ("seed", 0)):
            count = getattr(self, name)
            if not isinstance(count, Integral) or not least <= int(count) < 2**31:
                raise InputError(f"{name!r} must be a whole number, at least {least}, got {count!r}")

    @property
    def needs(self) -> Needs:
        """All films, or the label table."""
        return "labels" if self.source == "labels" else "films"

    @property
    def whole_layer(self) -> bool:
        """A unit is explained from its own activations alone."""
        return False

    def select(self, activations: Tensor) -> Selection:
        """Choose the strongest films to show; the fit looks at all films."""
        return select_top(activations, EXAMPLES)

    def match(self, evidence: Evidence, selection: Selection) -> Match:
        """Explain every unit; scores are the correlations of single concepts on the validation films."""
        table = self._similarities(evidence)
        train, validation, test = split_patients(evidence.patients, seed=self.seed)
        concepts = standardise(self._concept_activations(table, train), train)
        units = standardise(evidence.activations, train)
        learnt, judged, tested = (Moments.of(concepts[films], units[films]) for films in (train, validation, test))
        fits = explain_linearly(learnt, judged, self.max_terms, self.min_gain)
        order = [fit.weights.abs().argsort(descending=True, stable=True) for fit in fits]
        simulation = [fit_correlation(fit, tested, unit) for unit, fit in enumerate(fits)]
        chosen = [fit.concepts[places] for fit, places in zip(fits, order, strict=True)]
        effect = [
            torch.full((len(kept),), score, dtype=torch.float64) for kept, score in zip(chosen, simulation, strict=True)
        ]
        return Match(
            scores=correlations(judged),
            concepts=chosen,
            formulas=[_text(fit, places) for fit, places in zip(fits, order, strict=True)],
            verdict=Verdict.only(chosen, ["" if len(kept) else NOTHING for kept in chosen], effect),
        )

    def _similarities(self, evidence: Evidence) -> Tensor:
        """Return what is known of every film and concept: cosines, or labels."""
        if self.source == "vlm":
            template = evidence.template if self.cosines == "standardised" else None
            return concept_scores(evidence.films, evidence.concepts, template)
        if evidence.labels is None:
            raise InputError("method 'linear' with source=labels needs a label table: give one, or take source=vlm")
        return evidence.labels.double()

    def _concept_activations(self, table: Tensor, train: Tensor) -> Tensor:
        """Return how present each concept is on each film, in [0, 1]."""
        if self.source == "labels":
            # An unknown label counts as the concept's share of the training films: it says nothing either way.
            usual = table[train].nanmean(dim=0).nan_to_num(0.0)
            return torch.where(table.isnan(), usual, table)
        scores = standardise(table, train) if self.cosines == "standardised" else table
        return torch.sigmoid(self.a * (scores + self.b))


def _text(fit: LinearFit, places: Tensor) -> str:
    """Write the sum, largest weight first; nothing where one concept with a positive weight says all."""
    weights, concepts = fit.weights[places].tolist(), fit.concepts[places].tolist()
    if len(concepts) == 1 and weights[0] > 0:
        return ""
    text = " ".join(
        f"{'-' if weight < 0 else '+'} {abs(weight):.2f} {{{concept}}}"
        for weight, concept in zip(weights, concepts, strict=True)
    )
    return text.removeprefix("+ ") if text.startswith("+") else text.replace("- ", "-", 1)
