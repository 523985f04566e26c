"""What a comparison found: numbers with intervals, and tables that name units and concepts, never films."""

import json
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import pandas as pd

__all__ = ["Comparison", "Estimate", "LayerComparison", "lone_units"]


class Estimate(NamedTuple):
    """A number and its 95 % interval; NaN where there was nothing to take it from."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float | None]:
        """Return what JSON can hold: null for NaN."""
        return {name: None if math.isnan(value) else value for name, value in self._asdict().items()}


@dataclass(frozen=True)
class LayerComparison:
    """One layer of the first run, A, beside one of the second, B.

    Attributes:
        layer_a: name of the layer in A.
        layer_b: name of the layer in B.
        paired_by: ``"index"`` where both are the same layer of the same network, else ``"correlation"``.
        n_units: number of units of A and of B.
        n_varying: how many of them vary over the shared films; the others can only be paired by index.
        n_matched: number of matched pairs.
        matched: share of A's units that vary which have a partner in B; by index all have. Patients resampled.
        correlation: median correlation of the matched pairs over the shared films. Patients resampled.
        chance_matched: share of A's units that would find some unit of B at `min_correlation` on shuffled films; NaN
            where units are paired by index, or all films are of one patient.
        chance_correlation: the correlation that 95 % of A's units do not reach with any unit of B on shuffled films.
        same_name: share of matched units with the same name in both, among those with a name in either. For this and
            all below, units are resampled.
        any_shared: share of the same units that keep at least one concept in both.
        jaccard: mean over the same units of concepts kept in both by concepts kept in either.
        coverage_a: share of A's units that have a concept.
        coverage_b: share of B's units that have one.
        coverage_difference: the second less the first; matched units are resampled as pairs.
        effect_difference: mean over matched units of the effect of the first concept in B less that in A; None where
            the methods differ or state no effect.
        pairs: one row a matched pair: ``unit_a, unit_b, correlation, name_a, name_b, change, reason_a, reason_b``;
            ``change`` is ``"renamed"``, ``"lost its name"``, ``"got a name"`` or ``""``.
        units_lost: units of A without a partner: ``unit, name, correlation`` (the largest with any unit of B).
        units_gained: the same of B.
        concepts: one row a concept that any unit of the layers keeps: ``concept, before, after`` (number of units of A
            and of B), ``change`` (``"gained"``, ``"lost"`` or ``""``).
    """

    layer_a: str
    layer_b: str
    paired_by: Literal["index", "correlation"]
    n_units: tuple[int, int]
    n_varying: tuple[int, int]
    n_matched: int
    matched: Estimate
    correlation: Estimate
    chance_matched: float
    chance_correlation: float
    same_name: Estimate
    any_shared: Estimate
    jaccard: Estimate
    coverage_a: Estimate
    coverage_b: Estimate
    coverage_difference: Estimate
    effect_difference: Estimate | None
    pairs: pd.DataFrame = field(repr=False)
    units_lost: pd.DataFrame = field(repr=False)
    units_gained: pd.DataFrame = field(repr=False)
    concepts: pd.DataFrame = field(repr=False)

    @property
    def title(self) -> str:
        """The layer, or both where they differ."""
        return self.layer_a if self.layer_a == self.layer_b else f"{self.layer_a} -> {self.layer_b}"

    @property
    def gained(self) -> list[str]:
        """Concepts that some unit of B keeps and no unit of A."""
        return self.concepts.loc[self.concepts["change"] == "gained", "concept"].tolist()

    @property
    def lost(self) -> list[str]:
        """Concepts that some unit of A keeps and no unit of B."""
        return self.concepts.loc[self.concepts["change"] == "lost", "concept"].tolist()

    @property
    def changed(self) -> pd.DataFrame:
        """The rows of `pairs` whose name changed."""
        return self.pairs[self.pairs["change"] != ""].reset_index(drop=True)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON: estimates as value, low, high; tables as lists of rows; null for NaN."""
        return {name: _plain(value) for name, value in vars(self).items()} | {"gained": self.gained, "lost": self.lost}


@dataclass(frozen=True)
class Comparison:
    """Two runs over the same films.

    Attributes:
        methods: the method of A and of B.
        n_films: number of shared films.
        n_patients: number of their patients; every film counts as one where they are unknown.
        min_correlation: the least correlation of a matched pair.
        differs: in which respects the runs differ, in words.
        notes: what a reader must know before taking a number at its word.
        layers: one entry a pair of layers.
    """

    methods: tuple[str, str]
    n_films: int
    n_patients: int
    min_correlation: float
    differs: tuple[str, ...]
    notes: tuple[str, ...]
    layers: tuple[LayerComparison, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON."""
        plain = {name: _plain(value) for name, value in vars(self).items() if name != "layers"}
        return plain | {"layers": [layer.to_dict() for layer in self.layers]}


def lone_units(names: Sequence[str], matched: Collection[int], best: Sequence[float]) -> pd.DataFrame:
    """Tabulate the units of a layer that have no partner.

    Args:
        names: of all its units.
        matched: those that have one.
        best: each unit's largest correlation with any unit of the other layer; NaN if it has none.
    """
    rows = [(unit, name, best[unit]) for unit, name in enumerate(names) if unit not in matched]
    return pd.DataFrame(rows, columns=["unit", "name", "correlation"])


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever the fields above hold
    if isinstance(value, Estimate):
        return value.to_dict()
    if isinstance(value, pd.DataFrame):
        return json.loads(value.to_json(orient="records", double_precision=15))
    if isinstance(value, float) and math.isnan(value):
        return None
    return list(value) if isinstance(value, tuple) else value
