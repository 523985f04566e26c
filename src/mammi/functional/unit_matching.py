"""Which unit of one layer is which unit of another: by how alike they respond to the same films."""

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mammi.errors import InputError
from mammi.functional.chance import patient_shuffles

__all__ = ["chance_correlations", "correlations", "match_units", "paired_correlations", "resampled_correlations"]

#: Share of the mean square below which a variance is taken for rounding.
ROUNDING = 1e-12
#: Pairs that are resampled together: bounds memory, not results.
TILE = 256


def _check(a: Tensor, b: Tensor, patients: Tensor | None = None) -> None:
    for name, value in (("a", a), ("b", b)):
        if value.ndim != 2 or not value.is_floating_point():
            raise InputError(f"{name!r} must be floating, (n_films, n_units), got {value.dtype} {tuple(value.shape)}")
    if len(a) != len(b) or len(a) < 2:
        raise InputError(f"'a' and 'b' must hold the same films, at least two, got {len(a)} and {len(b)}")
    if patients is not None and patients.shape != (len(a),):
        raise InputError(f"'patients' must have one number a film, got {tuple(patients.shape)} for {len(a)} films")


def _check_pairs(a: Tensor, b: Tensor, patients: Tensor | None = None) -> None:
    _check(a, b, patients)
    if a.shape != b.shape:
        raise InputError(f"'a' and 'b' must hold as many units each, got {a.shape[1]} and {b.shape[1]}")


def _standardise(x: Tensor) -> Tensor:
    """Return float64 columns of mean 0 and length 1; NaN all over where a unit never varies or is broken."""
    x = x.double()
    low, high = x.aminmax(dim=0)
    x = x - x.mean(dim=0)
    x = x / torch.linalg.vector_norm(x, dim=0)
    x[:, ~(low < high) | ~torch.isfinite(high - low)] = torch.nan
    return x


def correlations(a: Tensor, b: Tensor) -> Tensor:
    r"""Correlate every unit of one layer with every unit of another over the same films (Pearson).

    .. math:: r_{ij} = \frac{\sum_n (a_{ni} - \bar a_i)(b_{nj} - \bar b_j)}
                            {\sqrt{\sum_n (a_{ni} - \bar a_i)^2 \sum_n (b_{nj} - \bar b_j)^2}}

    Args:
        a: pooled activations, floating, shape ``(n_films, n_units_a)``.
        b: those of the other layer on the same films, shape ``(n_films, n_units_b)``.

    Returns:
        float64, shape ``(n_units_a, n_units_b)``, in [-1, 1]; NaN where a unit never varies or is NaN or infinite on
        some film.

    Raises:
        InputError: if a shape or type is wrong, or there are fewer than two films.
    """
    _check(a, b)
    return (_standardise(a).T @ _standardise(b)).clamp(-1, 1)


def paired_correlations(a: Tensor, b: Tensor) -> Tensor:
    """Correlate each unit of one layer with the unit of the same index of another.

    Args:
        a: pooled activations, floating, shape ``(n_films, n_units)``.
        b: those of the other layer, of the same shape.

    Returns:
        float64, shape ``(n_units,)``: the diagonal of `correlations`.

    Raises:
        InputError: if the shapes differ, a type is wrong, or there are fewer than two films.
    """
    _check_pairs(a, b)
    return (_standardise(a) * _standardise(b)).sum(dim=0).clamp(-1, 1)


def match_units(r: Tensor) -> Tensor:
    """Pair the units of two layers one to one so that their correlations sum to the most.

    Li, Yosinski, Clune, Lipson, Hopcroft: *Convergent Learning: Do different neural networks learn the same
    representations?*, ICLR 2016, section 3.2: bipartite matching of units. A negative correlation counts as none.

    Args:
        r: correlations, float64, shape ``(n_units_a, n_units_b)``; NaN for a unit that cannot be paired.

    Returns:
        int64, shape ``(n_pairs, 2)``: unit of the first layer, rising, and of the second. Every unit that can be paired
        is, as far as the smaller layer goes: how alike the two are is for the caller to judge.
    """
    known = torch.isfinite(r)
    rows, columns = known.any(dim=1).nonzero().flatten(), known.any(dim=0).nonzero().flatten()
    weights = r[rows][:, columns].clamp(min=0)
    of_a, of_b = linear_sum_assignment(weights.numpy(), maximize=True)
    return torch.stack([rows[torch.from_numpy(of_a)], columns[torch.from_numpy(of_b)]], dim=1)


def resampled_correlations(a: Tensor, b: Tensor, patients: Tensor, resamples: int = 200, seed: int = 0) -> Tensor:
    """Correlate pairs of units again and again, on patients drawn with replacement, each with all of its films.

    Films of one patient are alike, so patients are drawn and not films (the cluster bootstrap: Davison, Hinkley,
    *Bootstrap Methods and their Application*, 1997, section 3.8).

    Args:
        a: pooled activations, floating, shape ``(n_films, n_pairs)``: column ``p`` is the first unit of pair ``p``.
        b: the same of the second units.
        patients: int64, shape ``(n_films,)``: films with the same number are of one patient.
        resamples: how often.
        seed: of the draws.

    Returns:
        float64, shape ``(resamples, n_pairs)``; NaN where a unit does not vary in a resample, or is NaN or infinite.

    Raises:
        InputError: if a shape or type is wrong.
    """
    _check_pairs(a, b, patients)
    numbers = torch.unique(patients, return_inverse=True)[1]
    n_patients = int(numbers.max()) + 1
    draws = torch.randint(n_patients, (resamples, n_patients), generator=torch.Generator().manual_seed(seed))
    times = torch.zeros(resamples, n_patients, dtype=torch.float64)
    times.scatter_add_(1, draws, torch.ones_like(times))

    def summed(x: Tensor) -> Tensor:
        """Sum over the films of each patient, then over the patients of each resample."""
        return times @ torch.zeros(n_patients, *x.shape[1:], dtype=torch.float64).index_add_(0, numbers, x)

    n = summed(torch.ones(len(a), 1, dtype=torch.float64))

    def correlated(a: Tensor, b: Tensor) -> Tensor:
        # Columns of mean 0 keep the differences of sums below exact enough.
        x, y = _standardise(a), _standardise(b)
        mean_x, mean_y, square_x, square_y = (summed(part) / n for part in (x, y, x * x, y * y))
        var_x, var_y = square_x - mean_x**2, square_y - mean_y**2
        r = (summed(x * y) / n - mean_x * mean_y) / (var_x.clamp(min=0) * var_y.clamp(min=0)).sqrt()
        still = (var_x <= ROUNDING * square_x) | (var_y <= ROUNDING * square_y)
        return torch.where(still, torch.nan, r).clamp(-1, 1)

    tiles = [slice(start, start + TILE) for start in range(0, max(1, a.shape[1]), TILE)]
    return torch.cat([correlated(a[:, tile], b[:, tile]) for tile in tiles], dim=1)


def chance_correlations(a: Tensor, b: Tensor, patients: Tensor, shuffles: int = 5, seed: int = 0) -> Tensor:
    """Return how well each unit would find a partner if the two layers had nothing to do with each other.

    The films of one layer are shuffled against those of the other; each unit takes the best of all partners, which is
    never less than what a pairing one to one leaves it. Every patient takes another's place as a whole (`patient_shuffles`),
    so that it counts that films of one patient are alike.

    Args:
        a: pooled activations, floating, shape ``(n_films, n_units_a)``.
        b: those of the other layer, shape ``(n_films, n_units_b)``.
        patients: int64, shape ``(n_films,)``.
        shuffles: how often.
        seed: of the shuffles.

    Returns:
        float64, shape ``(shuffles, n_units_a)``: the largest correlation of each unit; NaN for one that has none.

    Raises:
        InputError: if a shape or type is wrong, or all films are of one patient: then nothing can be shuffled.
    """
    _check(a, b, patients)
    if len(torch.unique(patients)) < 2:
        raise InputError("'patients' names one patient only: there is no other to shuffle with")
    y = _standardise(b)
    best = []
    for order in patient_shuffles(patients, shuffles, seed):
        # Patients of unequal numbers of films: some films come twice, so means and lengths are taken anew.
        r = _standardise(a[order]).T @ y
        largest = torch.where(torch.isnan(r), -torch.inf, r).amax(dim=1)
        best.append(torch.where(torch.isinf(largest), torch.nan, largest))
    return torch.stack(best).clamp(-1, 1)
