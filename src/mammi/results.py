"""From what a method found to the tables of a run folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mammi.data import identical_pixels
from mammi.functional.selection import Selection
from mammi.methods import Match

__all__ = ["RANKING", "LayerTables", "film_table", "layer_tables", "search_words"]

#: Concepts listed per unit at least, whether kept or not: a reader wants to see what came next.
RANKING = 10


@dataclass(frozen=True)
class LayerTables:
    """The tables of one layer, as `mammi.store.Run` describes them."""

    units: pd.DataFrame
    examples: pd.DataFrame
    annotations: pd.DataFrame


def _reason(low: float, high: float, broken: bool, n_examples: int, n_kept: int) -> str:
    """Say why a unit has no concept; ``""`` if it has one."""
    if n_kept:
        return ""
    if broken:
        return "its activation is NaN or infinite on some film"
    if low == high:
        return "it never varies over these films"
    if not n_examples:
        return "no film stands out for it"
    return "no concept fits its films better than the bare template"


def layer_tables(
    layer: str,
    activations: NDArray[np.float32],
    selection: Selection,
    match: Match,
    terms: Sequence[str],
    outputs: Sequence[str] = (),
) -> LayerTables:
    """Tabulate one layer.

    Args:
        layer: its name.
        activations: shape ``(n_units, n_films)``, as recorded.
        selection: the examples of its units.
        match: scores and kept concepts of its units.
        terms: the concepts, in the order of the scores.
        outputs: the network's own names of the units, if this is its output layer.
    """
    counts = selection.counts.numpy()
    scores = match.scores.numpy()
    low, high = activations.min(axis=1), activations.max(axis=1)
    ranked_units: list[int] = []
    ranked: list[NDArray[np.int64]] = []
    for unit, kept in enumerate(match.concepts):
        if not counts[unit]:
            continue
        best = np.argsort(-scores[unit], kind="stable")[: max(RANKING, len(kept))]
        ranked_units += [unit] * len(best)
        # Kept concepts come first in the method's own order; the runners-up follow by score.
        ranked.append(np.concatenate([kept.numpy(), best[~np.isin(best, kept.numpy())]])[: len(best)])
    unit_column = np.array(ranked_units, dtype=np.int64)
    concept_column = np.concatenate(ranked) if ranked else np.empty(0, dtype=np.int64)
    n_kept = np.array([len(kept) for kept in match.concepts], dtype=np.int64)
    rank_column = _places(unit_column)
    names = np.array(terms, dtype=object)
    has = n_kept > 0
    first = np.array([int(kept[0]) if len(kept) else 0 for kept in match.concepts])
    n_units = len(counts)
    units = pd.DataFrame(
        {
            "layer": [layer] * n_units,
            "unit": np.arange(n_units),
            "output": list(outputs) if outputs else [""] * n_units,
            "name": np.where(has, names[first], "no concept"),
            "score": np.where(has, scores[np.arange(n_units), first], np.nan),
            "n_concepts": n_kept,
            "n_examples": counts,
            "low": low,
            "high": high,
            "reason": [
                _reason(
                    float(low[u]), float(high[u]), not np.isfinite(low[u] + high[u]), int(counts[u]), int(n_kept[u])
                )
                for u in range(n_units)
            ],
        }
    )
    examples = pd.DataFrame(
        {
            "layer": [layer] * len(selection.images),
            "unit": selection.units.numpy(),
            "rank": _places(selection.units.numpy()),
            "film": selection.images.numpy(),
            "activation": selection.activations.numpy().astype(np.float32),
        }
    )
    annotations = pd.DataFrame(
        {
            "layer": [layer] * len(unit_column),
            "unit": unit_column,
            "rank": rank_column,
            "concept": names[concept_column],
            "score": scores[unit_column, concept_column],
            "kept": rank_column <= n_kept[unit_column],
        }
    )
    return LayerTables(units, examples, annotations)


def _places(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number the rows of each run of equal values from 1."""
    starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]]) if len(groups) else np.empty(0, dtype=np.int64)
    lengths = np.diff(np.r_[starts, len(groups)])
    return np.arange(len(groups)) - np.repeat(starts, lengths) + 1


def film_table(
    kept: NDArray[np.int64], records: Mapping[int, dict[str, Any]], ids: Sequence[str], patients: Sequence[str]
) -> pd.DataFrame:
    """Tabulate the films that were read: one row each, in order.

    Args:
        kept: their rows in the probing set, rising.
        records: what was noted of each block while recording, by block.
        ids: salted ids of all films of the probing set.
        patients: salted ids of their patients.
    """
    warnings = {int(row): text for record in records.values() for row, text in record["warnings"].items()}
    pixels = [value for block in sorted(records) for value in records[block]["pixels"]]
    first_of: dict[int, int] = {}
    for group in identical_pixels([pixels[row] for row in kept]):
        first_of |= dict.fromkeys(group[1:], group[0])
    return pd.DataFrame(
        {
            "film": np.arange(len(kept)),
            "id": [ids[row] for row in kept],
            "patient": [patients[row] for row in kept],
            "warnings": ["; ".join(warnings.get(int(row), [])) for row in kept],
            "same_pixels_as": pd.array([first_of.get(film) for film in range(len(kept))], dtype="Int64"),
            "row": kept,
        }
    )


def search_words(annotations: pd.DataFrame) -> pd.DataFrame:
    """Return one row per named unit: layer, unit and its kept concepts as one text to search."""
    kept = annotations[annotations["kept"].to_numpy(dtype=bool)]
    return kept.groupby(["layer", "unit"], sort=False)["concept"].agg("; ".join).rename("words").reset_index()
