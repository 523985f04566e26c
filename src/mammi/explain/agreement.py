"""Whether the units of a run are strong where the concepts they are named with were marked on films."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from mammi.capture import plan_layers, plan_maps
from mammi.data import MaskSet, normalise_label
from mammi.data.table import read_csv
from mammi.engine import declared_preprocessing
from mammi.engine.prefetch import decoded_batches
from mammi.errors import InputError
from mammi.explain.account import run_plan
from mammi.explain.models import run_films
from mammi.explain.receptive import cell_offset
from mammi.explain.where import cell_maps, lay_on_film, with_maps
from mammi.functional.chance import patient_resamples
from mammi.functional.pointing import pointing_hit, side_agreement, strongest_iou
from mammi.store.files import read_json
from mammi.store.run import Run
from mammi.targets import Target
from mammi.types import Progress, no_progress

__all__ = ["COLUMNS", "unit_agreement"]

#: Columns of the table.
COLUMNS = (
    *("layer", "unit", "concept", "n", "n_patients"),
    *("pointing", "pointing_low", "pointing_high", "iou", "side", "centre"),
)
#: Cells along each side of the grid over a film on which maps and marks meet: 3 of them are the pointing game's tolerance.
SIDE = 112
#: Films per forward pass.
BATCH = 16
#: Draws of patients for an interval.
RESAMPLES = 500


def unit_agreement(
    run: Run,
    target: Target,
    masks: MaskSet,
    layer: str,
    *,
    at: str | None = None,
    every: bool = False,
    progress: Progress = no_progress,
) -> pd.DataFrame:
    """Compare where the units of a layer are strong with where their concepts are, film by film.

    Args:
        run: a complete run whose films can be found.
        target: its network, from `load_target`.
        masks: where concepts are on some of its films, under the ids that the films had when the run was made.
        layer: one of its layers.
        at: an earlier layer with maps, for a layer that has none; see `cell_maps`.
        every: compare every unit with every concept of ``masks``. By default a unit is compared with the concepts it is
            named with: those of ``masks`` whose words stand, side by side, in a kept concept or one of its synonyms (a
            unit named "small left effusion" is compared with "effusion"); not where the unit fires when the concept is
            absent.
        progress: told of every batch.

    Returns:
        One row per unit and concept, over the films on which the concept is marked:

        - ``layer``, ``unit``, ``concept``; ``n`` films, of ``n_patients`` patients;
        - ``pointing``: share of the films on which the map's maximum is on the mark (`pointing_hit`), with the 95 %
          interval over patients, ``pointing_low`` and ``pointing_high``; NaN with a single patient;
        - ``iou``: mean overlap of the mark with the strongest tenth of the map (`strongest_iou`);
        - ``side``: share of the films with a mark on one side only on which the map is on that side; NaN without one;
        - ``centre``: share of the films on which the centre of the film is on the mark: what a unit that sees nothing
          could reach.

        No row for a concept that is marked on none of the run's films.

    Raises:
        UnknownNameError: if the run holds no such layer.
        CaptureError: if the layer has no maps and ``at`` is not given.
        InputError: if none of the films with marks is in the run, or where films lie on the input is unknown.
        ImageError: if a film or a mask cannot be read.
    """
    preprocessing = declared_preprocessing(target)
    plan = run_plan(run, target, layer)
    below = plan_maps(target, plan_layers(target, [at]))[0] if at is not None else None
    if below is None:
        plan = plan_maps(target, [plan])[0]
    offset = cell_offset(target, with_maps(target, plan if below is None else below))
    films, marked = run_films(run), _marked(run, masks)
    pairs = _pairs(run, masks, layer, plan.n_units, every)
    wanted = sorted({unit for units in pairs.values() for unit in units.tolist()})
    points = (np.arange(SIDE) + 0.5) / SIDE
    middle = _middle()
    cases: dict[str, list[tuple[int, NDArray[np.float64], float]]] = {concept: [] for concept in pairs}

    def load(row: int) -> tuple[int, tuple[int, int], torch.Tensor, NDArray[np.bool_]]:
        film = films.film(row)
        shape = (film.pixels.shape[0], film.pixels.shape[1])
        return row, shape, target.view(film), masks.grid(marked[row], shape, points, points)

    done = 0
    rows = sorted(marked) if wanted else []
    for batch in decoded_batches(load, rows, BATCH):
        cells = cell_maps(target, plan, torch.stack([view for _, _, view, _ in batch]), wanted, at=below)
        for (row, shape, _, grids), own in zip(batch, cells, strict=True):
            laid = lay_on_film(own, preprocessing, shape, (SIDE, SIDE), offset=offset)
            for concept, units in pairs.items():
                truth = grids[masks.concepts.index(concept)]
                if truth.any():
                    maps = laid[np.searchsorted(wanted, units)]
                    found = [measure(maps, truth) for measure in (pointing_hit, strongest_iou, side_agreement)]
                    cases[concept].append((row, np.stack(found), float(pointing_hit(middle, truth))))
        done += len(batch)
        progress("comparing with marks", done, len(rows))
    patients = run.images["patient"].to_numpy()
    tables = [_table(layer, concept, pairs[concept], found, patients) for concept, found in cases.items() if found]
    if not tables:
        return pd.DataFrame({column: [] for column in COLUMNS})
    return pd.concat(tables, ignore_index=True).sort_values(["unit", "concept"], ignore_index=True)


def _middle() -> NDArray[np.float64]:
    """Return a map whose only maximum is next to the centre of the grid."""
    middle = np.zeros((SIDE, SIDE))
    middle[SIDE // 2, SIDE // 2] = 1
    return middle


def _table(
    layer: str,
    concept: str,
    units: NDArray[np.int64],
    cases: list[tuple[int, NDArray[np.float64], float]],
    patients: NDArray[np.object_],
) -> pd.DataFrame:
    """Sum up the films of one concept, all units at once."""
    measured = np.stack([values for _, values, _ in cases])  # (n_films, 3, n_units)
    known = ~np.isnan(measured)
    counts = known.sum(axis=0)
    means = np.where(counts > 0, np.nansum(measured, axis=0) / np.maximum(counts, 1), np.nan)
    numbers = torch.from_numpy(np.unique(patients[[row for row, _, _ in cases]], return_inverse=True)[1])
    n_patients = int(numbers.max()) + 1
    low = high = np.full(len(units), np.nan)
    if n_patients > 1:
        times = torch.stack(list(patient_resamples(numbers, RESAMPLES, seed=0))).numpy().astype(np.float64)
        hits, there = np.nan_to_num(measured[:, 0]), known[:, 0].astype(np.float64)
        weight = times @ there
        drawn = np.where(weight > 0, times @ hits / np.maximum(weight, 1), np.nan)
        some = counts[0] > 0
        low, high = low.copy(), low.copy()
        low[some], high[some] = np.nanquantile(drawn[:, some], (0.025, 0.975), axis=0)
    values = (
        *(layer, units, concept, counts[0], n_patients, means[0], low, high, means[1], means[2]),
        float(np.mean([centre for _, _, centre in cases])),
    )
    return pd.DataFrame(dict(zip(COLUMNS, values, strict=True)))


def _marked(run: Run, masks: MaskSet) -> dict[int, str]:
    """Return the films of the run that have marks: row in the run to id in ``masks``."""
    sources = read_json(run.folder / "private" / "films.json")
    ids = [str(sources[int(row)]["id"]) for row in run.images["row"]]
    known = set(masks.films)
    marked = {row: name for row, name in enumerate(ids) if name in known}
    if not marked:
        raise InputError(
            f"none of the {len(masks)} films with masks is among the {len(ids)} films of {run.folder}: the column "
            "'image' must hold the ids that they had when the run was made"
        )
    return marked


def _pairs(run: Run, masks: MaskSet, layer: str, n_units: int, every: bool) -> dict[str, NDArray[np.int64]]:
    """Return for each concept of ``masks`` the units to compare it with, rising."""
    if every:
        return {concept: np.arange(n_units) for concept in masks.concepts}
    _, columns, _ = read_csv(run.folder / "concepts.csv")
    other = columns.get("synonyms", [""] * len(columns["term"]))
    names = {term: [term, *more.split(";")] for term, more in zip(columns["term"], other, strict=True)}
    kept = run.annotations[run.annotations["kept"] & (run.annotations["layer"] == layer)]
    formulas = run.units[run.units["layer"] == layer].set_index("unit")["name"]
    found: dict[str, set[int]] = {concept: set() for concept in masks.concepts}
    for unit, term, effect in zip(kept["unit"], kept["concept"], kept["effect"], strict=True):
        if effect < 0 or f"NOT {term}" in str(formulas[unit]):
            continue
        for concept in masks.concepts:
            if _named(names.get(term, [term]), concept):
                found[concept].add(int(unit))
    return {concept: np.array(sorted(units), dtype=np.int64) for concept, units in found.items() if units}


def _named(names: Sequence[str], concept: str) -> bool:
    """Tell whether the words of a concept stand side by side in one of the names."""
    return any(f" {normalise_label(concept)} " in f" {normalise_label(name)} " for name in names)
