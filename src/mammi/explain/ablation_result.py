"""What taking units out did: tables, and the short sentences that say them."""

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from mammi.explain.audit_result import NOTICE, WHERE, plain_rows, widest

__all__ = ["AREA_COLUMNS", "CHANGE_COLUMNS", "GAP_CHANGE_COLUMNS", "Ablation"]

#: Columns of `Ablation.changes`.
CHANGE_COLUMNS = [
    *("output", "films", "logit", "change", "low", "high", "random_mean", "random_extreme", "random_share"),
    *("probability", "probability_change", "probability_low", "probability_high", "n_films", "n_patients"),
]
#: Columns of `Ablation.areas`.
AREA_COLUMNS = [
    *("output", "before", "after", "change", "low", "high", "random_mean", "random_extreme", "random_share"),
    *("films_with", "films_without"),
]
#: Columns of `Ablation.gaps`.
GAP_CHANGE_COLUMNS = [
    *("attribute", "output", "films", "before", "before_low", "before_high", "after", "after_low", "after_high"),
    *("change", "low", "high", "random_mean", "random_extreme", "random_share"),
]


@dataclass(frozen=True)
class Ablation:
    """Outputs with some units held at a value, beside the same with random units.

    Attributes:
        layer: the layer.
        units: the units held.
        names: their names.
        values: what each was held at.
        to: ``"mean"`` or ``"zero"``.
        by: ``"algebra"``, or ``"hook"`` where the films were shown to the network again.
        n_units: units of the layer.
        n_films: films looked at.
        n_patients: their patients.
        n_sets: random sets of as many units of like spread.
        changes: one row an output and set of films (``all``, and by its label ``with`` and ``without``): the mean ``logit``
            and ``probability``, and the mean change of both with 95 % intervals over patients. Of the random sets the mean
            change of the logit, the one that goes furthest the same way, and the share that go as far, the true set
            counted among them. Held at their mean, units that add up to the logit leave its mean over all films as it was.
        areas: one row an output with labels: the area under the ROC curve before and after, its change with interval, and
            the same of the random sets.
        gaps: one row an attribute, output and set of films: the gap of the logit before and after with intervals, its
            change, and the changes that random sets make.
    """

    layer: str
    units: tuple[int, ...]
    names: tuple[str, ...]
    values: tuple[float, ...]
    to: str
    by: str
    n_units: int
    n_films: int
    n_patients: int
    n_sets: int
    changes: pd.DataFrame = field(repr=False)
    areas: pd.DataFrame = field(repr=False)
    gaps: pd.DataFrame = field(repr=False)

    @property
    def sentences(self) -> list[str]:
        """Say which units were held at what, and of each attribute how the widest gap changed."""
        held = "at their mean" if self.to == "mean" else "at 0"
        said = [f"{len(self.units):,} of {self.n_units:,} units of {self.layer} held {held}, {self.n_films:,} films."]
        for attribute in self.gaps["attribute"].unique():
            row = widest(self.gaps[self.gaps["attribute"] == attribute], "before", "before_low", "before_high")
            if row is not None:
                said.append(
                    f"The logit gap of {row['output']} along {attribute} {WHERE[row['films']]} goes from "
                    f"{row['before']:+.2f} [{row['before_low']:+.2f} to {row['before_high']:+.2f}] to {row['after']:+.2f} "
                    f"[{row['after_low']:+.2f} to {row['after_high']:+.2f}]; {self.n_sets:,} random sets change it by "
                    f"{row['random_mean']:+.2f} on average, by {row['random_extreme']:+.2f} at most."
                )
        return said

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON, null for NaN."""
        return {
            "notice": NOTICE,
            "layer": self.layer,
            "units": [
                {"unit": unit, "name": name, "held_at": value}
                for unit, name, value in zip(self.units, self.names, self.values, strict=True)
            ],
            "to": self.to,
            "by": self.by,
            "n_units": self.n_units,
            "n_films": self.n_films,
            "n_patients": self.n_patients,
            "n_sets": self.n_sets,
            "sentences": self.sentences,
            "changes": plain_rows(self.changes),
            "areas": plain_rows(self.areas),
            "gaps": plain_rows(self.gaps),
        }
