import numpy as np
import pytest
import torch

from mammi.errors import InputError
from mammi.functional.patient_split import split_patients


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("n_films", "n_patients"), [(300, 300), (300, 60), (37, 12)])
def test_parts_share_no_patient_and_hold_their_share(seed, n_films, n_patients):
    patients = torch.from_numpy(np.random.default_rng(seed).integers(0, n_patients, size=n_films))
    parts = split_patients(patients, seed=seed)
    owners = [set(patients[films].tolist()) for films in parts]
    assert not owners[0] & owners[1]
    assert not owners[0] & owners[2]
    assert not owners[1] & owners[2]
    assert sorted(torch.cat(parts).tolist()) == list(range(n_films))
    largest = int(patients.bincount().max())
    for films, share in zip(parts[1:], (0.1, 0.2), strict=True):
        wanted = max(3, share * n_films)
        assert wanted <= len(films) < wanted + max(1, largest)
        assert films.tolist() == sorted(films.tolist())


def test_exact_shares_where_each_film_has_its_patient():
    assert [len(films) for films in split_patients(torch.arange(30))] == [21, 3, 6]
    assert [len(films) for films in split_patients(torch.arange(1000))] == [700, 100, 200]
    assert [len(films) for films in split_patients(torch.arange(100), 0.14, 0.07)] == [79, 14, 7]  # 0.07 * 100 > 7
    assert [len(films) for films in split_patients(torch.arange(9))] == [3, 3, 3]


def test_order_of_films_changes_nothing_and_the_seed_does():
    patients = torch.from_numpy(np.random.default_rng(3).integers(0, 40, size=120))
    order = torch.from_numpy(np.random.default_rng(4).permutation(120))
    for plain, moved in zip(split_patients(patients), split_patients(patients[order]), strict=True):
        assert sorted(order[moved].tolist()) == plain.tolist()
    assert not torch.equal(split_patients(patients, seed=1)[2], split_patients(patients)[2])
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    split_patients(patients)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    "patients", [torch.arange(8), torch.zeros(50, dtype=torch.int64), torch.arange(2), torch.arange(0)]
)
def test_too_few_patients_are_refused(patients):
    with pytest.raises(InputError, match=rf"{len(patients)} films of \d+ patients are too few to split by patient"):
        split_patients(patients)


def test_shares_must_leave_a_rest():
    with pytest.raises(InputError, match=r"must be shares that leave a rest, got 0\.5 and 0\.5"):
        split_patients(torch.arange(50), 0.5, 0.5)
