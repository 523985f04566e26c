"""Films of a run beside one film from elsewhere: the same picture, its rank, and those on which the same units are active."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammi.data import pixel_fingerprint
from mammi.explain.account import Account
from mammi.explain.film_result import SimilarFilm
from mammi.store.run import Run
from mammi.store.shards import ActivationStore
from mammi.types import Film

__all__ = ["Company", "percentile", "same_pixels", "similar_films"]


def same_pixels(run: Run, film: Film) -> NDArray[np.int64] | None:
    """Return the rows of ``run.images`` that show the same picture; None if the run does not tell (no private folder)."""
    identity = run.manifest["identity"]
    records = ActivationStore(run.folder, int(identity["images"]["n"]), int(identity["capture"]["block"])).done()
    pixels = [value for block in sorted(records) for value in records[block]["pixels"]]
    if len(pixels) != identity["images"]["n"]:
        return None
    wanted = pixel_fingerprint(film)
    return np.array(
        [row for row, place in enumerate(run.images["row"]) if pixels[int(place)] == wanted], dtype=np.int64
    )


def percentile(value: float, among: NDArray[np.floating[Any]]) -> float | None:
    """Return the share of finite values below ``value``, ties by half, 0 to 100; None if there is none.

    >>> percentile(2.0, np.array([1.0, 2.0, 3.0, np.nan]))
    50.0
    """
    known = among[np.isfinite(among)]
    if not len(known) or not np.isfinite(value):
        return None
    return float(100 * ((known < value).sum() + (known == value).sum() / 2) / len(known))


class Company:
    """The run's other films, as one film is compared with them.

    Args:
        account: the run and its outputs.
        without: rows to leave out: the film itself.
    """

    def __init__(self, account: Account, without: Sequence[int] = ()) -> None:
        self.account = account
        self.rows = np.setdiff1d(np.arange(len(account.run.images)), np.asarray(without, dtype=np.int64))

    def activations(self, units: Sequence[int]) -> NDArray[np.float64]:
        """Return activations of some units on them, float64, shape ``(n_asked, n_films)``; not finite becomes NaN."""
        values = np.asarray(self.account.activations[list(units)], dtype=np.float64)[:, self.rows]
        return np.where(np.isfinite(values), values, np.nan)

    def moments(self, units: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean and standard deviation of each unit; NaN where no film has a value, deviation 0 if it never varies."""
        values = self.activations(units)
        known = np.isfinite(values)
        n = known.sum(axis=1)
        mean = np.divide(np.nansum(values, axis=1), n, out=np.full(len(n), np.nan), where=n > 0)
        square = np.nansum((values - mean[:, None]) ** 2, axis=1)
        deviation = np.sqrt(np.divide(square, n, out=np.full(len(n), np.nan), where=n > 0))
        # A unit that never varies has a deviation of rounding errors.
        deviation[deviation <= 1e-6 * np.abs(mean)] = 0
        return mean, deviation


def similar_films(
    company: Company, activations: NDArray[np.float32], units: Sequence[int], output: int, n: int
) -> tuple[SimilarFilm, ...]:
    """Return the run's films most like a film in some units: cosine of standardised activations; one film a patient.

    Args:
        company: the films to look among.
        activations: all units of the layer on the film, shape ``(n_units,)``.
        units: those that count.
        output: whose logit is stated.
        n: how many, of as many patients.

    Returns:
        Most similar first, ties by row; nothing where they would be of fewer than two patients. Units that never vary
        in the run, or are not finite on a film, count for nothing.
    """
    mean, deviation = company.moments(units)
    usable = np.isfinite(mean) & (deviation > 0)
    scale = np.where(usable, deviation, 1.0)

    def standardised(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        z = (values - mean[:, None]) / scale[:, None]
        return np.where(usable[:, None] & np.isfinite(z), z, 0.0)

    film = standardised(activations[list(units)].astype(np.float64)[:, None])[:, 0]
    films = standardised(company.activations(units))
    lengths = np.linalg.norm(films, axis=0) * np.linalg.norm(film)
    cosine = np.divide(film @ films, lengths, out=np.full(films.shape[1], -np.inf), where=lengths > 0)
    images, labels = company.account.run.images, company.account.run.labels
    patients = images["patient"].to_numpy()
    found: dict[str, SimilarFilm] = {}
    for place in np.argsort(-cosine, kind="stable"):
        row = int(company.rows[place])
        patient = str(patients[row])
        if len(found) == n or not np.isfinite(cosine[place]):
            break
        if patient not in found:
            present = tuple(str(name) for name in labels.columns if labels[name].iat[row] == 1)
            logit = float(company.account.logits[row, output])
            found[patient] = SimilarFilm(str(images["id"].iat[row]), patient, float(cosine[place]), logit, present, row)
    return tuple(found.values()) if len(found) > 1 else ()
