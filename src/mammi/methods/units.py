"""How a method meets the units of a layer: dead units never reach it, and many units come in tiles."""

from collections.abc import Callable
from dataclasses import fields, replace

import torch
from torch import Tensor

from mammi.functional.dissection import Areas
from mammi.functional.selection import Selection
from mammi.methods.base import Evidence, Match, Method, Verdict

__all__ = ["match_units", "select_units"]

#: Units that are selected or matched together where a method looks at one unit at a time: bounds memory, not results.
TILE = 1024


def _no_progress(done: int, total: int) -> None:
    """Report nothing."""


def select_units(
    recipe: Method,
    columns: Callable[[slice], Tensor],
    n_units: int,
    progress: Callable[[int, int], None] = _no_progress,
) -> Selection:
    """Choose the examples of every unit of a layer: tile by tile, or at once where the method looks at all of it.

    Args:
        recipe: the method.
        columns: gives the activations ``(n_films, n_units_of_the_slice)`` of a slice of units.
        n_units: number of units.
        progress: told of every tile.

    Returns:
        The examples. A unit whose activation never varies, or is NaN or infinite on some film, has none: one broken
        unit costs no other.
    """
    parts = []
    size = max(1, n_units) if recipe.whole_layer else TILE
    for start in range(0, n_units, size):
        stop = min(start + size, n_units)
        tile = columns(slice(start, stop)).clone()
        tile[:, ~torch.isfinite(tile).all(dim=0)] = 0
        parts.append(recipe.select(tile))
        progress(stop, n_units)
    return Selection.concatenate(parts)


def match_units(
    recipe: Method, evidence: Evidence, selection: Selection, progress: Callable[[int, int], None] = _no_progress
) -> Match:
    """Match every unit of a layer that has an example; the others get NaN scores and no concept.

    Args:
        recipe: the method.
        evidence: the whole layer.
        selection: its examples; indices are rows of ``evidence.films``.
        progress: told of every tile.
    """
    live = selection.counts.nonzero().flatten()
    size = max(1, len(live)) if recipe.whole_layer else TILE
    scores = torch.full((selection.n_units, len(evidence.concepts)), torch.nan, dtype=torch.float64)
    concepts = [torch.empty(0, dtype=torch.int64)] * selection.n_units
    formulas: list[str] | None = None
    verdict: Verdict | None = None
    for start in range(0, len(live), size):
        units = live[start : start + size]
        found = recipe.match(_only(evidence, units), selection.only(units))
        scores[units] = found.scores
        for place, unit in enumerate(units.tolist()):
            concepts[unit] = found.concepts[place]
        if found.formulas is not None:
            formulas = formulas or [""] * selection.n_units
            for place, unit in enumerate(units.tolist()):
                formulas[unit] = found.formulas[place]
        if found.verdict is not None:
            verdict = verdict or _silent(selection.n_units)
            _fill(verdict, found.verdict, units.tolist())
        progress(min(start + size, len(live)), len(live))
    return Match(scores, concepts, formulas, verdict)


def _only(evidence: Evidence, units: Tensor) -> Evidence:
    """Return the evidence with some of its units."""
    areas = evidence.areas
    if areas is not None:
        areas = Areas(areas.both[units], areas.units[units], areas.concepts)
    activations = evidence.activations
    return replace(evidence, activations=activations[:, units] if len(activations) else activations, areas=areas)


def _silent(n_units: int) -> Verdict:
    """Return a verdict that says nothing of any unit."""
    numbers = [torch.empty(0, dtype=torch.float64)] * n_units
    senses = [torch.empty(0, dtype=torch.int64)] * n_units
    return Verdict(list(numbers), list(numbers), list(numbers), senses, list(numbers), [""] * n_units)


def _fill(verdict: Verdict, part: Verdict, units: list[int]) -> None:
    for place, unit in enumerate(units):
        for field in fields(Verdict):
            getattr(verdict, field.name)[unit] = getattr(part, field.name)[place]
