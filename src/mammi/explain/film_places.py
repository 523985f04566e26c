"""Where the units of an explanation are on the film: maps on a grid over it, whatever the layer."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor

from mammi.capture import LayerPlan
from mammi.errors import CaptureError
from mammi.explain.account import Account, run_plan
from mammi.explain.receptive import cell_offset
from mammi.explain.where import UnitMaps, cell_maps, lay_on_film, with_maps
from mammi.targets import list_layers
from mammi.targets.preprocessing import Preprocessing

__all__ = ["film_maps", "peak"]

#: Longest side of the grid that maps are laid on: what a page shows, whatever the size of the film.
GRID = 400


def film_maps(
    account: Account, view: Tensor, shape: tuple[int, int], units: Sequence[int]
) -> tuple[UnitMaps | None, str]:
    """Lay the maps of some units on a grid over a film.

    Units without a map of their own (a vector) are followed back to the deepest layer with maps, of the run or else of
    the network, by gradient times activation (`cell_maps`).

    Args:
        account: the network and the layer.
        view: the network's view of the film, float32 ``(channels, height, width)``.
        shape: height and width of the film.
        units: which units.

    Returns:
        The maps, in the film's proportions, no side longer than 400; or None and in words why there is none.
    """
    preprocessing = account.target.preprocessing
    if not isinstance(preprocessing, Preprocessing):
        # Its own words would name the file that the function came from.
        return None, "Where the units are is not told: the network's own preprocess() hides where a film comes to lie."
    scale = min(1.0, GRID / max(shape))
    size = (max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale)))
    for at in _places(account):
        try:
            cells = cell_maps(account.target, account.plan, view[None], units, at=at)[0]
        except CaptureError:
            continue
        if at is not None and not cells.any():
            continue  # the class token reads no patch of this layer: an earlier one it does
        offset = cell_offset(account.target, with_maps(account.target, account.plan if at is None else at))
        maps = lay_on_film(cells, preprocessing, shape, size, offset=offset)
        kind = "map" if at is None else f"gradient x activation at {at.name}"
        return UnitMaps(maps, tuple(units), account.layer, kind), ""
    return None, "Where the units are is not told: no layer with maps leads to them."


def _places(account: Account) -> Iterator[LayerPlan | None]:
    """Yield where to look for maps, best first: the layer itself (None), layers of the run, others; the deepest first."""
    run, target = account.run, account.target
    if account.plan.layout != "vector":
        yield None
    order = {name: place for place, (name, _) in enumerate(target.model.named_modules())}
    recorded = [run_plan(run, target, name) for name in run.layers]
    yield from sorted((plan for plan in recorded if plan.layout != "vector"), key=lambda plan: -order[plan.module])
    for layer in reversed(list_layers(target)):
        if layer.layout in ("map", "map_last") and layer.n_calls == 1:
            yield LayerPlan(layer.name, layer.layout, layer.pooling, layer.n_units)


def peak(maps: UnitMaps | None, unit: int) -> tuple[float, float] | None:
    """Return where a unit's map is highest, as shares of the film's height and width; None for a flat map or none."""
    if maps is None:
        return None
    values = maps.maps[maps.units.index(unit)]
    if not np.isfinite(values).any() or np.nanmax(values) <= np.nanmin(values):
        return None
    row, column = np.unravel_index(int(np.nanargmax(values)), values.shape)
    return float((row + 0.5) / values.shape[0]), float((column + 0.5) / values.shape[1])
