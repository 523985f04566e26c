import math

import pytest
import torch

from mammi.errors import InputError
from mammi.functional import patient_bootstrap as room
from mammi.functional.agreement import pearson
from mammi.functional.patient_bootstrap import pearson_interval

NAN = float("nan")


def crafted(n_patients=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    patients = torch.arange(n_patients).repeat_interleave(torch.arange(n_patients) % 3 + 1) * 10 + 5
    patients = patients[torch.randperm(len(patients), generator=generator)]
    labels = (torch.rand(len(patients), 3, generator=generator) < 0.5).float()
    labels[2, 0] = labels[5, 0] = NAN
    activations = torch.rand(len(patients), 3, generator=generator) + labels.nan_to_num() + 100
    return activations, labels, patients


def test_the_interval_equals_resampling_films_patient_by_patient(monkeypatch):
    monkeypatch.setattr(room, "TILE", 7)
    activations, labels, patients = crafted()
    labels[:, 1] = (patients == 25).float()  # resamples without this patient say nothing
    low, high = pearson_interval(activations, labels, patients, seed=3, n_resamples=25, level=0.8)
    generator = torch.Generator().manual_seed(3)
    names = sorted(set(patients.tolist()))
    for pair in range(3):
        values = []
        for start in range(0, 25, 7):
            for choice in torch.randint(9, (min(7, 25 - start), 9), generator=generator).tolist():
                films = [i for c in choice for i in range(len(patients)) if patients[i] == names[c]]
                values.append(pearson(activations[films][:, [pair]], labels[films][:, [pair]]).item())
        generator.manual_seed(3)
        values = sorted(v for v in values if not math.isnan(v))
        for bound, q in ((low, 0.1), (high, 0.9)):
            place = q * (len(values) - 1)
            below = math.floor(place)
            slow = values[below] + (place - below) * (values[min(below + 1, len(values) - 1)] - values[below])
            assert bound[pair].item() == pytest.approx(slow, abs=1e-9)


def test_the_interval_holds_the_correlation_and_one_concept_serves_all_units():
    activations, labels, patients = crafted(40)
    low, high = pearson_interval(activations, labels[:, :1], patients, seed=0)
    r = pearson(activations, labels[:, :1])[:, 0]
    assert ((low <= r) & (r <= high)).all()
    apart = pearson_interval(activations, labels[:, :1].expand(-1, 3), patients, seed=0)
    assert torch.equal(low, apart[0])
    assert torch.equal(high, apart[1])


def test_films_copied_within_a_patient_do_not_narrow_the_interval():
    generator = torch.Generator().manual_seed(1)
    labels = (torch.rand(60, 1, generator=generator) < 0.4).float()
    activations = labels + torch.randn(60, 1, generator=generator)
    patients = torch.arange(60)
    low, high = pearson_interval(activations, labels, patients, seed=0)
    copies = [table.repeat(10, *[1] * (table.ndim - 1)) for table in (activations, labels, patients)]
    again = pearson_interval(*copies, seed=0)
    torch.testing.assert_close(torch.stack(again), torch.stack([low, high]))
    fooled = pearson_interval(*copies[:2], torch.arange(600), seed=0)
    assert fooled[1] - fooled[0] < 0.5 * (high - low)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    generator = torch.Generator().manual_seed(2)
    labels = (torch.rand(200, 400, generator=generator) < 0.5).double()
    activations = labels + torch.randn(200, 400, generator=generator, dtype=torch.float64)
    low, high = pearson_interval(activations, labels, torch.arange(200), seed=0, n_resamples=300)
    truth = 0.25 / (0.5 * math.sqrt(1.25))  # covariance 0.25, deviations 0.5 and sqrt(0.25 + 1)
    covered = ((low <= truth) & (truth <= high)).double().mean().item()
    assert 0.91 < covered < 0.98


def test_seed_and_order_of_films():
    activations, labels, patients = crafted(30)
    first = pearson_interval(activations, labels, patients, seed=0)
    assert all(map(torch.equal, first, pearson_interval(activations, labels, patients, seed=0)))
    assert not torch.equal(first[0], pearson_interval(activations, labels, patients, seed=1)[0])
    order = torch.randperm(len(patients), generator=torch.Generator().manual_seed(0))
    moved = pearson_interval(activations[order], labels[order], patients[order], seed=0)
    torch.testing.assert_close(torch.stack(moved), torch.stack(first))


def test_what_cannot_be_resampled_is_nan():
    activations, labels, patients = crafted()
    activations[:, 0] = 0.1
    activations[1, 1] = NAN
    labels[:, 2] = 1
    for bound in pearson_interval(activations, labels, patients, seed=0):
        assert bound.isnan().all()
    one = torch.zeros_like(patients)
    assert pearson_interval(torch.rand(len(one), 3), crafted()[1], one, seed=0)[0].isnan().all()
    activations[1, 1] = 0
    labels[1, 1] = NAN
    activations[1, 1] = NAN  # unknown there: costs nothing
    assert not pearson_interval(activations, labels, patients, seed=0)[0][1].isnan()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"concepts": torch.zeros(18, 2)}, "must have 1 column or 3, one a unit, got 2"),
        ({"patients": torch.zeros(18)}, r"'patients' must be int64 \(18,\), got torch.float32 \(18,\)"),
        ({"n_resamples": 0}, "need 1 resample or more"),
        ({"level": 1.0}, r"a level in \(0, 1\)"),
    ],
)
def test_bad_arguments_are_named(change, match):
    activations, labels, patients = crafted()
    with pytest.raises(InputError, match=match):
        pearson_interval(**{"activations": activations, "concepts": labels, "patients": patients, "seed": 0} | change)
