"""Films put beside each other, and the rule that no patient stands for a unit alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammi.pages.view import RunView, finite
from mammi.pages.words import plural

__all__ = ["K_PATIENTS", "gallery", "lowest_films", "spread_films", "withheld_because"]

#: Pictures of a group of films are shown only if the films are of so many different patients.
K_PATIENTS = 3


def gallery(
    view: RunView, films: Sequence[int], activation: NDArray[np.float32], said: Sequence[str] = ()
) -> dict[str, Any]:
    """Return films as a page shows them.

    Args:
        view: the run.
        films: their rows.
        activation: the unit's activation on every film.
        said: one caption a film; empty for none.

    Returns:
        ``films``: salted ``id`` and ``patient``, ``activation``, ``caption``; ``patients``: how many; ``withheld``: why
        no picture may be shown, ``""`` if they may.
    """
    patients = len({int(view.patients[film]) for film in films})
    ids = view.run.images["patient"]
    return {
        "films": [
            {
                "id": view.films[film],
                "patient": str(ids.iat[film]) if view.patients_known else None,
                "activation": finite(activation[film]),
                "caption": said[place] if said else "",
            }
            for place, film in enumerate(map(int, films))
        ],
        "patients": patients,
        "withheld": withheld_because(patients) if len(films) else "",
    }


def withheld_because(patients: int) -> str:
    """Say why pictures of films of so many patients are not shown; ``""`` if they may be."""
    if patients >= K_PATIENTS:
        return ""
    return (
        f"these films are of {plural(patients, 'patient')}; pictures are shown from {K_PATIENTS} on, so that nobody "
        "stands for a unit alone"
    )


def lowest_films(
    view: RunView, activation: NDArray[np.float32], n: int, without: frozenset[int] = frozenset()
) -> list[int]:
    """Return the films that excite a unit least, one a patient, lowest first; ties by film.

    Args:
        view: the run.
        activation: the unit's activation on every film; films on which it is not finite are left out.
        n: how many, at most.
        without: patients, by number, to leave out where others are left: those of the examples.
    """
    usable = np.flatnonzero(np.isfinite(activation))
    if len(without) < len(np.unique(view.patients[usable])):
        usable = usable[~np.isin(view.patients[usable], list(without))]
    size = min(len(usable), 50 * n)
    if not size:
        return []
    # Whatever is tied with the last one is looked at too, so that the order does not hang on the partition.
    cut = np.partition(activation[usable], size - 1)[size - 1]
    nearest = usable[activation[usable] <= cut]
    nearest = nearest[np.argsort(activation[nearest], kind="stable")]
    _, first = np.unique(view.patients[nearest], return_index=True)
    return [int(film) for film in nearest[np.sort(first)[:n]]]


def spread_films(activation: NDArray[np.float32], shares: Sequence[float]) -> list[int]:
    """Return one film for each share: the film with that share of the others below it; ties by film.

    Args:
        activation: the unit's activation on every film; films on which it is not finite are left out.
        shares: each in [0, 1].
    """
    usable = np.flatnonzero(np.isfinite(activation))
    if not len(usable):
        return []
    order = usable[np.argsort(activation[usable], kind="stable")]
    return [int(order[round(share * (len(order) - 1))]) for share in shares]
