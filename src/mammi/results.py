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
from mammi.methods import LayerMatch

__all__ = ["LayerTables", "annotation_table", "film_table", "layer_tables", "search_words"]


@dataclass(frozen=True)
class LayerTables:
    """The tables of one layer, as `mammi.store.Run` describes them."""

    units: pd.DataFrame
    examples: pd.DataFrame
    annotations: pd.DataFrame


def _reasons(
    bounds: NDArray[np.float32], n_examples: NDArray[np.int64], n_kept: NDArray[np.int64], said: Sequence[str]
) -> NDArray[np.object_]:
    """Say of every unit why it has no concept; ``""`` if it has one."""
    low, high = bounds
    reasons = np.array(said or [""] * len(n_kept), dtype=object)
    unsaid = reasons == ""
    reasons[unsaid] = "no concept fits its films better than the bare template"
    reasons[unsaid & (n_examples == 0)] = "no film stands out for it"
    reasons[low == high] = "it never varies over these films"
    reasons[~np.isfinite(low) | ~np.isfinite(high)] = "its activation is NaN or infinite on some film"
    reasons[n_kept > 0] = ""
    return reasons


def layer_tables(
    layer: str,
    bounds: NDArray[np.float32],
    selection: Selection,
    match: LayerMatch,
    terms: Sequence[str],
    outputs: Sequence[str] = (),
) -> LayerTables:
    """Tabulate one layer.

    Args:
        layer: its name.
        bounds: the least and the greatest activation of its units, as recorded, shape ``(2, n_units)``.
        selection: the examples of its units.
        match: scores and kept concepts of its units.
        terms: the concepts, in the order of their indices.
        outputs: the network's own names of the units, if this is its output layer.
    """
    counts, n_kept = selection.counts.numpy(), match.n_kept.numpy()
    n_units = len(counts)
    annotations = annotation_table(layer, match, terms)
    first = annotations["kept"].to_numpy() & (annotations["rank"].to_numpy() == 1)
    named = n_kept > 0
    names, scores = np.full(n_units, "no concept", dtype=object), np.full(n_units, np.nan)
    names[named], scores[named] = annotations["concept"].to_numpy()[first], annotations["score"].to_numpy()[first]
    for unit, formula in enumerate(match.formulas or ()):
        if formula and named[unit]:
            names[unit] = _in_words(formula, terms)
    units = pd.DataFrame(
        {
            "layer": [layer] * n_units,
            "unit": np.arange(n_units),
            "output": list(outputs) if outputs else [""] * n_units,
            "name": names,
            "score": scores,
            "n_concepts": n_kept,
            "n_examples": counts,
            "low": bounds[0],
            "high": bounds[1],
            "reason": _reasons(bounds, counts, n_kept, match.verdict.reasons if match.verdict else ()),
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
    return LayerTables(units, examples, annotations)


def annotation_table(layer: str, match: LayerMatch, terms: Sequence[str]) -> pd.DataFrame:
    """Tabulate what a method says of the concepts of a layer, as `mammi.store.Run.annotations` has it.

    Args:
        layer: its name.
        match: scores and kept concepts of its units.
        terms: the concepts, in the order of their indices.
    """
    unit_column = np.repeat(np.arange(match.n_units), match.offsets.diff().numpy())
    rank_column = _places(unit_column)
    is_kept = rank_column <= match.n_kept.numpy()[unit_column]
    return pd.DataFrame(
        {
            "layer": [layer] * len(unit_column),
            "unit": unit_column,
            "rank": rank_column,
            "concept": np.array(terms, dtype=object)[match.ranked.numpy()],
            "score": match.ranked_scores.numpy(),
            "kept": is_kept,
            **_certainty(match, unit_column, is_kept),
        }
    )


def _in_words(formula: str, terms: Sequence[str]) -> str:
    """Return a formula with its concepts by name."""
    return re.sub(r"\{(\d+)\}", lambda place: str(terms[int(place[1])]), formula)


def _certainty(match: LayerMatch, units: NDArray[np.int64], is_kept: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
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
