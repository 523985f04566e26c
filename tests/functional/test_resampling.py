import math

import numpy as np
import pytest
import torch

from mammi.errors import InputError
from mammi.functional.resampling import percentile_interval, resampled_means


def test_means_equal_rows_taken_again():
    values = torch.tensor([[1.0, math.nan, 5.0], [2.0, 7.0, math.nan], [4.0, 1.0, math.nan], [8.0, 0.0, math.nan]])
    resampled = resampled_means(values.double(), resamples=30, seed=2)
    draws = torch.randint(4, (30, 4), generator=torch.Generator().manual_seed(2)).tolist()
    missing = 0
    for row, draw in enumerate(draws):
        for column in range(3):
            taken = [v for i in draw if not math.isnan(v := values[i, column].item())]
            slow = sum(taken) / len(taken) if taken else math.nan
            missing += math.isnan(slow)
            assert resampled[row, column].item() == pytest.approx(slow, nan_ok=True)
    assert missing


def test_columns_are_resampled_together():
    values = torch.randn(50, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    resampled = resampled_means(torch.cat([values, values + 1], dim=1))
    torch.testing.assert_close(resampled[:, 1] - resampled[:, 0], torch.ones(1000, dtype=torch.float64))


def test_the_interval_of_a_mean_is_about_two_standard_errors():
    values = torch.randn(400, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    low, high = percentile_interval(resampled_means(values)[:, 0])
    assert (high - low) / 2 == pytest.approx(1.96 * values.std().item() / 20, rel=0.1)
    assert low < values.mean() < high


def test_the_interval_equals_numpy_and_leaves_nan_out():
    samples = torch.tensor([3.0, 1.0, math.nan, 2.0, 10.0])
    assert percentile_interval(samples, 0.5) == pytest.approx(np.nanpercentile(samples, [25, 75]))
    assert all(math.isnan(end) for end in percentile_interval(torch.full((3,), math.nan)))


def test_no_row_and_no_table():
    assert torch.isnan(resampled_means(torch.empty(0, 2, dtype=torch.float64), 4)).all()
    with pytest.raises(InputError, match=r"\(n_rows, n_columns\), got \(3,\)"):
        resampled_means(torch.zeros(3))
