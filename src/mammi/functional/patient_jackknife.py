"""How far a correlation would move with other patients, from one pass over the films: for pages that may not wait."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from mammi.errors import InputError

__all__ = ["pearson_margins"]


def pearson_margins(
    activation: NDArray[np.floating],
    concepts: NDArray[np.floating],
    patients: NDArray[np.int64],
    *,
    level: float = 0.95,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    r"""Correlate one unit with concepts, each with an interval over patients.

    Film :math:`n` moves the correlation by :math:`u_n = z_n w_n - \frac r 2 (z_n^2 + w_n^2)`, with :math:`z, w` the
    standardised activation and concept (its influence; Devlin, Gnanadesikan and Kettenring, *Biometrika* 1975). Films of
    one patient move it together, so that :math:`\operatorname{var} r \approx \frac{G}{G - 1} \sum_g (\sum_{n \in g} u_n)^2
    / N^2` over :math:`G` patients (infinitesimal jackknife; Efron 1982, chapter 6). The interval is symmetric in
    :math:`\operatorname{artanh} r` and takes Student's t with :math:`G - 1` degrees of freedom. It agrees with
    `pearson_interval`, which draws patients a thousand times, where there are some dozens of patients.

    Args:
        activation: shape ``(n_films,)``.
        concepts: shape ``(n_films, n_concepts)``: labels or scores of any scale; NaN is unknown.
        patients: int64, shape ``(n_films,)``: films with the same number are of one patient; numbers from 0.
        level: of the interval, in (0, 1).

    Returns:
        Correlation, lower and upper bound, each float64 ``(n_concepts,)``, in [-1, 1]. NaN where the unit or the concept
        never varies on the known films, or the unit is not finite on one; bounds NaN with a single patient too.

    Raises:
        InputError: if the numbers of films differ, or the level is out of range.

    Example:
        >>> r, low, high = pearson_margins(np.array([0.0, 1.0, 2.0]), np.array([[1.0], [2.0], [3.0]]), np.arange(3))
        >>> r.round(6).tolist(), low.round(6).tolist(), high.round(6).tolist()
        ([1.0], [1.0], [1.0])
    """
    n_films = len(activation)
    if concepts.ndim != 2 or len(concepts) != n_films or patients.shape != (n_films,):
        raise InputError(
            f"need as many activations, concepts and patients, got {activation.shape}, {concepts.shape} "
            f"and {patients.shape}"
        )
    if not 0 < level < 1:
        raise InputError(f"'level' must be in (0, 1), got {level}")
    found = np.full((3, concepts.shape[1]), np.nan)
    for column in range(concepts.shape[1]):
        known = ~np.isnan(concepts[:, column])
        a, c = activation[known].astype(np.float64), concepts[known, column].astype(np.float64)
        if len(a) and np.isfinite(a).all() and a.min() < a.max() and c.min() < c.max():
            found[:, column] = _one(a, c, patients[known], level)
    return found[0], found[1], found[2]


def _one(
    a: NDArray[np.float64], c: NDArray[np.float64], patients: NDArray[np.int64], level: float
) -> tuple[float, float, float]:
    z, w = a - a.mean(), c - c.mean()
    # Elementwise, not as a product: threads of a linear algebra library cost more than they save on one column.
    z /= np.sqrt(np.square(z).mean())
    w /= np.sqrt(np.square(w).mean())
    both = z * w
    r = float(np.clip(both.mean(), -1, 1))
    influence = both - r / 2 * (np.square(z) + np.square(w))
    seen = np.bincount(patients) > 0
    n_patients = int(seen.sum())
    if n_patients < 2:
        return r, np.nan, np.nan
    if 1 - abs(r) < 1e-12:
        return r, r, r
    sums = np.bincount(patients, weights=influence)[seen]
    error = np.sqrt(n_patients / (n_patients - 1) * np.square(sums).sum()) / len(z)
    half = student.ppf((1 + level) / 2, n_patients - 1) * error / (1 - r * r)
    middle = np.arctanh(r)
    return r, float(np.tanh(middle - half)), float(np.tanh(middle + half))
