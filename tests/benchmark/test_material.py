"""What the contest is held on: rare labels, truth from other films, networks that learned nothing, worse annotators."""

import numpy as np
import pytest
import torch

from mammi.benchmark import degraded, phantom_material
from mammi.benchmark import material as rooms
from mammi.benchmark.material import BAR, HELD_OUT_SEED, LAYERS, RARE_FILMS
from mammi.errors import InputError
from mammi.phantoms import DEVICES, OUTPUTS, Cohort, is_named
from mammi.phantoms.catalogue import SIDED
from mammi.targets import create_target
from mammi.types import Film


def test_films_and_concepts_are_unit_rows_in_one_space(material):
    n_films = len(material.films)
    assert 0.5 * 120 < n_films < 120
    for rows in (material.films, material.concepts, material.template[None]):
        assert rows.dtype == np.float64
        assert rows.shape[1] == material.films.shape[1]
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert len(material.terms) == len(set(material.terms)) == len(material.concepts)
    assert material.patients.shape == (n_films,)
    assert all(label.present.shape == (n_films,) for label in material.labels)
    assert [label.name for label in material.labels] == list(OUTPUTS)
    assert [label.name for label in material.labels if label.device] == list(DEVICES)
    for label in material.labels:
        assert label.concepts == {m for m, term in enumerate(material.terms) if is_named(label.name, term)}


def test_labels_patients_and_films_belong_together(material):
    """The annotator tells the labels on these very films, which it could not if rows were shifted."""
    assert material.zero_shot > 0.9
    turned = np.roll(material.films, 1, axis=0)
    shifted = rooms.replace(material, films=turned)
    assert shifted.zero_shot < 0.8
    plans = {film.patient.id for film in (Cohort(120, 0).plan(i) for i in range(120))}
    assert set(material.patients.tolist()) <= plans


def test_four_labels_are_rare_and_the_others_are_not(material):
    rare = [label for label in material.labels if label.rare]
    assert [label.name for label in rare] == list(OUTPUTS[:4])
    assert [int(label.present.sum()) for label in rare] == [RARE_FILMS] * 4
    before = np.array([[Cohort(120, 0).plan(i).has(name) for name in OUTPUTS] for i in range(120)])
    for label, column in zip(material.labels, before.T, strict=True):
        if not label.rare:
            assert label.present.sum() >= 0.5 * column.sum()


@pytest.mark.parametrize("seed", range(6))
def test_films_are_left_out_for_rare_labels_alone(seed):
    rng = np.random.default_rng(seed)
    present = rng.random((300, len(OUTPUTS))) < 0.1
    columns = rng.permutation(len(OUTPUTS))[:4]
    present[:, columns[0]] = False
    present[:2, columns[0]] = True  # too few to choose from
    present[:2, columns[1:]] = False
    rows = rooms._with_rare(present, [OUTPUTS[column] for column in columns], seed)
    assert (np.diff(rows) > 0).all()
    assert present[rows][:, columns].sum(axis=0).tolist() == [2, *[RARE_FILMS] * 3]
    assert set(np.flatnonzero(~present[:, columns].any(axis=1))) <= set(rows)
    np.testing.assert_array_equal(rows, rooms._with_rare(present, [OUTPUTS[column] for column in columns], seed))


def test_sides_are_those_drawn(material):
    for label in material.labels:
        assert not label.sides or label.name in SIDED or label.name == "side marker"
        for side, there, concepts in label.sides:
            assert there.any()
            assert not (there & ~label.present).any()
            assert concepts <= label.concepts
            assert all(side in material.terms[m].split() for m in concepts)
        if label.sides and label.name in SIDED:
            assert (np.any([there for _, there, _ in label.sides], axis=0) == label.present).all()
    assert any(concepts for label in material.labels for _, _, concepts in label.sides)


def test_truth_of_real_layers_comes_from_other_films(material, drawn):
    (others, other_seed), masked, (films, seed) = drawn
    assert (films, seed, others) == (120, 0, 60)
    assert masked == (others, other_seed) == (60, HELD_OUT_SEED)
    assert other_seed != seed
    own, other = Cohort(films, seed), Cohort(others, other_seed)
    assert {own.plan(i).patient.seed for i in range(films)}.isdisjoint(
        other.plan(i).patient.seed for i in range(others)
    )
    assert not any((own.film(i).pixels == other.film(i).pixels).all() for i in range(3))
    for layer in LAYERS:
        for unit in material.layers[layer]:
            if not unit.kind:  # nothing explains it: it stands in its layer and is not judged
                assert (unit.truths, unit.says) == (frozenset(), "")
                continue
            label = next(label for label in material.labels if label.name == unit.says)
            assert not label.rare
            assert unit.truths == label.concepts
            assert unit.truths
            assert unit.kind == layer
            assert not unit.absent
    # An output explains its own label best: on these films too, though they had no say.
    known = np.array([label.present for label in material.labels], dtype=float)
    agree = [
        OUTPUTS[int(np.argmax([np.corrcoef(unit.activation, row)[0, 1] for row in known]))] == unit.says
        for unit in material.layers["head"]
        if unit.kind
    ]
    assert len(agree) > 10
    assert np.mean(agree) > 0.6


def test_what_explains_the_units_is_measured_on_the_held_out_films(truth):
    target, cohort = create_target("phantom"), Cohort(60, HELD_OUT_SEED)
    with torch.no_grad():
        outputs = target.model(torch.stack([target.view(Film(cohort.film(i).pixels)) for i in range(60)])).numpy()
    known = np.array([[cohort.plan(i).has(name) for name in OUTPUTS] for i in range(60)], dtype=float)
    for unit, label in ((0, 0), (3, 18), (18, 18)):
        expected = np.corrcoef(outputs[:, unit], known[:, label])[0, 1]
        assert truth.explained["head"][unit, label] == pytest.approx(expected, abs=1e-5)
    assert {layer: table.shape for layer, table in truth.explained.items()} == {
        "head": (19, 19),
        "layer3": (128, 19),
        "layer2": (72, 19),
    }


def test_correlations_with_what_never_varies_are_unknown():
    rng = np.random.default_rng(0)
    units, known = rng.standard_normal((30, 3)), (rng.random((30, 2)) < 0.5).astype(float)
    units[:, 1], known[:, 1] = 0, 1
    found = rooms._correlations(units, known)
    for unit in (0, 2):
        assert found[unit, 0] == pytest.approx(np.corrcoef(units[:, unit], known[:, 0])[0, 1], abs=1e-12)
    assert np.isnan(found[1]).all()
    assert np.isnan(found[:, 1]).all()


def with_truth(activations, held_out, known, usable=(True, True, True)):
    """First value, index and label of each unit with a truth; all units that vary must stand in the layer."""
    named = [frozenset({m}) for m in range(3)]
    found = rooms._with_truth("layer", activations, rooms._correlations(held_out, known), named, usable)
    assert [unit.index for unit in found] == np.flatnonzero(np.ptp(activations, axis=0)).tolist()
    assert all(unit.activation[0] == activations[0, unit.index] for unit in found)
    assert all((unit.kind == "") == (unit.says == "") == (not unit.truths) for unit in found)
    return [(unit.index, unit.says) for unit in found if unit.kind]


def test_the_label_that_explains_a_unit_best_elsewhere():
    rng = np.random.default_rng(0)
    known = (rng.random((500, 3)) < 0.3).astype(float)
    noise = rng.standard_normal((500, 6))
    held_out = np.stack(
        [
            known[:, 1] + 0.1 * noise[:, 0],
            known[:, 0] + 0.5 * known[:, 2],
            noise[:, 2],  # nothing explains it
            np.zeros(500),  # dead there
            known[:, 2],
            -known[:, 1],  # the opposite of a label is not that label
        ],
        axis=1,
    )
    # On the films of the contest the units do something else; the first film's value tells them apart.
    activations = np.arange(6.0)[None] + rng.random((40, 1)).cumsum(axis=0)
    activations[:, 4] = 4  # dead here
    assert with_truth(activations, held_out, known) == [(0, OUTPUTS[1]), (1, OUTPUTS[0])]
    assert with_truth(activations, held_out, known, (False, True, True)) == [(0, OUTPUTS[1]), (1, OUTPUTS[2])]
    assert with_truth(activations, held_out, known, (False, False, False)) == []
    nobody = known.copy()
    nobody[:, 0] = 0  # a label that no held-out film shows explains nothing
    assert with_truth(activations, held_out, nobody) == [(0, OUTPUTS[1]), (1, OUTPUTS[2])]


def test_a_unit_has_a_truth_from_the_bar_on():
    rng = np.random.default_rng(1)
    label = (rng.random(4000) < 0.5).astype(float)
    noise = rng.standard_normal(4000)
    noise -= label * np.cov(label, noise)[0, 1] / label.var(ddof=1)
    label_part, noise_part = (x - x.mean() for x in (label, noise))
    label_part, noise_part = label_part / label_part.std(), noise_part / noise_part.std()
    known = np.stack([label, rng.permutation(label), rng.permutation(label)], axis=1)
    for r, units in ((BAR - 0.001, 0), (BAR + 0.001, 1)):
        unit = r * label_part + np.sqrt(1 - r * r) * noise_part
        assert len(with_truth(np.arange(9.0)[:, None], unit[:, None], known)) == units


def test_untrained_copies_are_other_networks(material):
    assert list(material.untrained) == list(material.untrained_too) == list(LAYERS)
    trained = {unit.activation.tobytes() for units in material.layers.values() for unit in units}
    for layer in LAYERS:
        one, other = material.untrained[layer], material.untrained_too[layer]
        assert one.shape == other.shape == (len(material.films), one.shape[1])
        assert not np.allclose(one, other)
        assert not {column.tobytes() for column in one.T} & trained
        assert (one.std(axis=0) > 0).mean() > 0.9
    # What they show of a label is less than what the network shows of it.
    known = np.array([label.present for label in material.labels if not label.rare], dtype=float)
    best = [
        np.mean([max(abs(np.corrcoef(unit, row)[0, 1]) for row in known) for unit in units])
        for units in ([unit.activation for unit in material.layers["head"]], material.untrained["head"].T)
    ]
    assert best[0] > best[1] + 0.2


def test_area_under_the_curve_equals_counting_pairs():
    rng = np.random.default_rng(2)
    score, present = rng.standard_normal(41), rng.random(41) < 0.3
    pairs = [a > b for a in score[present] for b in score[~present]]
    assert rooms._auc(score, present) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_zero_shot_is_the_mean_over_common_labels_of_their_best_concept(material):
    similar = material.films @ material.concepts.T
    areas = []
    for label in material.labels:
        if label.rare or not label.concepts:
            continue
        on, off = similar[label.present], similar[~label.present]
        areas.append(max(np.mean(on[:, None, m] > off[None, :, m]) for m in label.concepts))
    assert material.zero_shot == pytest.approx(np.mean(areas), abs=1e-12)


def test_a_worse_annotator(material):
    found = [degraded(material, blur, 0) for blur in (0.5, 1.5, 4.0)]
    quality = [material.zero_shot, *(each.zero_shot for each in found)]
    assert quality == sorted(quality, reverse=True)
    assert quality[0] - quality[-1] > 0.1
    assert [each.quality for each in found] == [f"films blurred by {blur}" for blur in ("0.5", "1.5", "4")]
    for each in found:
        np.testing.assert_allclose(np.linalg.norm(each.films, axis=1), 1, atol=1e-12)
        assert each.labels is material.labels
        assert each.concepts is material.concepts
    assert material.quality == "as trained"
    # Noise of the length said: the cosine with the film as it was is 1 / sqrt(1 + blur^2).
    cosines = (found[1].films * material.films).sum(axis=1)
    assert cosines.mean() == pytest.approx(1 / np.hypot(1, 1.5), abs=0.03)
    np.testing.assert_array_equal(degraded(material, 1.5, 0).films, found[1].films)
    assert not np.array_equal(degraded(material, 1.5, 1).films, found[1].films)


@pytest.mark.parametrize("n_films", [0, 1, 59])
def test_too_few_films_are_refused_before_any_is_drawn(n_films, monkeypatch):
    monkeypatch.setattr(rooms, "_drawn", None)
    with pytest.raises(InputError, match=f"'n_films' must be at least 60.*got {n_films}"):
        phantom_material(n_films, 0, None)


def test_other_processes_draw_the_same_films(monkeypatch):
    monkeypatch.setattr(rooms.os, "cpu_count", lambda: 1)
    told = []

    def draw():
        return list(rooms._drawn(61, 3, "drawing", lambda *step: told.append(step)))

    alone = draw()
    assert told == [("drawing", 60, 61), ("drawing", 61, 61)]
    monkeypatch.setattr(rooms, "ALONE", 0)
    for film, same in zip(alone, draw(), strict=True):
        np.testing.assert_array_equal(film.pixels, same.pixels)
        assert film.plan == same.plan
    assert told[2:] == told[:2]


def test_masks_are_counted_under_the_plainest_concept(material, truth):
    """Each label's counts of the held-out films stand under one concept that names it; units are those that vary."""
    assert list(material.areas) == ["layer3", "layer2"]
    for layer, areas in material.areas.items():
        own = truth.areas[layer]
        units = [unit.index for unit in material.layers[layer]]
        assert areas.both.shape == (len(units), len(material.terms))
        np.testing.assert_array_equal(areas.units, own.units[units])
        used = set()
        for column, label in enumerate(material.labels):
            if not label.concepts:
                continue
            plain = [m for m in sorted(label.concepts) if material.terms[m] == label.name]
            concept = (plain or sorted(label.concepts))[0]
            np.testing.assert_array_equal(areas.both[:, concept], own.both[units, column])
            assert areas.concepts[concept] == own.concepts[column]
            used.add(concept)
        rest = [m for m in range(len(material.terms)) if m not in used]
        assert not areas.both[:, rest].any()
        assert not areas.concepts[rest].any()
        assert areas.concepts.sum() > 0
        assert (areas.both <= areas.units[:, None]).all()
        assert (areas.both <= areas.concepts).all()
