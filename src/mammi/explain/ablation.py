"""What hangs on some units: they are held at a value on every film, and the outputs are read again."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from mammi.engine.prefetch import decoded_batches
from mammi.errors import InputError
from mammi.explain.ablated import Ablated
from mammi.explain.ablation_result import AREA_COLUMNS, CHANGE_COLUMNS, GAP_CHANGE_COLUMNS, Ablation
from mammi.explain.ablation_tables import LookedAt, area_change, gap_changes, output_changes
from mammi.explain.account import BATCH, Account
from mammi.explain.attributes import Attribute
from mammi.explain.audit import audited_outputs
from mammi.explain.gaps import patient_numbers_of
from mammi.explain.gradients import logits_of
from mammi.explain.heads import output_head
from mammi.explain.models import run_films
from mammi.functional.unit_sets import matched_sets
from mammi.types import Progress, no_progress

__all__ = ["ablate", "ablated_logits", "held_values", "hooked_logits", "units_named"]

#: Random sets of units beside the true one: where the outputs follow by algebra, and where every film is shown again.
SETS, SETS_SHOWN = 500, 20
#: Logits held in memory there, at most: of very many films fewer sets are drawn.
MOST_VALUES = 2**26


def ablate(
    account: Account,
    units: Sequence[int],
    *,
    to: str = "mean",
    classes: Sequence[str | int] | None = None,
    attributes: Sequence[Attribute] = (),
    films: int | None = None,
    n_sets: int | None = None,
    n_resamples: int = 1000,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Ablation:
    r"""Hold units of a layer at a value on every film, and compare every output before and after.

    Where the outputs are a weighted sum of the units, :math:`z_c' = z_c + \sum_{i \in S} w_{ci} (v_i - a_i)`; elsewhere
    the films are shown again to the network, its units held by `Ablated`. Beside the set stand random sets of the same
    size and of like spread (`matched_sets`), so that what any such set would do is not taken for what this one does.

    Args:
        account: the outputs and the units.
        units: units of the account's layer.
        to: ``"mean"``, each unit's mean over the films of the run, or ``"zero"``.
        classes: names or numbers of outputs; None for those with labels, or for all where none has.
        attributes: the gaps of each class along these are given before and after.
        films: look at this many, evenly spaced; None for all, or for those of the account where the outputs do not follow
            by algebra.
        n_sets: random sets; None for 500 (fewer of very many films), or 20 where films must be shown again.
        n_resamples: draws of the patients behind each interval.
        seed: of sets and draws.
        progress: told of every set.

    Raises:
        InputError: if no unit is given, one does not exist or is not finite on a film, or an option is wrong.
        ImageError: if films must be shown again and are not where they were.
    """
    chosen = np.array(sorted(set(units)), dtype=np.int64)
    if not len(chosen):
        raise InputError("no unit to take out: name some of the layer's")
    if to not in ("mean", "zero"):
        raise InputError(f"'to' must be mean or zero, got {to!r}")
    if films is not None and films < 1:
        raise InputError(f"'films' must be at least 1, got {films}")
    values = held_values(account, to)
    wrong = [unit for unit in chosen.tolist() if not 0 <= unit < account.n_units]
    if wrong:
        raise InputError(f"layer {account.layer!r} has units 0 to {account.n_units - 1}, got {wrong[0]}")
    unsound = [unit for unit in chosen.tolist() if not np.isfinite(account.activations[unit]).all()]
    if unsound:
        raise InputError(f"unit {account.layer}:{unsound[0]} is not finite on every film: nothing can be said of it")
    rows = account.films
    if films is not None:
        pool = np.arange(len(account.run.images))
        rows = np.unique(np.linspace(0, len(pool) - 1, min(films, len(pool))).astype(np.int64))
    outputs = audited_outputs(account, classes)
    if n_sets is None:
        most = max(SETS_SHOWN, MOST_VALUES // (len(rows) * len(account.outputs)))
        n_sets = min(SETS, most) if account.exact else SETS_SHOWN
    spread = np.asarray(account.activations, dtype=np.float64).std(axis=1)
    sets = [chosen, *matched_sets(chosen.tolist(), spread, n_sets, seed)]
    looked_at = LookedAt(rows, torch.from_numpy(patient_numbers_of(account)[rows]), account.logits[rows])
    if account.exact:
        after = [ablated_logits(account, units, values, rows) for units in sets]
    else:
        after = hooked_logits(account, sets, values, rows, progress=progress)
    drawn = (looked_at, after, seed, n_resamples)
    changes = [row for c in outputs for row in output_changes(account, c, *drawn)]
    areas = [row for c in outputs for row in area_change(account, c, *drawn)]
    gaps = [row for c in outputs for attribute in attributes for row in gap_changes(account, c, attribute, *drawn)]
    names = account.run.units.loc[account.run.units["layer"] == account.layer, "name"].tolist()
    return Ablation(
        layer=account.layer,
        units=tuple(chosen.tolist()),
        names=tuple(str(names[unit]) for unit in chosen.tolist()),
        values=tuple(float(value) for value in values[chosen]),
        to=to,
        by="algebra" if account.exact else "hook",
        n_units=account.n_units,
        n_films=len(rows),
        n_patients=len(np.unique(looked_at.patients.numpy())),
        n_sets=n_sets,
        changes=pd.DataFrame(changes, columns=CHANGE_COLUMNS),
        areas=pd.DataFrame(areas, columns=AREA_COLUMNS),
        gaps=pd.DataFrame(gaps, columns=GAP_CHANGE_COLUMNS),
    )


def held_values(account: Account, to: str) -> NDArray[np.float64]:
    """Return what each unit is held at: its mean over the films of the run, or 0; float64 ``(n_units,)``."""
    if to == "zero":
        return np.zeros(account.n_units)
    means: NDArray[np.float64] = np.asarray(account.activations, dtype=np.float64).mean(axis=1)
    return means


def ablated_logits(
    account: Account, units: NDArray[np.int64], values: NDArray[np.float64], rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the logits with units held at values, by algebra: float64, shape ``(n_rows, n_outputs)``.

    Raises:
        InputError: if the outputs are no weighted sum of the units.
    """
    if account.head is None:
        raise InputError(f"the outputs are no weighted sum of the units of {account.layer!r}: show the films again")
    moved = values[units][:, None] - np.asarray(account.activations[units], dtype=np.float64)[:, rows]
    after: NDArray[np.float64] = account.logits[rows] + moved.T @ account.head.weight[:, units].T
    return after


def hooked_logits(
    account: Account,
    sets: Sequence[NDArray[np.int64]],
    values: NDArray[np.float64],
    rows: NDArray[np.int64],
    *,
    progress: Progress = no_progress,
) -> list[NDArray[np.float64]]:
    """Show films again with each set of units held in turn: per set, float64 ``(n_rows, n_outputs)``.

    Raises:
        ImageError: if a film is not where it was.
        CaptureError: if the layer cannot be held.
    """
    images, target = run_films(account.run), account.target
    after = [np.empty((len(rows), len(account.outputs))) for _ in sets]
    done = 0
    with logits_of(target, output_head(target)) as logits, torch.inference_mode():
        for views in decoded_batches(lambda row: target.view(images.film(row)), rows.tolist(), BATCH):
            batch = torch.stack(views).to(target.device)
            for found, units in zip(after, sets, strict=True):
                with Ablated(target.model, account.plan, {int(unit): float(values[unit]) for unit in units}):
                    found[done : done + len(views)] = logits(batch).double().cpu().numpy()
            done += len(views)
            progress("taking units out", done, len(rows))
    return after


def units_named(account: Account, concept: str) -> list[int]:
    """Return the units of which a kept concept, the name included, holds all the words.

    Raises:
        InputError: if none does.
    """
    run = account.run
    wanted = set(concept.lower().split())
    kept = run.annotations[run.annotations["kept"] & (run.annotations["layer"] == account.layer)]
    held = kept.loc[[wanted <= set(str(text).lower().split()) for text in kept["concept"]], "unit"]
    found = sorted({int(unit) for unit in held})
    if not found or not wanted:
        raise InputError(
            f"no unit of {account.layer!r} keeps a concept with the words {concept!r}: 'mammi show' lists them"
        )
    return found
