"""The untrained copy of the network, recorded on the same films: what a network that has learned nothing would show."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mammi.capture import LayerPlan
from mammi.data import ProbingSet
from mammi.engine import record_blocks
from mammi.store.shards import ActivationStore
from mammi.targets import Target, randomised
from mammi.types import Progress

__all__ = ["record_untrained"]

#: Films that an untrained copy is shown at most: enough to know what it shows, at a bounded price.
MOST_FILMS = 2000
#: Films that the copy's running statistics are settled on.
SETTLING = 64


def record_untrained(
    target: Target,
    plans: Sequence[LayerPlan],
    images: ProbingSet,
    kept: NDArray[np.int64],
    store: ActivationStore,
    *,
    seed: int,
    batch_size: int,
    workers: int,
    progress: Progress,
) -> tuple[Tensor, NDArray[np.int64]]:
    """Record an untrained copy of a network on the films of a run, or on evenly spaced ones of very many.

    Args:
        target: the network under study; left as it is.
        plans: the layers.
        images: the probing set.
        kept: rows of its readable films, rising.
        store: the run's own store; the copy's blocks go into ``control/`` beside them, and survive a kill like them.
        seed: of the copy's weights.
        batch_size: films per forward pass.
        workers: threads that decode.
        progress: told of every batch.

    Returns:
        Activations of the units that vary, of all layers side by side, ``(n_control_films, n_control_units)``; and the
        places of these films among ``kept``.

    Raises:
        TargetError: if the network cannot be copied, or its copy puts out something not finite.
    """
    places = np.unique(np.linspace(0, len(kept) - 1, min(len(kept), MOST_FILMS)).astype(np.int64))
    aside = ActivationStore(store.folder / "control", len(places), store.block_size)
    if not all(aside.array_path(plan.name).is_file() for plan in plans):
        films = images.subset(kept[places])
        settle = np.unique(np.linspace(0, len(films) - 1, min(len(films), SETTLING)).astype(int))
        copy = randomised(target, [films.film(int(row)) for row in settle], seed=seed)

        def report(step: str, done: int, total: int) -> None:
            progress(f"{step} of an untrained copy", done, total)

        record_blocks(copy, plans, films, aside, batch_size=batch_size, workers=workers, progress=report)
        for plan in plans:
            aside.finish(plan.name, plan.n_units, np.arange(len(places)))
    units = torch.from_numpy(np.concatenate([np.array(aside.read(plan.name)) for plan in plans]))
    live = torch.isfinite(units).all(dim=1) & (units.amax(dim=1) > units.amin(dim=1))
    return units[live].T, places
