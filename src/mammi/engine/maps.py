"""Two passes over the films with masks: how strong is strong for a unit, then where it is strong; only counts stay."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from mammi.capture import MapPlan, Recorder
from mammi.data import MaskSet, ProbingSet
from mammi.engine.prefetch import decoded_batches
from mammi.errors import InputError
from mammi.functional.dissection import (
    SIDE,
    Areas,
    overlap,
    strongest_pixels,
    tail_size,
    tail_threshold,
)
from mammi.targets import Target
from mammi.targets.preprocessing import Preprocessing
from mammi.types import Progress

__all__ = ["declared_preprocessing", "measure_areas"]

_GRID = (SIDE, SIDE)


def declared_preprocessing(target: Target) -> Preprocessing:
    """Return the preprocessing of a target, if it tells where a film comes to lie.

    Raises:
        InputError: if it is the user's own function.
    """
    if not isinstance(target.preprocessing, Preprocessing):
        raise InputError(
            f"{target.preprocessing} does not tell where a film lies on the network's input, so neither masks nor maps can "
            "follow it: declare 'preprocessing' as numbers (size, mean, std, resize) instead"
        )
    return target.preprocessing


def measure_areas(
    target: Target,
    plans: Sequence[MapPlan],
    images: ProbingSet,
    rows: Sequence[int],
    masks: MaskSet,
    *,
    batch_size: int,
    workers: int,
    progress: Progress,
) -> dict[str, Areas]:
    """Count, for every unit of some layers, where it is strong and where the concepts of ``masks`` are.

    Every film is shown to the network twice: the first pass keeps the strongest pixels of each unit, which give its
    exact threshold (8 bytes for one pixel in a hundred: 250 kB per unit and 1,000 films), the second counts. The grid
    covers the network's input, so that masks follow the resizing, cropping and padding of each film.

    Args:
        target: the network under study.
        plans: the layers, from `plan_maps`.
        images: the probing set.
        rows: its films to look at; all are in ``masks``, and readable.
        masks: where concepts are.
        batch_size: films per forward pass.
        workers: threads that decode.
        progress: told of every batch.

    Returns:
        For each layer its counts; columns are ``masks.concepts``.

    Raises:
        InputError: if there is no film, or where films lie on the network's input is unknown.
        ImageError: if a film or a mask cannot be read.
    """
    if not len(rows):
        raise InputError("no film with masks is among the films that can be read")
    preprocessing = declared_preprocessing(target)

    def view(row: int) -> Tensor:
        return target.view(images.film(row))

    def view_and_masks(row: int) -> tuple[Tensor, Tensor]:
        film = images.film(row)
        height, width = film.pixels.shape[:2]
        place = preprocessing.placement(height, width)
        down, right = (
            ((np.arange(SIDE) + 0.5) * (side / SIDE) - margin) / length
            for side, margin, length in zip(
                preprocessing.size, (place.top, place.left), (place.height, place.width), strict=True
            )
        )
        grid = masks.grid(images.ids[row], (height, width), down, right)
        return target.view(film), torch.from_numpy(grid)

    n_pixels = len(rows) * SIDE * SIDE
    keep = tail_size(n_pixels)
    tails: dict[str, Tensor] = {}
    areas: dict[str, Areas] = {}
    with Recorder(target.model, plans) as recorder:

        def maps_of(views: list[Tensor]) -> Iterator[tuple[str, Tensor]]:
            yield from recorder.record(torch.stack(views).to(target.device)).items()

        done = 0
        for views in decoded_batches(view, rows, batch_size, workers):
            for name, maps in maps_of(views):
                tails[name] = strongest_pixels(maps, _GRID, keep, tails.get(name))
            done += len(views)
            progress("finding strong pixels", done, len(rows))
        thresholds = {name: tail_threshold(tail, n_pixels) for name, tail in tails.items()}
        tails.clear()
        done = 0
        for batch in decoded_batches(view_and_masks, rows, batch_size, workers):
            grids = torch.stack([grid for _, grid in batch])
            for name, maps in maps_of([pixels for pixels, _ in batch]):
                counts = overlap(maps, grids, thresholds[name])
                areas[name] = areas[name] + counts if name in areas else counts
            done += len(batch)
            progress("comparing with masks", done, len(rows))
    return areas
