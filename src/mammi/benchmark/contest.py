"""Every method names every unit; what it says first, what it keeps, what it names that means nothing."""

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mammi.arrays import ArrayAnnotations, annotate_arrays
from mammi.benchmark.material import Material
from mammi.benchmark.planting import Planted, plant
from mammi.functional.dissection import Areas
from mammi.methods import METHODS, Method, create_method
from mammi.types import Progress, no_progress

__all__ = ["Contestant", "contestants", "first_names", "judge", "run_contest", "says_absent"]

#: Methods that come in several published kinds.
_KINDS: dict[str, list[dict[str, Any]]] = {
    "clip-dissect": [
        {"similarity": name} for name in ("soft_wpmi", "wpmi", "rank_reorder", "cos_similarity", "cos_similarity_cubed")
    ]
}


@dataclass(frozen=True)
class Contestant:
    """A method with its options, under a title."""

    title: str
    method: str
    options: dict[str, Any] = field(default_factory=dict)


def contestants() -> list[Contestant]:
    """Return every method that can name without labels, ours first, the others in order of registration.

    Dissection is held only where masks are: on the real layers that have maps.
    """
    found = []
    for name in sorted(METHODS.names(), key=lambda name: name != "calibrated"):
        for options in _KINDS.get(name, [{}]):
            if create_method(name, **options).needs != "labels":
                kind = "".join(f" ({value})" for value in options.values())
                found.append(Contestant(f"{name}{kind}", name, options))
    return found


def first_names(found: ArrayAnnotations, unit: int, n: int) -> list[int]:
    """Return the first ``n`` concepts of a unit: those kept, best first, then the others by score."""
    kept: list[int] = found.concepts[unit].tolist()
    scores = found.scores[unit]
    # What has no score is no candidate, and n beyond those kept are enough.
    order = np.argsort(-np.where(np.isnan(scores), -np.inf, scores), kind="stable")[: n + len(kept)].tolist()
    return (kept + [m for m in order if m not in kept and not np.isnan(scores[m])])[:n]


def says_absent(found: ArrayAnnotations, unit: int, concept: int) -> bool:
    """Tell whether a unit's formula takes a concept as absent: "NOT {3}", or a negative weight."""
    formula = found.formulas[unit] if found.formulas else ""
    return re.search(rf"(NOT |- ?[\d.]+ ?)\{{{concept}\}}", formula) is not None


def judge(found: ArrayAnnotations, units: Sequence[Planted]) -> pd.DataFrame:
    """Judge one method on some units.

    Returns:
        One row a unit: ``kind``; whether the first concept is right (``hit1``), or one of the first five (``hit5``);
        whether the unit was named at all (``named``), and its first name is right (``right``); and how sure the method is
        of a name it gives (``confidence``). A unit that means nothing has no hits; its name is false if it has one.
    """
    rows = []
    for place, unit in enumerate(units):
        if not unit.kind:
            continue
        first = first_names(found, place, 5)

        def is_right(concept: int, place: int = place, unit: Planted = unit) -> bool:
            return concept in unit.truths and says_absent(found, place, concept) == unit.absent

        named = len(found.concepts[place]) > 0
        hits = [is_right(concept) for concept in first]
        rows.append(
            {
                "kind": unit.kind,
                "hit1": float(any(hits[:1])) if unit.truths else np.nan,
                "hit5": float(any(hits)) if unit.truths else np.nan,
                "named": float(named),
                "right": float(named and hits[0]) if unit.truths else np.nan,
                "confidence": _confidence(found, place, first[0]) if named else np.nan,
            }
        )
    columns = {"kind": str, "hit1": float, "hit5": float, "named": float, "right": float, "confidence": float}
    # A layer of which nothing is known gives no row; its columns must not make those of others objects.
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)


def _confidence(found: ArrayAnnotations, unit: int, first: int) -> float:
    """Return how sure a method is of a unit's first name: the size of its effect if it states one, else its score."""
    if found.verdict is not None and np.isfinite(float(found.verdict.effect[unit][0])):
        return abs(float(found.verdict.effect[unit][0]))
    return float(found.scores[unit, first])


def _layers(material: Material, seed: int) -> Iterable[tuple[list[Planted], NDArray[np.float64]]]:
    """Yield what is annotated as one layer each time: the planted units, every real layer, every untrained layer."""
    planted = plant(material.labels, material.patients, seed)
    yield planted, np.stack([unit.activation for unit in planted], axis=1)
    for units in material.layers.values():
        if units:
            yield units, np.stack([unit.activation for unit in units], axis=1)
    for name, activations in material.untrained_too.items():
        live = activations[:, activations.max(axis=0) > activations.min(axis=0)]
        units = [Planted(f"untrained {name}", column, frozenset()) for column in live.T]
        if units:
            yield units, live


def _as_needed(
    layers: list[tuple[list[Planted], NDArray[np.float64]]], material: Material, recipe: Method
) -> Iterable[tuple[list[Planted], NDArray[np.float64], Areas | None]]:
    """Yield what a method is asked in one go: layer by layer if it looks at whole layers, else all units together."""
    if recipe.needs == "areas":
        for units, activations in layers:
            areas = next((material.areas[unit.kind] for unit in units if unit.kind in material.areas), None)
            if areas is not None:
                yield units, activations, areas
    elif recipe.whole_layer:
        yield from ((*layer, None) for layer in layers)
    else:
        everything = [unit for units, _ in layers for unit in units]
        yield everything, np.concatenate([activations for _, activations in layers], axis=1), None


def run_contest(
    materials: Iterable[tuple[int, Material]],
    methods: Sequence[Contestant] | None = None,
    progress: Progress = no_progress,
) -> pd.DataFrame:
    """Let every method name every unit of every material.

    Args:
        materials: pairs of a seed and a probing set; the seed plants the units.
        methods: who takes part; all by default.
        progress: told after each method.

    Returns:
        One row per material, method and unit: ``seed, quality, zero_shot, method``, the columns of `judge`, and the
        ``seconds`` per unit that the method took.
    """
    tables = []
    methods = contestants() if methods is None else list(methods)
    for seed, material in materials:
        zero_shot = material.zero_shot
        layers = list(_layers(material, seed))
        control = np.concatenate(list(material.untrained.values()), axis=1) if material.untrained else None
        for done, contestant in enumerate(methods, start=1):
            recipe = create_method(contestant.method, **contestant.options)
            for units, activations, areas in _as_needed(layers, material, recipe):
                began = time.perf_counter()
                found = annotate_arrays(
                    activations,
                    material.films,
                    material.concepts,
                    material.template,
                    patients=material.patients,
                    areas=areas,
                    control=control,
                    method=contestant.method,
                    **contestant.options,
                )
                seconds = (time.perf_counter() - began) / len(units)
                table = judge(found, units).assign(
                    seed=seed,
                    quality=material.quality,
                    zero_shot=zero_shot,
                    method=contestant.title,
                    seconds=seconds,
                )
                if len(table):  # an empty one has no types, and would spoil those of the others
                    tables.append(table)
            progress(f"naming units, seed {seed}, {material.quality}", done, len(methods))
    return pd.concat(tables, ignore_index=True)
