"""How far a mean would move with other units or other patients: percentile intervals of the bootstrap."""

import torch
from torch import Tensor

from mammi.errors import InputError

__all__ = ["percentile_interval", "resampled_means"]


def resampled_means(values: Tensor, resamples: int = 1000, seed: int = 0) -> Tensor:
    """Take the means of several columns again and again, on rows drawn with replacement.

    All columns see the same draws, so that the difference of two columns is a paired one.

    Args:
        values: float64, shape ``(n_rows, n_columns)``; NaN where a row has no value for a column.
        resamples: how often.
        seed: of the draws.

    Returns:
        float64, shape ``(resamples, n_columns)``: means over the drawn rows that have a value; NaN where none has.

    Raises:
        InputError: if ``values`` is not 2-D.
    """
    if values.ndim != 2:
        raise InputError(f"'values' must be (n_rows, n_columns), got {tuple(values.shape)}")
    n_rows = len(values)
    if not n_rows:
        return torch.full((resamples, values.shape[1]), torch.nan, dtype=torch.float64)
    draws = torch.randint(n_rows, (resamples, n_rows), generator=torch.Generator().manual_seed(seed))
    times = torch.zeros(resamples, n_rows, dtype=torch.float64).scatter_add_(
        1, draws, torch.ones(resamples, n_rows, dtype=torch.float64)
    )
    has = ~torch.isnan(values)
    return (times @ values.nan_to_num(0)) / (times @ has.double())


def percentile_interval(samples: Tensor, level: float = 0.95) -> tuple[float, float]:
    """Return the middle share ``level`` of a statistic's resamples (Efron, Tibshirani, 1993, chapter 13).

    Args:
        samples: float64, shape ``(resamples,)``; NaN is left out.
        level: in (0, 1).

    Returns:
        The lower and upper end, by linear interpolation; NaN where no resample has a value.
    """
    tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = torch.nanquantile(samples.double(), tails).tolist()
    return low, high
