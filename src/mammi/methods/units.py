"""How a method meets the units of a layer: dead units never reach it, and many units come in tiles."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from mammi.functional.dissection import Areas
from mammi.functional.selection import Selection
from mammi.functional.tiles import unit_tiles
from mammi.methods.base import Evidence, LayerMethod, Match, Method
from mammi.methods.layer_match import LayerMatch

__all__ = ["match_units", "select_units"]

#: Units, and activations or scores, of a tile of a method that looks at all films: what it makes of films and concepts it
#: makes once a tile, so that a tile is as large as memory lets it be (128 MB of float32).
TILE, TILE_VALUES = 1024, 2**25


def _no_progress(done: int, total: int) -> None:
    """Report nothing."""


def select_units(
    recipe: Method,
    columns: Callable[[slice], Tensor],
    n_units: int,
    progress: Callable[[int, int], None] = _no_progress,
    *,
    bounds: Tensor | None = None,
) -> Selection:
    """Choose the examples of every unit of a layer: tile by tile, or at once where the method looks at all of it.

    Args:
        recipe: the method.
        columns: gives the activations ``(n_films, n_units_of_the_slice)`` of a slice of units.
        n_units: number of units.
        progress: told of every tile.
        bounds: ``(2, n_units)``: filled in with the least and the greatest activation of every unit, as recorded: NaN
            or infinite for a unit that is so on some film; None where nobody asks.

    Returns:
        The examples. A unit whose activation never varies, or is NaN or infinite on some film, has none: one broken
        unit costs no other.
    """
    at_once = recipe.whole_layer and not isinstance(recipe, LayerMethod)
    n_films = columns(slice(0, 0)).shape[0]
    parts = []
    for units in [slice(0, n_units)] if at_once else unit_tiles(n_units, n_films):
        tile = columns(units)
        low, high = tile.amin(dim=0), tile.amax(dim=0)
        if bounds is not None:
            bounds[:, units] = torch.stack([low, high])
        broken = ~(low.isfinite() & high.isfinite())
        if bool(broken.any()):
            tile = tile.masked_fill(broken, 0)
        parts.append(recipe.select(tile))
        progress(units.stop, n_units)
    return Selection.concatenate(parts)


def match_units(
    recipe: Method,
    evidence: Evidence,
    selection: Selection,
    progress: Callable[[int, int], None] = _no_progress,
    *,
    columns: Callable[[Tensor], Tensor] | None = None,
    scores: Tensor | None = None,
) -> LayerMatch:
    """Match every unit of a layer that has an example; the others get no score and no concept.

    Args:
        recipe: the method.
        evidence: the whole layer.
        selection: its examples; indices are rows of ``evidence.films``.
        progress: told of every tile.
        columns: gives the activations ``(n_films, n)`` of ``n`` units, int64 indices, where the layer is too large to
            stand in ``evidence``; None where it does.
        scores: float64, ``(n_units, n_concepts)``: filled in for the units with an example; None where the head of each
            unit's ranking is enough, as it is for the tables of a run.

    Returns:
        The same whatever the size of a tile, up to the rounding of a matrix product.
    """
    live = selection.counts.nonzero().flatten()
    if columns is None:
        activations = evidence.activations
        columns = (lambda units: activations[:, units]) if len(activations) else None
    matches = _matches(recipe, evidence, selection, live, columns, progress)
    return LayerMatch.of_live(_noting(matches, live, scores), live, selection.n_units)


def _noting(matches: Iterator[Match], live: Tensor, scores: Tensor | None) -> Iterator[Match]:
    """Pass the matches of the live units on, and write their scores down if there is a table for them."""
    done = 0
    for match in matches:
        if scores is not None:
            scores[live[done : done + len(match.concepts)]] = match.scores
        done += len(match.concepts)
        yield match


def _matches(
    recipe: Method,
    evidence: Evidence,
    selection: Selection,
    live: Tensor,
    columns: Callable[[Tensor], Tensor] | None,
    progress: Callable[[int, int], None],
) -> Iterator[Match]:
    """Yield what the method says of consecutive blocks of the live units."""
    nothing = evidence.concepts.new_empty((0, 0))
    if recipe.whole_layer and isinstance(recipe, LayerMethod):
        if not len(live):
            return
        done = 0
        blocks = recipe.match_layer(
            replace(evidence, activations=nothing),
            selection.only(live),
            lambda units: nothing if columns is None else columns(live[units]),
        )
        for block in blocks:
            yield block
            done += len(block.concepts)
            progress(done, len(live))
        return
    for tile in _tiles(recipe, len(live), 0 if columns is None else len(columns(live[:0])), len(evidence.concepts)):
        units = live[tile]
        own = nothing if columns is None else columns(units)
        yield recipe.match(_only(evidence, units, own), selection.only(units))
        progress(tile.stop, len(live))


def _tiles(recipe: Method, n_units: int, n_films: int, n_concepts: int) -> Iterator[slice]:
    """Yield the units that a method is shown together."""
    if recipe.needs == "examples" and not recipe.whole_layer:
        yield from unit_tiles(n_units, max(n_films, n_concepts))
        return
    size = n_units if recipe.whole_layer else max(1, min(TILE, TILE_VALUES // max(1, n_films, n_concepts)))
    for start in range(0, n_units, max(1, size)):
        yield slice(start, min(start + size, n_units))


def _only(evidence: Evidence, units: Tensor, activations: Tensor) -> Evidence:
    """Return the evidence with some of its units."""
    areas = evidence.areas
    if areas is not None:
        areas = Areas(areas.both[units], areas.units[units], areas.concepts)
    return replace(evidence, activations=activations, areas=areas)
