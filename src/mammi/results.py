"""From what a method found to the tables of a run folder."""

import re
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


def _reason(low: float, high: float, broken: bool, n_examples: int, n_kept: int, said: str) -> str:
    """Say why a unit has no concept; ``""`` if it has one."""
    if n_kept:
        return ""
    if broken:
        return "its activation is NaN or infinite on some film"
    if low == high:
        return "it never varies over these films"
    if said:
        return said
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
        length = max(RANKING, len(kept))
        best = np.argsort(-scores[unit], kind="stable")[:length]
        best = best[~np.isnan(scores[unit, best])]  # what has no score has no rank, unless it is kept
        # Kept concepts come first in the method's own order; the runners-up follow by score.
        row = np.concatenate([kept.numpy(), best[~np.isin(best, kept.numpy())]])[:length]
        ranked_units += [unit] * len(row)
        ranked.append(row)
    unit_column = np.array(ranked_units, dtype=np.int64)
    concept_column = np.concatenate(ranked) if ranked else np.empty(0, dtype=np.int64)
    n_kept = np.array([len(kept) for kept in match.concepts], dtype=np.int64)
    rank_column = _places(unit_column)
    is_kept = rank_column <= n_kept[unit_column]
    names = np.array(terms, dtype=object)
    has = n_kept > 0
    first = np.array([int(kept[0]) if len(kept) else 0 for kept in match.concepts])
    n_units = len(counts)
    units = pd.DataFrame(
        {
            "layer": [layer] * n_units,
            "unit": np.arange(n_units),
            "output": list(outputs) if outputs else [""] * n_units,
            "name": [_name(match, unit, terms) for unit in range(n_units)],
            "score": np.where(has, scores[np.arange(n_units), first], np.nan),
            "n_concepts": n_kept,
            "n_examples": counts,
            "low": low,
            "high": high,
            "reason": [
                _reason(
                    float(low[u]),
                    float(high[u]),
                    not np.isfinite(low[u] + high[u]),
                    int(counts[u]),
                    int(n_kept[u]),
                    match.verdict.reasons[u] if match.verdict else "",
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
            "kept": is_kept,
            **_certainty(match, unit_column, is_kept),
        }
    )
    return LayerTables(units, examples, annotations)


def _name(match: Match, unit: int, terms: Sequence[str]) -> str:
    """Return the formula of a unit in words, else its best concept, else "no concept"."""
    kept = match.concepts[unit].tolist()
    formula = match.formulas[unit] if match.formulas else ""
    if not kept:
        return "no concept"
    if not formula:
        return str(terms[kept[0]])
    return re.sub(r"\{(\d+)\}", lambda place: str(terms[int(place[1])]), formula)


def _certainty(match: Match, units: NDArray[np.int64], is_kept: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    """Return the columns that say how sure a method is; NaN (sense 0) where it does not say."""
    columns = {name: np.full(len(units), np.nan) for name in ("effect", "q_value", "stability", "purity")}
    sense = np.zeros(len(units), dtype=np.int64)
    if match.verdict is not None and is_kept.any():
        wanted = np.unique(units[is_kept])
        for name, column in columns.items():
            column[is_kept] = np.concatenate([getattr(match.verdict, name)[unit].numpy() for unit in wanted])
        sense[is_kept] = np.concatenate([match.verdict.sense[unit].numpy() for unit in wanted])
    return {**columns, "sense": sense}


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
