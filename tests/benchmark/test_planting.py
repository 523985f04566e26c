"""Each kind of unit does what its line in the tables says, and nothing else."""

import numpy as np
import pytest

from mammi.benchmark import KINDS, MEANINGLESS, plant, planting
from mammi.benchmark.planting import Label
from mammi.errors import InputError

N_FILMS = 6000
PATIENTS = np.repeat(np.arange(1500) * 7 + 3, 4)


def labels():
    """Three common findings, a device, a rare finding; the last two share a concept; one has sides."""
    rng = np.random.default_rng(4)
    a, b, c, device = (rng.random(N_FILMS) < share for share in (0.3, 0.2, 0.25, 0.4))
    rare = np.zeros(N_FILMS, dtype=bool)
    rare[[50, 3000, 5999]] = True
    left = a & (rng.random(N_FILMS) < 0.5)
    return [
        Label("a", a, frozenset({0, 1}), sides=(("left", left, frozenset({1})), ("right", a & ~left, frozenset()))),
        Label("b", b, frozenset({2})),
        Label("c", c, frozenset({2, 3})),
        Label("device", device, frozenset({4}), device=True),
        Label("rare", rare, frozenset({5}), rare=True, sides=(("left", rare, frozenset({5})),)),
    ]


@pytest.fixture(scope="module")
def units():
    return plant(labels(), PATIENTS, seed=0)


def of(units, kind):
    return [unit for unit in units if unit.kind == kind]


def assert_fires(unit, where, noise=0.25):
    """It is about 1 (0.6 to 1.4) where it should, 0 elsewhere, over noise of this size."""
    on, off = unit.activation[where], unit.activation[~where]
    assert on.mean() == pytest.approx(1, abs=(5 if len(on) > 50 else 2) * np.hypot(noise, 0.25) / len(on) ** 0.5)
    assert off.mean() == pytest.approx(0, abs=5 * noise / len(off) ** 0.5)
    assert off.std() == pytest.approx(noise, rel=0.1)
    if len(on) > 50:
        assert on.std() == pytest.approx(np.sqrt(0.8**2 / 12 + noise**2), rel=0.1)


def test_every_kind_is_there_and_no_other(units):
    assert {unit.kind for unit in units} == {*KINDS, *MEANINGLESS}
    assert not KINDS.keys() & MEANINGLESS.keys()
    for unit in units:
        assert unit.activation.shape == (N_FILMS,)
        assert unit.activation.dtype == np.float64
        assert np.isfinite(unit.activation).all()
        assert bool(unit.truths) == (unit.kind in KINDS)
        assert unit.absent == (unit.kind == "negative")


def test_one_finding_one_device_one_rare_finding(units):
    a, b, c, device, rare = labels()
    assert [unit.says for unit in of(units, "single")] == ["a", "b", "c"]
    for kind, known in (("single", [a, b, c]), ("device", [device]), ("rare", [rare])):
        found = of(units, kind)
        assert len(found) == len(known)
        for unit, label in zip(found, known, strict=True):
            assert_fires(unit, label.present)
            assert unit.truths == label.concepts


def test_a_rare_label_plants_nothing_else(units):
    assert [unit.kind for unit in units if "rare" in unit.says] == ["rare"]


def test_sides_that_a_concept_names(units):
    (unit,) = of(units, "side")  # no concept names a right-sided a
    assert (unit.says, unit.truths) == ("left a", frozenset({1}))
    assert_fires(unit, labels()[0].sides[0][1])


@pytest.mark.parametrize("noise", [0.5, 1, 2])
def test_weak_units(units, noise):
    found = of(units, f"weak {noise}")
    assert [unit.says for unit in found] == ["a", "b", "c", "device"]
    for unit, label in zip(found, labels(), strict=False):
        assert_fires(unit, label.present, noise)
        assert unit.truths == label.concepts


def test_absence(units):
    found = of(units, "negative")
    assert [unit.says for unit in found] == ["not a", "not b", "not c", "not device"]
    for unit, label in zip(found, labels(), strict=False):
        assert_fires(unit, ~label.present)
        assert unit.truths == label.concepts


def test_two_at_once(units):
    known = {label.name: label for label in labels()}
    kinds = {"and": " and ", "or": " or ", "and-not": " and not ", "polysemantic": "; weaker "}
    drawn = {kind: [tuple(unit.says.split(word)) for unit in of(units, kind)] for kind, word in kinds.items()}
    pairs = drawn["and"]
    assert all(found == pairs for found in drawn.values())
    assert len(set(pairs)) == len(pairs)
    assert set(pairs) == {(x, y) for x in known for y in known if x != y and {x, y} != {"b", "c"}} - {
        pair for pair in ((x, y) for x in known for y in known) if "rare" in pair
    }
    for place, (one, other) in enumerate(pairs):
        a, b = known[one].present, known[other].present
        both = known[one].concepts | known[other].concepts
        assert_fires(of(units, "and")[place], a & b)
        assert_fires(of(units, "or")[place], a | b)
        assert_fires(of(units, "and-not")[place], a & ~b)
        assert [of(units, kind)[place].truths for kind in ("and", "or", "and-not")] == [both, both, known[one].concepts]
        two = of(units, "polysemantic")[place]
        assert two.truths == both
        # The larger of two strengths over noise, the second with 0.8 of the strength and of the noise.
        rng = np.random.default_rng(0)
        x, y = rng.uniform(0.6, 1.4, (2, 10**5)) * np.array([[1], [0.8]])
        n, m = rng.standard_normal((2, 10**5)) * np.array([[0.25], [0.2]])
        for where, expected in (
            (a & ~b, np.maximum(x + n, m).mean()),
            (~a & b, np.maximum(n, y + m).mean()),
            (~a & ~b, np.maximum(n, m).mean()),
        ):
            assert two.activation[where].mean() == pytest.approx(expected, abs=0.05)


def test_pairs_are_of_unlike_labels_that_meet_and_part(monkeypatch):
    monkeypatch.setattr(planting, "PAIRS", 5)
    present = np.zeros((4, 60), dtype=bool)
    present[0, :30] = True
    present[1, 25:50] = True  # meets the first on 5 films: too few
    present[2, 24:40] = True  # meets the first on 6, the second on 15, and is without the second on 1: too few
    present[3, :58] = True  # holds all of the first
    made = [Label(str(i), row, frozenset({i})) for i, row in enumerate(present)]
    pairs = {unit.says for unit in plant(made, np.arange(60), seed=1) if unit.kind == "and"}
    able = {"0 and 2", "2 and 0", "1 and 2", "3 and 0", "3 and 1", "3 and 2"}
    assert len(pairs) == 5
    assert pairs <= able
    seeds = [{unit.says for unit in plant(made, np.arange(60), seed=s) if unit.kind == "and"} for s in range(20)]
    assert set().union(*seeds) == able


def test_what_means_nothing(units):
    for kind in MEANINGLESS:
        assert len(of(units, kind)) == planting.NOISES
    for unit in of(units, "dead"):
        assert not unit.activation.any()
    for unit in of(units, "constant"):
        assert len(set(unit.activation)) == 1
        assert 0.1 <= unit.activation[0] <= 5
    assert len({unit.activation[0] for unit in of(units, "constant")}) == planting.NOISES
    for unit in of(units, "noise"):
        assert unit.activation.mean() == pytest.approx(0, abs=0.06)
        assert unit.activation.std() == pytest.approx(1, rel=0.05)
    for unit in of(units, "noise, heavy tails"):
        assert unit.activation.min() >= 0
        assert unit.activation.max() > 10 * unit.activation.std() / 2  # Gaussian noise would reach 4 deviations
        assert unit.activation.mean() == pytest.approx(2, rel=0.25)


def test_noise_by_patient_is_the_same_for_a_patient_but_for_a_little(units):
    for unit in of(units, "noise by patient"):
        table = unit.activation.reshape(1500, 4)  # the films of a patient
        assert table.std(axis=1, ddof=1).mean() == pytest.approx(0.3 * 0.92, rel=0.06)  # 0.92: of four draws
        assert table.mean(axis=1).std() == pytest.approx(np.hypot(1, 0.15), rel=0.1)
    order = np.random.default_rng(0).permutation(N_FILMS)
    shuffled = of(plant(labels()[:1], PATIENTS[order], seed=0), "noise by patient")[0].activation
    table = shuffled[order.argsort()].reshape(1500, 4)
    assert table.std(axis=1, ddof=1).mean() < 0.3  # by the number of the patient, wherever the films stand


def test_the_same_seed_gives_the_same_units(units):
    again, other = plant(labels(), PATIENTS, seed=0), plant(labels(), PATIENTS, seed=1)
    assert [unit.says for unit in again] == [unit.says for unit in units]
    for unit, same in zip(units, again, strict=True):
        np.testing.assert_array_equal(unit.activation, same.activation)
    for unit, new in zip(of(units, "single"), of(other, "single"), strict=True):
        assert not np.array_equal(unit.activation, new.activation)


def test_nothing_random_of_the_process_is_used_or_changed():
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - that it is left alone
    plant(labels(), PATIENTS, seed=0)
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002


def test_labels_that_nothing_names_or_that_tell_nothing_apart_are_left_out():
    everywhere, nowhere = np.ones(N_FILMS, dtype=bool), np.zeros(N_FILMS, dtype=bool)
    a = labels()[0]
    useless = [
        Label("unnamed", a.present, frozenset()),
        Label("everywhere", everywhere, frozenset({6})),
        Label("nowhere", nowhere, frozenset({7}), rare=True),
    ]
    made = plant([*useless, a], PATIENTS, seed=0)
    assert {unit.says for unit in made if unit.kind in KINDS} == {"a", "left a", "not a"}
    with pytest.raises(InputError, match="no label to plant units from: labels must be named by a concept"):
        plant(useless, PATIENTS, seed=0)
    with pytest.raises(InputError, match="no label to plant units from"):
        plant([], PATIENTS, seed=0)
    with pytest.raises(InputError, match="one entry a film, 5999"):
        plant([a], PATIENTS[1:], seed=0)
