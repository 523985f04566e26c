"""What became of the names of matched units."""

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mammi.store import Run

__all__ = ["NAME_COLUMNS", "Named", "concept_table", "name_values", "named_units", "pair_table"]

#: What `name_values` says of a unit.
NAME_COLUMNS = ("same_name", "any_shared", "jaccard", "coverage_a", "coverage_b", "effect_a", "effect_b")


@dataclass(frozen=True)
class Named:
    """A unit's name, the reason where it has none, its kept concepts, the effect of the first one (NaN if unstated)."""

    name: str
    reason: str
    kept: frozenset[str]
    effect: float


def named_units(run: Run, layer: str) -> list[Named]:
    """Return what a run says of every unit of a layer, by index."""
    units = run.units[run.units["layer"] == layer].sort_values("unit")
    rows = run.annotations
    rows = rows[(rows["layer"] == layer) & rows["kept"].to_numpy(dtype=bool)].sort_values(["unit", "rank"])
    # Runs of older versions state no effect.
    effects = rows["effect"].to_numpy(dtype=float) if "effect" in rows else np.full(len(rows), np.nan)
    kept: dict[int, list[str]] = {}
    first: dict[int, float] = {}
    for unit, concept, effect in zip(rows["unit"].tolist(), rows["concept"].tolist(), effects.tolist(), strict=True):
        kept.setdefault(unit, []).append(concept)
        first.setdefault(unit, effect)
    return [
        Named(name, reason, frozenset(kept.get(unit, ())), first.get(unit, math.nan))
        for unit, name, reason in zip(
            units["unit"].tolist(), units["name"].tolist(), units["reason"].tolist(), strict=True
        )
    ]


def name_values(a: list[Named], b: list[Named], pairs: list[tuple[int, int]]) -> Tensor:
    """Return one row a unit, the two of a matched pair in one row, and the columns `NAME_COLUMNS`.

    Args:
        a: the units of one layer.
        b: those of the other.
        pairs: matched units, each unit at most once.

    Returns:
        float64, shape ``(n_units_a + n_units_b - n_pairs, 7)``; NaN where a column says nothing of a unit: the first
        three where neither of a pair has a concept, the effects where one of the two is unknown.
    """
    nan = math.nan
    rows = []
    for i, j in pairs:
        x, y = a[i], b[j]
        both, either = x.kept & y.kept, x.kept | y.kept
        same_name = bool(x.kept) and bool(y.kept) and x.name == y.name
        names = [float(same_name), float(bool(both)), len(both) / len(either)] if either else [nan] * 3
        effects = [nan, nan] if math.isnan(x.effect + y.effect) else [x.effect, y.effect]
        rows.append([*names, float(bool(x.kept)), float(bool(y.kept)), *effects])
    paired_a, paired_b = {i for i, _ in pairs}, {j for _, j in pairs}
    rows += [[nan, nan, nan, float(bool(x.kept)), nan, nan, nan] for i, x in enumerate(a) if i not in paired_a]
    rows += [[nan, nan, nan, nan, float(bool(y.kept)), nan, nan] for j, y in enumerate(b) if j not in paired_b]
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, len(NAME_COLUMNS))


def _change(x: Named, y: Named) -> str:
    if x.kept and y.kept:
        return "" if x.name == y.name else "renamed"
    return "lost its name" if x.kept else "got a name" if y.kept else ""


def pair_table(a: list[Named], b: list[Named], pairs: list[tuple[int, int]], r: list[float]) -> pd.DataFrame:
    """Return one row a matched pair, as `LayerComparison.pairs` describes it."""
    rows = [
        (i, j, value, a[i].name, b[j].name, _change(a[i], b[j]), a[i].reason, b[j].reason)
        for (i, j), value in zip(pairs, r, strict=True)
    ]
    columns = ["unit_a", "unit_b", "correlation", "name_a", "name_b", "change", "reason_a", "reason_b"]
    return pd.DataFrame(rows, columns=columns)


def concept_table(a: list[Named], b: list[Named]) -> pd.DataFrame:
    """Return the number of units of each layer that keep a concept, the largest changes first, then by name."""
    before, after = (Counter(concept for unit in side for concept in unit.kept) for side in (a, b))
    rows = [
        (concept, before[concept], after[concept], _fate(before[concept], after[concept]))
        for concept in sorted(before.keys() | after.keys(), key=lambda c: (-abs(after[c] - before[c]), c))
    ]
    return pd.DataFrame(rows, columns=["concept", "before", "after", "change"])


def _fate(before: int, after: int) -> str:
    return "gained" if not before else "lost" if not after else ""
