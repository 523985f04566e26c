"""How far a class's logit moves with an attribute, over which films, and what of it goes through some units."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from mammi.explain.account import Account
from mammi.explain.attributes import LEAST_PATIENTS, Attribute
from mammi.functional.group_gap import gap_interval, group_gap

__all__ = ["GAP_COLUMNS", "Films", "can_compare", "class_gaps", "film_sets", "patient_numbers_of"]

#: The columns of a table of gaps; see `mammi.explain.audit_result.Audit`.
GAP_COLUMNS = [
    *("attribute", "output", "films", "gap", "low", "high", "carried", "carried_low", "carried_high"),
    *("share", "rest", "n_units", "n_films", "n_patients"),
]

#: A share beyond this is not stated: the units work against each other, and their ratio to what is left says nothing.
MOST_SHARE = 10.0


class Films(NamedTuple):
    """Films that are compared: which of them, and within which strata.

    Attributes:
        name: ``"all"``, ``"same finding"``, ``"without"`` or ``"with"``.
        rows: bool ``(n_films,)``.
        strata: int64 ``(n_films,)``: 1 with, 0 without, 2 not known; None where they are not told apart.
    """

    name: str
    rows: NDArray[np.bool_]
    strata: NDArray[np.int64] | None


def patient_numbers_of(account: Account) -> NDArray[np.int64]:
    """Number the patients by first appearance: the salted ids differ from run to run and must not steer the draws."""
    numbers: NDArray[np.int64] = pd.factorize(account.run.images["patient"])[0].astype(np.int64)
    return numbers


def film_sets(account: Account, output: int, rows: NDArray[np.int64] | None = None) -> list[Films]:
    """Return the films over which a class's gap is taken: all; and by its label, where there are films with and without.

    Args:
        account: the outputs and the units.
        output: number of the class.
        rows: the films that count; None for those whose contributions are known.
    """
    counted = np.zeros(len(account.run.images), dtype=bool)
    counted[account.films if rows is None else rows] = True
    sets = [Films("all", counted, None)]
    truth = account.labels.get(account.outputs[output])
    if truth is None or not {0.0, 1.0} <= set(truth[counted & ~np.isnan(truth)].tolist()):
        return sets
    strata = np.where(np.isnan(truth), 2, truth).astype(np.int64)
    return [
        *sets,
        Films("same finding", counted, strata),
        Films("without", counted & (truth == 0), None),
        Films("with", counted & (truth == 1), None),
    ]


def can_compare(
    attribute: Attribute, values: NDArray[np.float64], patients: NDArray[np.int64], strata: torch.Tensor | None
) -> bool:
    """Tell whether films can be compared: 10 patients or more on each side, and an attribute that varies within strata.

    Args:
        attribute: the attribute.
        values: its values on the films, NaN unknown.
        patients: of the films.
        strata: of the films, or None.
    """
    sides = [~np.isnan(values)] if attribute.kind == "numeric" else [values == 0, values == 1]
    if min(len(np.unique(patients[side])) for side in sides) < LEAST_PATIENTS:
        return False
    m = torch.from_numpy(values)
    return not bool(group_gap(m[:, None], m, strata).isnan())


def class_gaps(
    account: Account,
    output: int,
    attribute: Attribute,
    patients: NDArray[np.int64],
    reacting: NDArray[np.bool_],
    reacting_overall: NDArray[np.bool_],
    sets: Sequence[Films],
    *,
    seed: int,
    n_resamples: int,
) -> list[tuple[object, ...]]:
    """Return a class's gap over each set of films, and what goes through the units that react: rows of ``GAP_COLUMNS``.

    Args:
        account: the outputs and the units.
        output: number of the class.
        attribute: the attribute.
        patients: int64 ``(n_films,)``.
        reacting: bool ``(n_units,)``: the units whose share is asked for, where films are compared by their finding.
        reacting_overall: likewise, over all films.
        sets: from `film_sets`.
        seed: of the draws of patients.
        n_resamples: how many.
    """
    everything = account.carried(output)
    through, through_overall = account.carried(output, reacting), account.carried(output, reacting_overall)
    logits = account.logits[account.films, output]
    found: list[tuple[object, ...]] = []
    for films in sets:
        is_all = films.name == "all"
        reacts, through_units = (reacting_overall, through_overall) if is_all else (reacting, through)
        rows = films.rows[account.films]
        m = attribute.values[account.films][rows]
        known = ~np.isnan(m)
        owners = patients[account.films][rows]
        strata = None if films.strata is None else torch.from_numpy(films.strata[account.films][rows])
        if not can_compare(attribute, m, owners, strata):
            continue
        columns = torch.from_numpy(np.stack([logits[rows], through_units[rows], everything[rows]], axis=1))
        values = torch.from_numpy(m)
        gap, carried, every = group_gap(columns, values, strata).tolist()
        low, high = gap_interval(
            columns[:, :2], values, torch.from_numpy(owners), strata, seed=seed, n_resamples=n_resamples
        )
        clear = (bool(low[0] > 0) or bool(high[0] < 0)) and abs(carried) <= MOST_SHARE * abs(gap)
        found.append(
            (
                *(attribute.label, account.outputs[output], films.name),
                *(gap, float(low[0]), float(high[0]), carried, float(low[1]), float(high[1])),
                *(carried / gap if clear else float("nan"), gap - every),
                *(int(reacts.sum()), int(known.sum()), len(np.unique(owners[known]))),
            )
        )
    return found
