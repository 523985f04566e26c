"""Films put beside each other, and the rule that no patient stands for a unit alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammi.pages.view import RunView, finite
from mammi.pages.words import plural

__all__ = ["K_PATIENTS", "gallery", "one_a_patient", "ranked", "spread_films", "withheld_because"]

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


def ranked(activation: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the films on which a unit is finite, weakest first; ties by film."""
    order = np.argsort(activation, kind="stable")  # NaN and infinity last
    finite_on = np.isfinite(activation)
    return order if finite_on.all() else order[finite_on[order]]


def one_a_patient(
    view: RunView, order: Sequence[int] | NDArray[np.int64], n: int, without: frozenset[int] = frozenset()
) -> list[int]:
    """Return the first films of an order, one a patient.

    Args:
        view: the run.
        order: rows of films.
        n: how many, at most.
        without: patients, by number, that are passed over, unless there is nobody else.
    """
    chosen: dict[int, int] = {}
    passed: dict[int, int] = {}
    for film in order:
        patient = int(view.patients[film])
        (passed if patient in without else chosen).setdefault(patient, int(film))
        if len(chosen) == n:
            break
    return list((chosen or passed).values())[:n]


def spread_films(order: NDArray[np.int64], shares: Sequence[float]) -> list[int]:
    """Return one film for each share: the film with that share of the others before it in an order."""
    return [int(order[round(share * (len(order) - 1))]) for share in shares] if len(order) else []
