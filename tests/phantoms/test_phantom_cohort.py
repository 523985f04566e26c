"""The same seed is the same bytes, any film can be drawn alone, and patients keep their anatomy."""

from dataclasses import replace

import numpy as np
import pytest

from mammi.errors import InputError
from mammi.phantoms.catalogue import DEVICES, FINDINGS, OUTPUTS, SIDED, SYNONYMS, is_named
from mammi.phantoms.cohort import Cohort


def test_same_seed_same_bytes_and_another_seed_another_film():
    first, again, other = (Cohort(5, seed=seed).film(3) for seed in (1, 1, 2))
    assert first.plan == again.plan
    assert first.pixels.tobytes() == again.pixels.tobytes()
    assert first.masks.keys() == again.masks.keys()
    assert all((first.masks[name] == again.masks[name]).all() for name in first.masks)
    assert first.pixels.tobytes() != other.pixels.tobytes()
    assert first.plan.view != other.plan.view
    assert first.plan.patient != other.plan.patient


def test_a_film_alone_equals_the_film_in_a_cohort_of_any_length():
    in_order = list(Cohort(7, seed=4))
    alone = Cohort(5000, seed=4)
    for index in (6, 0, 3):
        assert alone.film(index).pixels.tobytes() == in_order[index].pixels.tobytes()
        assert alone.film(index).labels == in_order[index].labels


def test_drawing_leaves_the_global_generator_alone():
    state = np.random.get_state()[1].tolist()  # noqa: NPY002 - the very thing that must not move
    Cohort(2, seed=0).film(1)
    assert np.random.get_state()[1].tolist() == state  # noqa: NPY002


def test_films_of_one_patient_share_the_anatomy_and_what_lasts_but_not_the_exposure():
    plans = [Cohort(800, seed=3).plan(index) for index in range(800)]
    by_patient = {}
    for plan in plans:
        by_patient.setdefault(plan.patient.id, []).append(plan)
    counts = {len(group) for group in by_patient.values()}
    assert counts == {1, 2, 3, 4}
    for group in by_patient.values():
        assert len({plan.patient for plan in group}) == 1
        assert len({plan.view.seed for plan in group}) == len(group)
        assert len({tuple(f for f in plan.findings if f.name == "pacemaker") for plan in group}) == 1


def test_every_label_is_neither_rare_nor_common_and_some_films_are_normal():
    plans = [Cohort(1500, seed=5).plan(index) for index in range(1500)]
    rates = {name: np.mean([plan.has(name) for plan in plans]) for name in OUTPUTS}
    assert all(0.04 < rates[name] < 0.25 for name in OUTPUTS if name != "side marker"), rates
    counts = [sum(finding.name in FINDINGS for finding in plan.findings) for plan in plans]
    assert 0.1 < np.mean(np.equal(counts, 0)) < 0.4
    assert max(counts) <= 5
    assert {plan.view.projection for plan in plans} == {"PA", "AP"}
    assert any(plan.view.portable for plan in plans)


def test_each_label_is_listed_once_on_a_film_and_sides_go_with_those_that_have_one():
    for index in range(300):
        findings = Cohort(300, seed=6).plan(index).findings
        assert len({finding.name for finding in findings}) == len(findings)
        for finding in findings:
            if finding.name != "side marker":
                assert bool(finding.sides) == (finding.name in SIDED)


def test_size_is_a_choice():
    plan = Cohort(3, seed=1).plan(2)
    assert Cohort(3, seed=1, size=128).film(2).pixels.shape == (128, 128)
    assert Cohort(3, seed=1, size=128).film(2).plan == replace(plan)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_films": 0}, "'n_films' must be at least 1, got 0"),
        ({"n_films": 2, "seed": -1}, "'seed' must not be negative, got -1"),
        ({"n_films": 2, "size": 100}, "'size' must be a multiple of 32 of at least 64, got 100"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        Cohort(**arguments)


def test_a_film_that_does_not_exist_is_refused():
    with pytest.raises(InputError, match="film 4 does not exist: the cohort has films 0 to 3"):
        Cohort(4).film(4)


def test_no_synonym_names_two_labels():
    for label in OUTPUTS:
        for name in SYNONYMS[label]:
            assert [other for other in OUTPUTS if is_named(other, f"large left {name}s")] in ([label], [])
            assert [other for other in OUTPUTS if is_named(other, name)] == [label]


def test_catalogue_order_is_findings_then_devices():
    assert OUTPUTS == FINDINGS + DEVICES
    assert len(FINDINGS) == 14
    assert list(Cohort(1).film(0).labels) == list(OUTPUTS)
