"""What an audit found: tables, and the short sentences that say them."""

import json
import math
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from mammi.explain.attributes import Attribute

__all__ = ["CAUTION", "NOTICE", "Audit", "plain_rows", "widest"]

NOTICE = "A research and audit tool, not a diagnostic device."
CAUTION = (
    "An association is no cause: an attribute may stand for another that goes with it. "
    "Take the units out (mammi ablate) to see what hangs on them."
)
#: In words, the films over which a gap is taken.
WHERE = {
    "all": "over all films",
    "same finding": "at the same finding",
    "without": "among films without it",
    "with": "among films with it",
}


@dataclass(frozen=True)
class Audit:
    """Units and outputs against attributes of the films.

    Attributes:
        layer: the layer of the units.
        exact: whether what the units carry adds up to the gap; else ``rest`` of ``gaps`` is what they leave.
        n_films: films of the run.
        n_patients: their patients; where they are not known every film counts as one.
        patients_known: whether they are.
        n_units: units of the layer.
        level: the false discovery rate below which a unit reacts.
        attributes: the attributes.
        counts: for each of them the films and patients it is known of, and those that have it.
        units: one row an attribute and unit: ``attribute, unit, name, effect`` (Pearson's r), ``p_value, slope, low, high``
            (of the activation on the attribute, 95 % interval over patients), ``q_value, reacts``.
        carried: one row a class, attribute and unit: ``attribute, output, unit, name, carried`` (of the gap over all
            films), ``reacts_overall``, and at the same finding ``effect, p_value, carried_same, q_value, reacts``; NaN where the
            class has no labels or the attribute does not vary so, and ``reacts`` is then as overall. The q-values are over all units and attributes.
        gaps: one row a class, attribute and set of films: ``attribute, output, films`` (all, same finding, without, with),
            ``gap, low, high``, ``carried, carried_low, carried_high`` (through the ``n_units`` that react), ``share`` (of
            the gap; NaN where the gap's interval holds 0, or beyond ten times the gap), ``rest`` (gap less what all units carry), ``n_units``,
            ``n_films``, ``n_patients``. A set with fewer than 10 patients on a side is left out.
        confounders: ``attribute, goes_with, r, n_films``, strongest first.
        notes: what was left out.
    """

    layer: str
    exact: bool
    n_films: int
    n_patients: int
    patients_known: bool
    n_units: int
    level: float
    attributes: tuple[Attribute, ...]
    counts: tuple[dict[str, Any], ...]
    units: pd.DataFrame = field(repr=False)
    carried: pd.DataFrame = field(repr=False)
    gaps: pd.DataFrame = field(repr=False)
    confounders: pd.DataFrame = field(repr=False)
    notes: tuple[str, ...] = ()

    def reacting(self, attribute: str | None = None, output: str | None = None) -> list[int]:
        """Return the units that react to an attribute, or to any; at the same finding of a class where it is named."""
        table = self.units if output is None else self.carried[self.carried["output"] == output]
        if attribute is not None:
            table = table[table["attribute"] == attribute]
        return sorted({int(unit) for unit in table.loc[table["reacts"], "unit"]})

    def headline(self, attribute: str) -> dict[str, Any] | None:
        """Return the widest gap along an attribute, of those that differ from 0 if any does; see `widest`."""
        rows = self.gaps[self.gaps["attribute"] == attribute]
        return widest(rows, "gap", "low", "high")

    @property
    def sentences(self) -> list[str]:
        """One sentence an attribute: how many units react, and how much of the widest gap goes through them."""
        said = []
        for attribute in self.attributes:
            row = self.headline(attribute.label)
            if row is None:
                said.append(f"{attribute.label}: no class has enough patients on both sides.")
                continue
            said.append(self._sentence(attribute, row))
        return said

    def _sentence(self, attribute: Attribute, row: dict[str, Any]) -> str:
        n_units = int(row["n_units"])
        gap = f"{row['gap']:+.2f} [{row['low']:+.2f} to {row['high']:+.2f}]"
        same = "" if row["films"] == "all" else " at the same finding"
        react = f"{n_units:,} of {self.n_units:,} units of {self.layer} react to {attribute.label}{same}"
        where = f"{WHERE[row['films']]}, {attribute.between}"
        if not n_units:
            return f"{react} (q < {self.level:g}); the widest logit gap is {gap}, of {row['output']} {where}."
        carried = f"{row['carried']:+.2f} [{row['carried_low']:+.2f} to {row['carried_high']:+.2f}]"
        they = "it carries" if n_units == 1 else "they carry"
        return f"{react} (q < {self.level:g}); {they} {carried} of the {gap} logit gap of {row['output']} {where}."

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON: tables as lists of rows, null for NaN; of units only those that react to anything."""
        react = set(self.units.loc[self.units["reacts"], "unit"]) | set(
            self.carried.loc[self.carried["reacts"], "unit"]
        )
        return {
            "notice": NOTICE,
            "caution": CAUTION,
            "layer": self.layer,
            "exact": self.exact,
            "n_films": self.n_films,
            "n_patients": self.n_patients,
            "patients_known": self.patients_known,
            "n_units": self.n_units,
            "level": self.level,
            "attributes": [
                {
                    "label": a.label,
                    "name": a.name,
                    "kind": a.kind,
                    "against": a.against,
                    "step": a.step,
                    "between": a.between,
                    **counts,
                }
                for a, counts in zip(self.attributes, self.counts, strict=True)
            ],
            "sentences": self.sentences,
            "units": plain_rows(self.units[self.units["unit"].isin(react)]),
            "carried": plain_rows(self.carried[self.carried["unit"].isin(react)]),
            "gaps": plain_rows(self.gaps),
            "confounders": plain_rows(self.confounders),
            "notes": list(self.notes),
        }


def widest(gaps: pd.DataFrame, gap: str, low: str, high: str) -> dict[str, Any] | None:
    """Return the widest of some gaps: of each class that among films without the finding, over all where it has none.

    Gaps whose interval holds 0 are passed over unless all do; None where there is no gap.
    """
    labelled = set(gaps.loc[gaps["films"] == "without", "output"])
    first = (gaps["films"] == "without") | ((gaps["films"] == "all") & ~gaps["output"].isin(labelled))
    chosen = gaps[first & gaps[gap].notna()]
    clear = chosen[(chosen[low] > 0) | (chosen[high] < 0)]
    chosen = clear if len(clear) else chosen
    if not len(chosen):
        return None
    row = chosen.iloc[int(chosen[gap].abs().to_numpy().argmax())]
    return {str(key): value for key, value in row.items()}


def plain_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a table as JSON holds it, null for NaN."""
    rows = json.loads(table.to_json(orient="records", double_precision=15))
    return [{key: None if isinstance(v, float) and math.isinf(v) else v for key, v in row.items()} for row in rows]
