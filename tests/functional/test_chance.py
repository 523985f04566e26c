import math

import numpy as np
import pytest
import torch
from scipy.stats import false_discovery_control

from mammi.errors import InputError
from mammi.functional.chance import (
    ExtremeLaw,
    adjusted,
    benjamini_hochberg,
    extreme_p_values,
    patient_folds,
    patient_resamples,
    patient_shuffles,
)

PATIENTS = torch.tensor([7, 3, 7, 9, 3, 7, 4, 7, 4])
BLOCKS = {3: [1, 4], 4: [6, 8], 7: [0, 2, 5, 7], 9: [3]}


def places_of(patients):
    return {name: [i for i, p in enumerate(patients.tolist()) if p == name] for name in sorted(set(patients.tolist()))}


def test_patients_change_places_whole_and_in_order():
    seen = set()
    for dealt in patient_shuffles(PATIENTS, 200, 0):
        assert dealt.dtype == torch.int64
        partner = {}
        for name, places in BLOCKS.items():
            films = [dealt[place].item() for place in places]
            (partner[name],) = {PATIENTS[film].item() for film in films}
            lent = BLOCKS[partner[name]]
            assert films == [lent[rank % len(lent)] for rank in range(len(places))]
        assert sorted(partner.values()) == [3, 4, 7, 9]  # every patient is dealt once
        seen.add(tuple(partner.values()))
    assert len(seen) == math.factorial(4)


def test_shuffles_equal_a_slow_re_derivation():
    generator = np.random.default_rng(5)
    names = list(BLOCKS)
    for dealt in patient_shuffles(PATIENTS, 4, 5):
        order = generator.permutation(4)
        for number, name in enumerate(names):
            lent = BLOCKS[names[order[number]]]
            assert [dealt[place].item() for place in BLOCKS[name]] == [
                lent[rank % len(lent)] for rank in range(len(BLOCKS[name]))
            ]


def test_patients_of_equal_size_are_permuted_film_by_film():
    for patients in (torch.arange(12), torch.arange(12) // 3, torch.arange(12) % 4):
        for dealt in patient_shuffles(patients, 20, 1):
            assert sorted(dealt.tolist()) == list(range(12))
    assert all(
        torch.equal(dealt, torch.arange(5)) for dealt in patient_shuffles(torch.zeros(5, dtype=torch.int64), 3, 0)
    )


def test_the_null_is_as_wide_as_chance_for_units_alike_within_patients():
    """Blocks laid end to end would be cut apart, and give a null two thirds as wide in variance."""
    generator = torch.Generator().manual_seed(0)
    numbers = torch.repeat_interleave(torch.arange(120), torch.randint(1, 7, (120,), generator=generator))
    own = torch.randn(120, 2, 400, generator=generator, dtype=torch.float64)[numbers]
    unit, film = own[:, 0] - own[:, 0].mean(dim=0), own[:, 1]
    chance = (unit * film).sum(dim=0).square().mean()
    null = torch.stack([(unit * film[dealt]).sum(dim=0) for dealt in patient_shuffles(numbers, 40, 0)]).square().mean()
    assert 0.8 < null / chance < 1.25


def test_resamples_draw_whole_patients():
    counts = list(patient_resamples(PATIENTS, 300, 2))
    for drawn in counts:
        assert drawn.dtype == torch.int64
        per_patient = {name: {drawn[place].item() for place in places} for name, places in BLOCKS.items()}
        assert all(len(times) == 1 for times in per_patient.values())
        assert sum(times.pop() for times in per_patient.values()) == 4
    mean = torch.stack(counts).double().mean(dim=0)
    assert (mean - 1).abs().max() < 0.2


def test_folds_never_split_a_patient_and_are_even():
    patients = torch.randint(1000, 1090, (400,), generator=torch.Generator().manual_seed(0))
    folds = patient_folds(patients, 5, 3)
    assert folds.dtype == torch.int64
    sizes = dict.fromkeys(range(5), 0)
    for places in places_of(patients).values():
        (fold,) = set(folds[places].tolist())
        sizes[fold] += 1
    assert max(sizes.values()) - min(sizes.values()) <= 1
    few = patient_folds(PATIENTS, 5, 0)
    assert len(set(few.tolist())) == 4
    assert set(patient_folds(torch.zeros(3, dtype=torch.int64), 5, 0).tolist()) == {0}


@pytest.mark.parametrize(
    "deal",
    [
        lambda patients, seed: torch.stack(list(patient_shuffles(patients, 3, seed))),
        lambda patients, seed: torch.stack(list(patient_resamples(patients, 3, seed))),
        lambda patients, seed: patient_folds(patients, 5, seed),
    ],
)
def test_only_the_seed_and_the_order_of_patients_numbers_count(deal):
    assert torch.equal(deal(PATIENTS, 0), deal(PATIENTS, 0))
    assert torch.equal(deal(PATIENTS, 0), deal(PATIENTS * 10 + 3, 0))
    assert any(not torch.equal(deal(PATIENTS, 0), deal(PATIENTS, seed)) for seed in range(1, 4))


def test_folds_and_resamples_follow_films_that_move():
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    assert torch.equal(patient_folds(PATIENTS[order], 3, 0), patient_folds(PATIENTS, 3, 0)[order])
    for moved, drawn in zip(patient_resamples(PATIENTS[order], 5, 0), patient_resamples(PATIENTS, 5, 0), strict=True):
        assert torch.equal(moved, drawn[order])


def slow_p_values(observed, null):
    found = []
    for values, column in zip(observed.reshape(len(observed), -1).tolist(), null.T.tolist(), strict=True):
        mean = sum(column) / len(column)
        deviation = math.sqrt(sum((x - mean) ** 2 for x in column) / (len(column) - 1))
        scale = deviation * math.sqrt(6) / math.pi
        place = mean - 0.57721566490153 * scale
        tails = [1 - math.exp(-math.exp(-(value - place) / scale)) for value in values]
        found.append([min(1.0, max(tail, 0.1 / null.numel())) for tail in tails])
    return torch.tensor(found, dtype=torch.float64).reshape(observed.shape)


@pytest.mark.parametrize("shape", [(6,), (6, 4)])
def test_p_values_equal_the_formula(shape):
    generator = torch.Generator().manual_seed(0)
    null = 3 + torch.rand(25, 6, generator=generator, dtype=torch.float64) * torch.arange(1, 7)
    observed = 9 * torch.rand(shape, generator=generator, dtype=torch.float64)
    observed[0] = 100.0
    found = extreme_p_values(observed, null)
    torch.testing.assert_close(found, slow_p_values(observed, null), atol=1e-12, rtol=1e-9)
    assert found[0].max() == found[0].min() == pytest.approx(0.1 / 150)
    assert found.min() > 0
    assert found.max() <= 1


def test_one_law_serves_any_of_its_units():
    generator = torch.Generator().manual_seed(0)
    null = torch.rand(25, 6, generator=generator, dtype=torch.float64) * torch.arange(1, 7)
    observed = 9 * torch.rand(6, 3, generator=generator, dtype=torch.float64)
    every = extreme_p_values(observed, null)
    units, places = torch.tensor([4, 0, 4, 5]), torch.tensor([2, 1, 0, 0])
    torch.testing.assert_close(ExtremeLaw.of(null).p_values(observed[units, places], units), every[units, places])
    assert extreme_p_values(observed[:, :0], null).shape == (6, 0)


def test_the_tail_is_exact_where_1_less_it_is_not():
    """Far out, 1 - exp(-exp(-x)) is exp(-x); computed as written it would be 0."""
    generator = torch.Generator().manual_seed(0)
    null = torch.rand(100, 10**5, generator=generator)
    null = (null - null.mean(dim=0)) / null.std(dim=0)
    observed = torch.full((10**5,), 11.0)
    x = 11 * math.pi / math.sqrt(6) + 0.5772156649015329
    torch.testing.assert_close(extreme_p_values(observed, null)[0].item(), math.exp(-x), rtol=1e-3, atol=0)


def test_a_null_needs_shuffles():
    with pytest.raises(InputError, match="a null needs at least 20 shuffles, got 19"):
        extreme_p_values(torch.zeros(2), torch.zeros(19, 2))


def test_rounding_is_no_discovery():
    null = torch.full((20, 3), 4.0, dtype=torch.float64)
    null[:, 2] = 0
    p_values = extreme_p_values(torch.tensor([4.0 + 1e-6, 4.0 - 1e-6, 0.0], dtype=torch.float64), null)
    assert (p_values - 0.43).abs().max() < 0.01
    assert extreme_p_values(torch.tensor([5.0], dtype=torch.float64), null[:, :1]).item() == pytest.approx(0.1 / 20)


def gumbels(generator, *shape):
    return -torch.log(-torch.log(torch.rand(shape, generator=generator, dtype=torch.float64)))


def maxima(generator, *shape):
    """Largest of 300 correlated standard normals, 12 of them independent."""
    axes = torch.randn(12, 300, generator=generator, dtype=torch.float64)
    return (torch.randn(*shape, 12, generator=generator, dtype=torch.float64) @ (axes / axes.norm(dim=0))).amax(dim=-1)


@pytest.mark.parametrize(("draw", "least"), [(gumbels, 0.8), (maxima, 0.25)])
@pytest.mark.parametrize("level", [0.05, 0.01])
def test_as_many_are_rejected_as_the_level_says(draw, least, level):
    """Gumbel maxima at the level; those of normals, whose tail is shorter, at or under it. 4 standard errors."""
    generator = torch.Generator().manual_seed(1)
    null, observed = draw(generator, 100, 4000), draw(generator, 4000)
    p_values = extreme_p_values(observed, null)
    share, error = (p_values < level).double().mean().item(), math.sqrt(level * (1 - level) / 4000)
    # 100 shuffles leave the fit uncertain, which costs some of the level far out.
    assert least * level - 4 * error < share < level * (1.1 if level == 0.05 else 1.3) + 4 * error
    if draw is gumbels:
        middle = p_values.sort().values[::40]
        assert (middle - torch.arange(100) / 100).abs().max() < 0.05


def slow_q_values(p_values):
    n = len(p_values)
    ordered = sorted(p_values)
    return [min(1.0, *(n * p / (j + 1) for j, p in enumerate(ordered) if p >= value)) if n else 1 for value in p_values]


@pytest.mark.parametrize("n", [1, 2, 7, 50])
@pytest.mark.parametrize("seed", range(4))
def test_q_values_equal_the_formula_and_scipy(n, seed):
    rng = np.random.default_rng(seed)
    p_values = rng.uniform(size=n) ** 3
    if seed % 2:
        p_values = np.ceil(p_values * 5) / 5  # ties, ones
    found = benjamini_hochberg(torch.from_numpy(p_values))
    np.testing.assert_allclose(found, slow_q_values(p_values.tolist()), atol=1e-15)
    np.testing.assert_allclose(found, false_discovery_control(p_values), atol=1e-15)


def test_p_values_outside_the_family():
    family = torch.tensor([0.04, 0.001, 0.04, 0.5], dtype=torch.float64)
    # q of the family: 0.04 * 4 / 3 twice, 0.004, 0.5.
    asked = torch.tensor([[0.0, 0.001, 0.002], [0.04, 0.041, 0.5], [0.6, 0.9, 1.0]], dtype=torch.float64)
    third = 0.16 / 3
    expected = [[0.004, 0.004, third], [third, 0.5, 0.5], [0.6, 0.9, 1.0]]
    torch.testing.assert_close(adjusted(asked, family), torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(adjusted(asked.T, family), torch.tensor(expected, dtype=torch.float64).T)
    torch.testing.assert_close(adjusted(family, family), benjamini_hochberg(family))
    grid = torch.linspace(0, 1, 101, dtype=torch.float64)
    assert (adjusted(grid, family).diff() >= 0).all()
    assert adjusted(asked, family[:0]).tolist() == [[1.0] * 3] * 3
    assert adjusted(asked[:0], family).shape == (0, 3)


def test_false_discoveries_are_held():
    """Among 800 true nulls and 200 effects, 5 % of what is found is false, on average."""
    generator = torch.Generator().manual_seed(0)
    shares = []
    for _ in range(60):
        null = torch.rand(800, generator=generator, dtype=torch.float64)
        effect = torch.rand(200, generator=generator, dtype=torch.float64) * 0.002
        found = benjamini_hochberg(torch.cat([null, effect])) <= 0.05
        shares.append(found[:800].sum().item() / max(1, found.sum().item()))
    assert 0.03 < np.mean(shares) < 0.05
