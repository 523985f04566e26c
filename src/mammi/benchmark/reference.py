"""The reference with masks: where the units of the small network look on drawn films, whose findings are outlined."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from mammi.capture import Recorder, plan_layers, plan_maps
from mammi.functional.dissection import SIDE, Areas, overlap, strongest_pixels, tail_size, tail_threshold
from mammi.phantoms import OUTPUTS, PhantomFilm
from mammi.targets import create_target
from mammi.types import Film

__all__ = ["MASKED_LAYERS", "drawn_areas"]

#: Real layers that have maps.
MASKED_LAYERS = ("layer3", "layer2")


def drawn_areas(films: Iterator[PhantomFilm]) -> dict[str, Areas]:
    """Count where the units of the layers with maps are strong and where labels are drawn.

    Args:
        films: drawn films with their masks; all of their maps are held in memory.

    Returns:
        For each layer its counts; columns are ``mammi.phantoms.OUTPUTS``.
    """
    target = create_target("phantom")
    plans = plan_maps(target, plan_layers(target, MASKED_LAYERS))
    maps: dict[str, list[Tensor]] = {layer: [] for layer in MASKED_LAYERS}
    masks = []
    with Recorder(target.model, plans) as recorder:
        for film in films:
            for layer, found in recorder.record(target.view(Film(film.pixels))[None]).items():
                maps[layer].append(found)
            masks.append(_grid(film))
    drawn = torch.stack(masks)
    return {layer: _areas(torch.cat(found), drawn) for layer, found in maps.items()}


def _grid(film: PhantomFilm) -> Tensor:
    """Return where each label is drawn, bool ``(n_labels, SIDE, SIDE)``: a cell shows what its centre shows."""
    side = film.pixels.shape[0]
    grid = np.zeros((len(OUTPUTS), side, side), dtype=np.float32)
    for label, mask in film.masks.items():
        grid[OUTPUTS.index(label)] = mask
    return interpolate(torch.from_numpy(grid)[None], size=(SIDE, SIDE), mode="nearest-exact")[0] > 0


def _areas(maps: Tensor, masks: Tensor) -> Areas:
    n_pixels = len(maps) * SIDE * SIDE
    thresholds = tail_threshold(strongest_pixels(maps, (SIDE, SIDE), tail_size(n_pixels)), n_pixels)
    return overlap(maps, masks, thresholds)


def for_concepts(areas: Areas, units: Sequence[int], columns: Sequence[int], n_concepts: int) -> Areas:
    """Return the counts of some units, label ``i`` as concept ``columns[i]`` of a concept set."""
    both = torch.zeros((len(units), n_concepts), dtype=areas.both.dtype)
    drawn = torch.zeros(n_concepts, dtype=areas.concepts.dtype)
    both[:, list(columns)] = areas.both[list(units)]
    drawn[list(columns)] = areas.concepts
    return Areas(both, areas.units[list(units)], drawn)
