"""Sums by patient and draws of patients."""

import numpy as np
import pytest
import torch

from mammi.errors import InputError
from mammi.functional.patient_sums import interval, mean_interval, patient_draws, patient_numbers, sums_by


def test_as_by_drawing_films():
    rng = np.random.default_rng(0)
    patients = torch.from_numpy(np.repeat([9, 3, 7, 5], [1, 4, 2, 3]))
    values = torch.from_numpy(rng.normal(size=(10, 2)))
    mean, low, high = mean_interval(values, patients, seed=2, n_resamples=90)
    assert torch.allclose(mean, values.mean(dim=0))
    slow = []
    for times in patient_draws(4, 90, seed=2):
        for draw in times.tolist():
            rows = [
                n
                for k, name in enumerate((3, 5, 7, 9))
                for n in np.flatnonzero(patients == name).tolist() * int(draw[k])
            ]
            slow.append(values[rows].mean(dim=0).tolist())
    assert low.tolist() == pytest.approx(np.quantile(slow, 0.025, axis=0).tolist())
    assert high.tolist() == pytest.approx(np.quantile(slow, 0.975, axis=0).tolist())


def test_draws_hold_as_many_patients_as_there_are():
    times = torch.cat(list(patient_draws(13, 150, seed=0)))
    assert times.shape == (150, 13)
    assert (times.sum(dim=1) == 13).all()
    assert torch.equal(times, torch.cat(list(patient_draws(13, 150, seed=0))))


def test_one_patient_none_and_nan():
    mean, low, high = mean_interval(torch.tensor([[1.0], [3.0]]), torch.tensor([5, 5]))
    assert float(mean) == 2
    assert low.isnan().all()
    assert high.isnan().all()
    with pytest.raises(InputError, match="a film at least"):
        mean_interval(torch.empty(0, 1), torch.empty(0, dtype=torch.int64))
    low, high = interval(
        torch.tensor([[1.0, torch.nan], [2.0, torch.nan], [torch.nan, torch.nan]], dtype=torch.float64)
    )
    assert low.tolist()[0] == pytest.approx(1.025)
    assert high.isnan().tolist() == [False, True]


def test_sums_and_numbers():
    number, n = patient_numbers(torch.tensor([40, 2, 40]))
    assert (number.tolist(), n) == ([1, 0, 1], 2)
    assert sums_by(number, n, torch.tensor([1.0, 2.0, 4.0])).tolist() == [2, 5]
    assert patient_numbers(torch.empty(0, dtype=torch.int64))[1] == 0
