"""The untrained copy of the network, recorded on the same films: what a network that has learned nothing would show."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mammi.capture import LayerPlan
from mammi.data import ProbingSet
from mammi.engine import Engine, record_blocks
from mammi.errors import ImageError, RunError, TargetError
from mammi.store.shards import ActivationStore
from mammi.targets import Target, copied, randomised
from mammi.types import Progress

__all__ = ["read_untrained", "record_untrained", "refuse_uncopyable"]

#: Films that an untrained copy is shown at most: enough to know what it shows, at a bounded price.
MOST_FILMS = 2000
#: Films that the copy's running statistics are settled on.
SETTLING = 64


def refuse_uncopyable(target: Target) -> None:
    """Raise `TargetError` if a network cannot be copied: better before the first film than after the last."""
    try:
        copied(target)
    except TargetError as error:
        raise _with_a_way_out(error) from error


def _with_a_way_out(error: TargetError) -> TargetError:
    return TargetError(f"{error}: leave out the comparison with an untrained copy, control=False (-O control=false)")


def record_untrained(
    target: Target,
    plans: Sequence[LayerPlan],
    images: ProbingSet,
    kept: NDArray[np.int64],
    store: ActivationStore,
    *,
    seed: int,
    precision: str,
    batch_size: int,
    engine: Engine,
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
        precision: in which numbers the copy computes, as the network did.
        batch_size: films per forward pass.
        engine: who does the work.
        progress: told of every batch.

    Returns:
        Activations of the units that vary, of all layers side by side, float32 ``(n_control_films, n_control_units)``;
        and the places of these films among ``kept``, int64, rising.

    Raises:
        TargetError: if the network cannot be copied, or its copy puts out something not finite.
        ImageError: if a film can no longer be read; the others are recorded again by the same call.
    """
    places = _places(len(kept))
    if len(places) < 2:  # nothing varies over one film, and batch normalisation cannot be settled on it
        return torch.empty(len(places), 0), places
    aside = replace(store, n_films=len(places), part="control")
    _forget_damaged(aside, plans)
    if not all(aside.array_path(plan.name).is_file() for plan in plans):
        films = images.subset(kept[places])
        settle = np.unique(np.linspace(0, len(films) - 1, min(len(films), SETTLING)).astype(int))
        shown = [films.film(int(row)) for row in settle]
        try:
            copy = randomised(target, shown, seed=seed).at(precision)
        except TargetError as error:
            raise _with_a_way_out(error) from error

        def report(step: str, done: int, total: int) -> None:
            progress(f"{step} of an untrained copy", done, total)

        record_blocks(copy, plans, films, aside, batch_size=batch_size, engine=engine, progress=report)
        _refuse_gaps(aside)
        for plan in plans:
            aside.finish(plan.name, plan.n_units, np.arange(len(places)))
    return read_untrained(store, [plan.name for plan in plans], len(kept))


def read_untrained(store: ActivationStore, layers: Sequence[str], n_kept: int) -> tuple[Tensor, NDArray[np.int64]]:
    """Read what `record_untrained` recorded; returns what it returned.

    Args:
        store: the run's own store.
        layers: names of its layers.
        n_kept: number of its readable films.

    Raises:
        RunError: if the copy was not recorded.
    """
    places = _places(n_kept)
    if len(places) < 2:
        return torch.empty(len(places), 0), places
    aside = replace(store, n_films=len(places), part="control")
    units = torch.from_numpy(np.concatenate([np.array(aside.read(layer)) for layer in layers]))
    live = torch.isfinite(units).all(dim=1) & (units.amax(dim=1) > units.amin(dim=1))
    return units[live].T, places


def _places(n_kept: int) -> NDArray[np.int64]:
    """Return the places of the films that the copy is shown, among those that are readable."""
    return np.unique(np.linspace(0, n_kept - 1, min(n_kept, MOST_FILMS)).astype(np.int64))


def _forget_damaged(aside: ActivationStore, plans: Sequence[LayerPlan]) -> None:
    """Remove arrays that cannot be read or are of other films, so that they are recorded again."""
    for plan in plans:
        if not aside.array_path(plan.name).is_file():
            continue
        try:
            whole = aside.read(plan.name).shape == (plan.n_units, aside.n_films)
        except RunError:
            whole = False
        if not whole:
            aside.array_path(plan.name).unlink()
            for block in range(aside.n_blocks):
                aside.discard(block)


def _refuse_gaps(aside: ActivationStore) -> None:
    """Raise `ImageError` if a film that could be read for the network could not be read for its copy."""
    gaps = {block: record["unreadable"] for block, record in aside.done().items() if record["unreadable"]}
    for block in gaps:
        aside.discard(block)
    if gaps:
        reasons = [reason for unreadable in gaps.values() for reason in unreadable.values()]
        raise ImageError(
            f"{len(reasons)} of {aside.n_films} films could be read for the network and not for its untrained copy "
            f"({reasons[0]}): put back what is missing and run the same command again, what is recorded stays"
        )
