r"""How far a number moves with an attribute of the film, films of one stratum compared with each other only.

.. math:: g(x) = \frac{\sum_s \sum_{n \in s} (x_n - \bar x_s)(m_n - \bar m_s)}{\sum_s \sum_{n \in s} (m_n - \bar m_s)^2}

With one stratum this is the slope of :math:`x` on the attribute :math:`m`, for a binary attribute the difference of the
two means. With the films with, without and of unknown finding as strata it is the slope at the same finding. It is
linear in :math:`x`: where a logit is :math:`z = \sum_i w_i a_i + b`, its gap is :math:`g(z) = \sum_i w_i g(a_i)` exactly,
and :math:`w_i g(a_i)` is what unit :math:`i` carries of it (a decomposition in the manner of Oaxaca and Blinder, 1973).
"""

import torch
from torch import Tensor

from mammi.errors import InputError
from mammi.functional.patient_sums import interval, patient_draws, patient_numbers, sums_by

__all__ = ["FLAT", "centred_within", "gap_interval", "group_gap", "known_films"]

#: Columns that are drawn together: bounds memory, not results.
COLUMNS = 256
#: Below this share of its sum of squares, what is left of an attribute within strata is rounding.
FLAT = 1e-12


def group_gap(values: Tensor, attribute: Tensor, strata: Tensor | None = None) -> Tensor:
    """Return the slope of every column on the attribute, within strata.

    Args:
        values: shape ``(n_films, n_columns)``, floating.
        attribute: shape ``(n_films,)``, floating: 1 and 0, or a number; NaN is unknown and leaves the film out.
        strata: int64, shape ``(n_films,)``: films are compared within one; None for all together.

    Returns:
        float64 ``(n_columns,)``, in units of the column per unit of the attribute. NaN for a column that is not finite
        on a film used, and everywhere if the attribute does not vary within any stratum.

    Raises:
        InputError: if the numbers of films differ.

    Example:
        >>> round(group_gap(torch.tensor([[1.0], [3.0], [8.0]]), torch.tensor([0.0, 0.0, 1.0])).item(), 9)
        6.0
    """
    films, m, strata = known_films(values, attribute, strata)
    centred, spread = _attribute(m, strata)
    return torch.cat([centred @ centred_within(x, strata) / spread for x in torch.split(films, COLUMNS, dim=1)])


def gap_interval(
    values: Tensor,
    attribute: Tensor,
    patients: Tensor,
    strata: Tensor | None = None,
    *,
    seed: int = 0,
    n_resamples: int = 1000,
) -> tuple[Tensor, Tensor]:
    """Bound `group_gap` by its 95 % interval over draws of the patients, each with all its films.

    Args:
        values: shape ``(n_films, n_columns)``, floating.
        attribute: shape ``(n_films,)``; NaN is unknown.
        patients: int64, shape ``(n_films,)``: films with the same number are of one patient.
        strata: int64, shape ``(n_films,)``, or None.
        seed: of the draws; every column sees the same ones.
        n_resamples: how many.

    Returns:
        Lower and upper end, each float64 ``(n_columns,)``; draws in which the attribute does not vary are left out.
        NaN where `group_gap` is, and with fewer than two patients.

    Raises:
        InputError: if the numbers of films differ.

    Notes:
        Everything comes from sums over each patient's films in each stratum, so that a draw costs patients x columns
        and never looks at a film again.
    """
    if len(patients) != len(attribute):
        raise InputError(f"'patients' must have one entry a film, got {len(patients)} for {len(attribute)} films")
    films, m, given = known_films(values, attribute, strata)
    number, n_patients = patient_numbers(patients[~attribute.isnan()])
    nothing = torch.full((values.shape[1],), torch.nan, dtype=torch.float64)
    m, spread = _attribute(m, given)
    if n_patients < 2 or spread.isnan():
        return nothing, nothing.clone()
    stratum, n_strata = patient_numbers(given)
    group = stratum * n_patients + number
    # Taken from the stratum's mean first, or the products of sums would eat the digits of a small spread.
    count, m_sum, mm_sum = (
        sums_by(group, n_strata * n_patients, torch.stack([torch.ones_like(m), m, m * m], dim=1))
        .reshape(n_strata, n_patients, 3)
        .unbind(dim=2)
    )
    ends = []
    for columns in torch.split(films, COLUMNS, dim=1):
        x = centred_within(columns, given)
        tables = [
            sums_by(group, n_strata * n_patients, table).reshape(n_strata, n_patients, -1)
            for table in (x, x * m[:, None])
        ]
        drawn = []
        for times in patient_draws(n_patients, n_resamples, seed):
            # A stratum that no drawn patient is in adds nothing.
            n = (count @ times.T).clamp(min=1)  # (n_strata, draws)
            m_of, square = m_sum @ times.T, mm_sum @ times.T
            x_of, product = (times @ table for table in tables)  # (n_strata, draws, columns)
            variation = (square - m_of * m_of / n).sum(dim=0)
            together = (product - x_of * (m_of / n)[:, :, None]).sum(dim=0)
            drawn.append(together / variation.masked_fill(variation <= FLAT * (m * m).sum(), torch.nan)[:, None])
        ends.append(interval(torch.cat(drawn)))
    return torch.cat([low for low, _ in ends]), torch.cat([high for _, high in ends])


def centred_within(values: Tensor, strata: Tensor) -> Tensor:
    """Take the mean of its stratum off every row: float64, of the shape of ``values``."""
    number, n_strata = patient_numbers(strata)
    films = torch.bincount(number, minlength=n_strata).double()
    means = sums_by(number, n_strata, values.double()) / films.reshape(-1, *(1,) * (values.ndim - 1))
    return values.double() - means[number]


def known_films(values: Tensor, attribute: Tensor, strata: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return the films whose attribute is known: values as they are, attribute in float64, strata, one for None.

    Raises:
        InputError: if the numbers of films differ.
    """
    strata = torch.zeros(len(attribute), dtype=torch.int64) if strata is None else strata
    if not len(values) == len(attribute) == len(strata):
        raise InputError(
            f"'values' holds {len(values)} films, 'attribute' {len(attribute)} and 'strata' {len(strata)}: one row a film"
        )
    known = ~attribute.isnan()
    return values[known], attribute[known].double(), strata[known]


def _attribute(m: Tensor, strata: Tensor) -> tuple[Tensor, Tensor]:
    """Return the attribute less its stratum's mean, and the sum of its squares, NaN if it does not vary."""
    centred = centred_within(m, strata)
    spread = (centred * centred).sum()
    return centred, spread.masked_fill(spread <= FLAT * (m * m).sum(), torch.nan)
