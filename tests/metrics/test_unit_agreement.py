import pytest
import torch

from mammi.errors import InputError
from mammi.functional.agreement import agreement
from mammi.metrics import UnitAgreement


def crafted():
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(41, 3, generator=generator) < 0.4).float()
    labels[7, 1] = float("nan")
    activations = torch.rand(41, 2, generator=generator) + labels[:, :2].nan_to_num()
    return activations, labels, [f"p{i // 2}" for i in range(41)]


def test_batches_and_merged_parts_equal_the_whole():
    activations, labels, patients = crafted()
    whole, left, right = UnitAgreement(), UnitAgreement(), UnitAgreement()
    whole.update(activations, labels, patients)
    for judge, a, b in ((left, 0, 5), (left, 5, 20), (right, 20, 41)):
        judge.update(activations[a:b], labels[a:b], patients[a:b])
    left.merge(right)
    left.merge(UnitAgreement())
    for name, value in vars(whole.compute(0.1)).items():
        torch.testing.assert_close(getattr(left.compute(0.1), name), value, equal_nan=True, rtol=0, atol=0)
        assert torch.equal(getattr(agreement(activations, labels, 0.1), name), value)
    assert all(map(torch.equal, left.interval(seed=1), whole.interval(seed=1)))


def test_named_pairs_are_the_tables_own_intervals():
    judge = UnitAgreement()
    judge.update(*crafted())
    low, high = judge.interval(seed=2, n_resamples=50)
    assert low.shape == high.shape == (2, 3)
    r = judge.compute().pearson
    assert ((low <= r) & (r <= high)).all()
    for table, pairs in zip((low, high), judge.interval([2, 1], seed=2, n_resamples=50), strict=True):
        torch.testing.assert_close(pairs, table[[0, 1], [2, 1]])


def test_patients_may_be_numbers():
    activations, labels, patients = crafted()
    named, numbered = UnitAgreement(), UnitAgreement()
    named.update(activations, labels, patients)
    numbered.update(activations, labels, [100 + int(name[1:]) for name in patients])
    torch.testing.assert_close(numbered.interval(seed=0)[0].isnan(), named.interval(seed=0)[0].isnan())


def test_what_does_not_fit_is_said():
    activations, labels, patients = crafted()
    judge = UnitAgreement()
    with pytest.raises(InputError, match=r"no film to judge by: call update\(\) first"):
        judge.compute()
    with pytest.raises(InputError, match="got 41, 41 and 40"):
        judge.update(activations, labels, patients[1:])
    judge.update(activations, labels, patients)
    with pytest.raises(InputError, match=r"2 units in the batches before, got shape \(41, 1\)"):
        judge.update(activations[:, :1], labels, patients)
    other = UnitAgreement()
    other.update(activations, labels[:, :2], patients)
    with pytest.raises(InputError, match=r"3 concepts in the batches before, got shape \(41, 2\)"):
        judge.merge(other)
    for pairs in ([0], [0, 3]):
        with pytest.raises(InputError, match="must name one of 3 concepts for each of 2 units"):
            judge.interval(pairs, seed=0)
