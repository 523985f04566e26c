"""What is said of one film: predictions, what each unit adds to them, and that it adds up."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammi.explain.classes import FilmAgreement
from mammi.explain.where import UnitMaps

__all__ = ["ConceptShare", "FilmExplanation", "OutputExplanation", "Prediction", "SimilarFilm", "UnitShare"]

#: From here on what the units leave of a logit is a row of its own; below, it is the rounding of float32.
TOLD = 1e-4


@dataclass(frozen=True)
class Prediction:
    """One output for the film.

    Attributes:
        output: its name.
        number: its number.
        logit: what the network gives.
        probability: after the network's own sigmoid or softmax; None if it has neither.
        threshold: the logit from which on it is called present, from the run's labels; None without labels of it.
        called: whether it is; None without a threshold.
        percentile: share of the run's other films with a lower logit, ties by half, 0 to 100; None if there is none.
    """

    output: str
    number: int
    logit: float
    probability: float | None
    threshold: float | None
    called: bool | None
    percentile: float | None


@dataclass(frozen=True)
class UnitShare:
    """One unit's part in one output.

    Attributes:
        unit: its number in the layer.
        name: its concepts as the run has them, or ``"no concept"``.
        reason: why there is no concept; else ``""``.
        effect: effect size of the first concept; None, like the two that follow, where the method states none.
        q_value: false discovery rate at which the unit has it.
        stability: share of draws of patients that keep it.
        activation: on the film.
        percentile: share of the run's other films with a lower activation, ties by half, 0 to 100.
        deviation: how many standard deviations the activation is above the mean of the run's other films; None for a
            unit that never varies there.
        contribution: to the logit.
        usual: mean contribution over the run's other films; None where contributions are no sum of weights.
        peak: where its map is highest, as shares of the film's height and width; None where it has no map.
    """

    unit: int
    name: str
    reason: str
    effect: float | None
    q_value: float | None
    stability: float | None
    activation: float
    percentile: float | None
    deviation: float | None
    contribution: float
    usual: float | None
    peak: tuple[float, float] | None


@dataclass(frozen=True)
class ConceptShare:
    """What all units of one name add to one output; ``"no concept"`` is a name like others.

    Attributes:
        concept: the name.
        units: how many units carry it.
        contribution: of all of them together.
    """

    concept: str
    units: int
    contribution: float


@dataclass(frozen=True)
class SimilarFilm:
    """A film of the run on which the same units are active.

    Attributes:
        film: salted id.
        patient: salted id.
        similarity: cosine of the units' activations, each in standard deviations from its mean over the run.
        logit: of the output.
        labels: labels that it has.
        row: of ``run.images``.
    """

    film: str
    patient: str
    similarity: float
    logit: float
    labels: tuple[str, ...]
    row: int


@dataclass(frozen=True)
class OutputExplanation:
    """Why one output is what it is: ``base + sum(contributions) + gap == logit``.

    Attributes:
        prediction: the output.
        base: the bias, or the logit of the baseline.
        contributions: of all units, float64, shape ``(n_units,)``.
        gap: what these leave of the logit.
        units: those with the largest contributions of either sign, largest first.
        concepts: all units by name, largest first.
        similar: films of the run, one a patient, most similar first.
        agreement: how like the contributions are to those of the run's films of the class (`film_agreement`); None where
            they are no sum of weights, or no film stands for the class.
        remarks: what to be careful with, in words.
    """

    prediction: Prediction
    base: float
    contributions: NDArray[np.float64] = field(repr=False)
    gap: float
    units: tuple[UnitShare, ...] = field(repr=False)
    concepts: tuple[ConceptShare, ...] = field(repr=False)
    similar: tuple[SimilarFilm, ...] = field(repr=False)
    agreement: FilmAgreement | None = None
    remarks: tuple[str, ...] = ()

    @property
    def shown(self) -> float:
        """What the units listed contribute together."""
        return math.fsum(unit.contribution for unit in self.units)

    @property
    def others(self) -> float:
        """What all other units contribute together."""
        rest = np.delete(self.contributions, [unit.unit for unit in self.units])
        return math.fsum(rest.tolist())

    @property
    def n_others(self) -> int:
        """How many other units there are."""
        return len(self.contributions) - len(self.units)

    @property
    def told_gap(self) -> float:
        """The gap if it is large enough for a row of its own, else 0."""
        return self.gap if abs(self.gap) > TOLD else 0.0

    @property
    def summed(self) -> float:
        """The rows as they are listed, added up: base, units, all others, and the gap if it has a row."""
        return math.fsum([self.base, *(unit.contribution for unit in self.units), self.others, self.told_gap])

    @property
    def difference(self) -> float:
        """Logit less `summed`."""
        return self.prediction.logit - self.summed

    def sentence(self) -> str:
        """Say in words that the rows add up."""
        others = f", the other {self.n_others:,} {self.others:+.4f}" if self.n_others else ""
        gap = f", {self.told_gap:+.4f} is not accounted for" if self.told_gap else ""
        return (
            f"The {len(self.units)} units shown carry {self.shown:+.4f}{others}; base {self.base:+.4f}{gap}; sum "
            f"{self.summed:.4f}; logit {self.prediction.logit:.4f} (difference {abs(self.difference):.0e})."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON-writable values, the sums with it."""
        return {
            **asdict(self.prediction),
            "base": self.base,
            "units": [{**asdict(unit), "peak": list(unit.peak) if unit.peak else None} for unit in self.units],
            "shown": self.shown,
            "others": self.others,
            "n_others": self.n_others,
            "gap": self.gap,
            "told_gap": self.told_gap,
            "summed": self.summed,
            "difference": self.difference,
            "sentence": self.sentence(),
            "concepts": [asdict(concept) for concept in self.concepts],
            "similar": [
                {key: value for key, value in asdict(film).items() if key != "row"} | {"labels": list(film.labels)}
                for film in self.similar
            ],
            "agreement": None if self.agreement is None else self.agreement._asdict(),
            "remarks": list(self.remarks),
            "contributions": self.contributions.tolist(),
        }


@dataclass(frozen=True)
class FilmExplanation:
    """One film explained.

    Attributes:
        network: its name.
        layer: the layer whose units are listed.
        exact: whether contributions are activation times weight; else integrated gradients from a baseline.
        how: what contributions and base are, in words.
        n_films: films of the run it is compared with.
        n_patients: their patients; None where the run does not know them.
        predictions: every output of the network, in its order.
        outputs: those explained.
        twins: salted ids of films of the run with the same pixels; they are left out of every comparison.
        notes: what else to know, in words.
        where: maps of the units listed, on a grid over the film; None where they cannot be told.
    """

    network: str
    layer: str
    exact: bool
    how: str
    n_films: int
    n_patients: int | None
    predictions: tuple[Prediction, ...] = field(repr=False)
    outputs: tuple[OutputExplanation, ...] = field(repr=False)
    twins: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    where: UnitMaps | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it but the maps as JSON-writable values: no path, no file name, films by salted id."""
        return {
            "network": self.network,
            "layer": self.layer,
            "exact": self.exact,
            "how": self.how,
            "n_films": self.n_films,
            "n_patients": self.n_patients,
            "predictions": [asdict(prediction) for prediction in self.predictions],
            "outputs": [output.to_dict() for output in self.outputs],
            "twins": list(self.twins),
            "notes": list(self.notes),
            "where": None if self.where is None else self.where.kind,
        }
