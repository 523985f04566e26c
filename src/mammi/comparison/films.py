"""Which films two runs share: told by content, because each run salts its ids with a secret of its own."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mammi.errors import InputError, RunError
from mammi.store import Run
from mammi.store.files import read_json

__all__ = ["MIN_FILMS", "SharedFilms", "share_films"]

#: Fewer films say nothing about who resembles whom: with 20, a correlation of 0.44 is still noise at the 5 % level.
MIN_FILMS = 20


@dataclass(frozen=True)
class SharedFilms:
    """The films that two runs share.

    Attributes:
        of_a: int64, shape ``(n_films,)``: their columns in the activations of the first run, rising.
        of_b: the same films in the second run.
        patients: int64, shape ``(n_films,)``: films with the same number are of one patient.
    """

    of_a: NDArray[np.int64]
    of_b: NDArray[np.int64]
    patients: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of shared films."""
        return len(self.of_a)

    @property
    def n_patients(self) -> int:
        """Number of patients; where they are unknown, every film counts as one."""
        return len(np.unique(self.patients))


def _contents(run: Run, which: str) -> list[str]:
    """Return the hash of every film that was read, in the order of the activations."""
    path = run.folder / "private" / "films.json"
    if not path.is_file():
        raise RunError(
            f"run {which} has no private/films.json, and the two runs list other films: which of them are the same "
            "cannot be told. Put 'private' back beside the manifest, or annotate the same films in both"
        )
    films = read_json(path)
    return [str(films[row]["sha256"]) for row in run.images["row"]]


def share_films(a: Run, b: Run) -> SharedFilms:
    """Find the films that two runs share.

    Where both list the same films in the same order (the fingerprint in the manifest), a film is found by its row;
    otherwise by the hash of its file, the first of each where a run holds a film twice.

    Args:
        a: the first run.
        b: the second run.

    Raises:
        InputError: if fewer than `MIN_FILMS` films are shared, or the runs show other frames of them.
        RunError: if that needs a file of ``private`` that is gone.
    """
    lists = [run.manifest["identity"]["images"] for run in (a, b)]
    frames = [entry.get("frame") for entry in lists]
    if None not in frames and frames[0] != frames[1]:
        raise InputError(
            f"run A shows frame {frames[0]} of each file, run B frame {frames[1]}: these are other pictures. "
            "Annotate the same frame in both"
        )
    if lists[0]["fingerprint"] == lists[1]["fingerprint"]:
        keys = [[str(row) for row in run.images["row"]] for run in (a, b)]
    else:
        keys = [_contents(run, which) for run, which in ((a, "A"), (b, "B"))]
    first_of_b: dict[str, int] = {}
    for column, key in enumerate(keys[1]):
        first_of_b.setdefault(key, column)
    pairs = [(column, first_of_b.pop(key)) for column, key in enumerate(keys[0]) if key in first_of_b]
    if len(pairs) < MIN_FILMS:
        raise InputError(
            f"the runs share {len(pairs)} films ({len(keys[0])} in A, {len(keys[1])} in B), at least {MIN_FILMS} are "
            "needed to tell which units are alike: annotate the same films in both"
        )
    of_a, of_b = (np.array(side, dtype=np.int64) for side in zip(*pairs, strict=True))
    from_b = b.manifest["images"]["patients_known"] and not a.manifest["images"]["patients_known"]
    salted = b.images["patient"].to_numpy()[of_b] if from_b else a.images["patient"].to_numpy()[of_a]
    # Numbered by first appearance: the salted ids differ from run to run, and must not steer what is drawn.
    return SharedFilms(of_a, of_b, pd.factorize(salted)[0].astype(np.int64))
