"""Our own method on arrays: what it says equals loops over its numbers, laws, error rates, edges."""

import math
import re
from dataclasses import fields

import numpy as np
import pytest
import torch
from dense_layer import DenseLayer

from mammi import annotate_arrays
from mammi.errors import InputError
from mammi.functional.chance import adjusted, extreme_p_values, patient_shuffles
from mammi.functional.senses import two_groups
from mammi.methods import Evidence, create_method, select_units, wants_control


def rows(table):
    return table / np.linalg.norm(table, axis=1, keepdims=True)


def standard(columns):
    return (columns - columns.mean(axis=0)) / columns.std(axis=0)


def families(rng, n_films, sizes=(1,)):
    """Number films by patient, patients of these sizes at random."""
    drawn = rng.choice(sizes, size=n_films)
    return np.repeat(np.arange(n_films), drawn)[:n_films]


def material(rng, n_films, n_concepts=40, sizes=(1,), d_embed=24, rank=8):
    """Embeddings of low rank around a common direction, films of a patient alike; concepts that overlap.

    A concept leans on one axis of the eight, the fifth of its block on it alone; every axis is rare and strong on some
    patients, as findings are.
    """
    patients = families(rng, n_films, sizes)
    axes = rng.normal(size=(rank, d_embed))
    has = rng.uniform(size=(patients.max() + 1, rank)) < 0.15
    latent = 2 * has[patients] + 0.6 * rng.normal(size=(n_films, rank))
    films = rows(latent @ axes + 0.3 * rng.normal(size=(n_films, d_embed)) + 3 * rng.normal(size=d_embed))
    lean = np.eye(rank)[np.arange(n_concepts) % rank] + 0.15 * rng.normal(size=(n_concepts, rank))
    return films, rows(lean @ axes), patients


def noise(rng, kind, patients, n_units):
    n_films, n_patients = len(patients), patients.max() + 1
    per_patient = kind.endswith("by patient")
    n = n_patients if per_patient else n_films
    rare = max(0.02, 5 / n)
    drawn = {
        "normal": lambda: rng.normal(size=(n, n_units)),
        "heavy": lambda: rng.exponential(size=(n, n_units)) ** 2,
        "binary": lambda: rng.uniform(size=(n, n_units)) < rare,
        "sparse": lambda: np.maximum(rng.normal(size=(n, n_units)) - 1.5, 0),
    }[kind.split()[0]]()
    return (drawn[patients] if per_patient else drawn).astype(float)


def calibrated(activations, films, concepts, patients=None, **options):
    return annotate_arrays(activations, films, concepts, patients=patients, method="calibrated", **options)


def named(found):
    return np.array([len(kept) > 0 for kept in found.concepts])


def everything(found, order=None):
    """Return all that is said of each unit as plain values, in an order of units."""
    verdict = found.verdict
    said = [
        (
            kept.tolist(),
            found.formulas[unit],
            *(getattr(verdict, field.name)[unit] for field in fields(verdict)),
            found.examples[unit].tolist(),
        )
        for unit, kept in enumerate(found.concepts)
    ]
    plain = [tuple(x.tolist() if isinstance(x, torch.Tensor) else x for x in row) for row in said]
    return plain if order is None else [plain[unit] for unit in order]


def assert_same(found, expected, order=None):
    """Assert that names, reasons and senses are equal, and numbers but for rounding (the null is single precision)."""
    for one, other in zip(everything(found, order), everything(expected), strict=True):
        for a, b in zip(one, other, strict=True):
            floats = isinstance(b, list) and b and isinstance(b[0], float)
            assert a == (pytest.approx(b, abs=1e-6) if floats else b)


def a_layer(seed=0, n_films=150, n_units=24, sizes=(1, 2, 3)):
    """Units that follow concepts more or less, so that some are named and some are not."""
    rng = np.random.default_rng(seed)
    films, concepts, patients = material(rng, n_films, sizes=sizes)
    similar = standard(films @ concepts.T)
    strength = np.linspace(0, 1.5, n_units)
    activations = strength * similar[:, rng.integers(40, size=n_units)] + rng.normal(size=(n_films, n_units))
    activations[:, -3] = np.maximum(similar[:, 1] > 1.5, 0.8 * (similar[:, 4] > 1.5)) + 0.05 * rng.normal(size=n_films)
    activations[:, -2] = -np.maximum(similar[:, 2], 0.5) + 0.1 * rng.normal(size=n_films)
    return rng, activations, films, concepts, patients


def slow_verdict(activations, films, concepts, patients, control=None, *, fdr=0.05, need=0.2, threshold=0.95):
    """What a unit is said to be, from the numbers of the layer, one unit and one concept at a time."""
    arrays = [torch.from_numpy(table) for table in (activations, films, concepts)]
    numbers = torch.from_numpy(patients)
    layer = DenseLayer.of(*arrays, 0.5)
    null = torch.stack(list(layer.shuffled_maxima(patient_shuffles(numbers, 100, 0))))
    p_values = extreme_p_values(layer.raw, null)
    first = [row.index(max(row)) for row in layer.scores.tolist()]
    q_values = adjusted(p_values, torch.stack([p_values[unit, best] for unit, best in enumerate(first)]))
    bar = [need] * len(concepts)
    if control is not None:
        twin = DenseLayer.of(torch.from_numpy(control), *arrays[1:], 0.0)
        shown = torch.cat([twin.effects(), twin.effects(turned=True)])
        bar = [max(need, max(c), 3.5 * math.sqrt(sum(x * x for x in c) / len(c))) for c in shown.T.tolist()]
    others = layer.unrelated(torch.tensor(first))
    stable, next_stable = (x.tolist() for x in layer.stability(numbers, others, threshold, 50, 0))
    effects, held = layer.effects().tolist(), layer.held_out_effects(numbers, 0).tolist()
    rests_on = [round(x) for x in layer.effective_patients(numbers).tolist()]
    said = []
    for unit, best in enumerate(first):
        score, sign = layer.scores[unit].tolist(), -1 if layer.absent[unit] else 1
        share = min(1, max(0, held[unit] / effects[unit][best]))
        effect = [held[unit] if m == best else share * x for m, x in enumerate(effects[unit])]
        q = q_values[unit].tolist()
        if rests_on[unit] < 3 or q[best] > fdr or effect[best] <= bar[best] or stable[unit][best] < 0.5:
            said.append(([], "", [], [], [], [], []))
            continue
        kept = [m for m in range(len(score)) if score[m] >= threshold * score[best] and stable[unit][m] >= 0.5]
        kept = sorted((m for m in kept if effect[m] > 0), key=lambda m: -score[m])
        sense, purity, sure = dict.fromkeys(kept, 0), dict.fromkeys(kept, 1.0), {m: stable[unit][m] for m in kept}
        free = [m for m in range(len(score)) if others[unit, m]]
        if free:
            second = max(free, key=lambda m: score[m])
            good = q[second] <= fdr and effect[second] > bar[second] and next_stable[unit][second] >= 0.5
            if good and (pure := slow_senses(layer, patients, unit, best, second)):
                kept = [m for m in kept if m != second] + [second]
                sense, purity = dict.fromkeys(kept, 1) | {second: 2}, dict.fromkeys(kept, pure[0]) | {second: pure[1]}
                sure[second] = next_stable[unit][second]
        columns = [[sign * effect[m] for m in kept], [q[m] for m in kept], [sure[m] for m in kept]]
        formula = f"NOT {{{kept[0]}}}" if sign < 0 else ""
        said.append((kept, formula, *columns, [sense[m] for m in kept], [purity[m] for m in kept]))
    return said


def slow_senses(layer, patients, unit, first, second):
    activation = layer.standard[:, unit].tolist()
    strong = sorted(range(len(activation)), key=lambda n: -activation[n])[:200]
    strong = [n for n in strong if activation[n] > 1.5]
    if len(strong) < 6:
        return None
    group = two_groups(layer.films[strong]).tolist()
    similar = layer.similarities(torch.tensor([first, second])).tolist()
    likes_first = [similar[n][0] > similar[n][1] for n in strong]

    def share(wanted):
        own = [likes for likes, one in zip(likes_first, group, strict=True) if one == wanted]
        return sum(own) / len(own)

    ours = share(True) > share(False)
    sizes = [len({patients[n] for n, one in zip(strong, group, strict=True) if one == side}) for side in (True, False)]
    pure = share(ours), 1 - share(not ours)
    return pure if min(sizes) >= 3 and min(pure) > 0.5 else None


@pytest.mark.parametrize("with_control", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_what_is_said_equals_loops_over_the_numbers(seed, with_control):
    rng, activations, films, concepts, patients = a_layer(seed)
    control = films @ rng.normal(size=(24, 3)) + rng.normal(size=(150, 3)) if with_control else None
    found = calibrated(activations, films, concepts, patients, control=control)
    slow = slow_verdict(activations, films, concepts, patients, control)
    assert 4 <= named(found).sum() <= 22
    for unit, (kept, formula, effect, q_value, stability, sense, purity) in enumerate(slow):
        verdict = found.verdict
        assert found.concepts[unit].tolist() == kept
        assert found.formulas[unit] == formula
        assert (verdict.reasons[unit] == "") == bool(kept)
        assert verdict.effect[unit].tolist() == pytest.approx(effect, abs=1e-9)
        # The null is single precision, summed in another order.
        assert verdict.q_value[unit].tolist() == pytest.approx(q_value, rel=1e-5)
        assert verdict.stability[unit].tolist() == pytest.approx(stability)
        assert verdict.sense[unit].tolist() == sense
        assert verdict.purity[unit].tolist() == pytest.approx(purity)
    layer = DenseLayer.of(*map(torch.from_numpy, (activations, films, concepts)), 0.5)
    np.testing.assert_allclose(found.scores, layer.scores, atol=1e-12)
    assert [list(chosen) for chosen in found.examples] == [
        sorted(range(150), key=lambda n: (-column[n], n))[:10] for column in activations.T
    ]


# Laws


def test_moving_units_or_concepts_moves_the_answer():
    rng, activations, films, concepts, patients = a_layer()
    plain = calibrated(activations, films, concepts, patients)
    order = rng.permutation(24)
    moved = calibrated(activations[:, order], films, concepts, patients)
    np.testing.assert_allclose(moved.scores, plain.scores[order], atol=1e-12)
    assert_same(moved, plain, np.argsort(order))
    order = rng.permutation(40)
    moved = calibrated(activations, films, concepts[order], patients)
    np.testing.assert_allclose(moved.scores, plain.scores[:, order], atol=1e-12)
    for unit in range(24):
        assert order[moved.concepts[unit]].tolist() == plain.concepts[unit].tolist()
        torch.testing.assert_close(moved.verdict.effect[unit], plain.verdict.effect[unit])
    assert moved.verdict.reasons == plain.verdict.reasons


def test_a_units_scale_and_zero_change_nothing():
    _, activations, films, concepts, patients = a_layer()
    plain = calibrated(activations, films, concepts, patients)
    rng = np.random.default_rng(9)
    for scale, shift in ((rng.uniform(0.1, 30, size=24), rng.normal(size=24) * 50), (1e-30, 0.0), (1e250, 0.0)):
        moved = calibrated(activations * scale + shift, films, concepts, patients)
        np.testing.assert_allclose(moved.scores, plain.scores, atol=1e-11)
        assert_same(moved, plain)
    assert_same(calibrated(activations, films * 7, concepts * rng.uniform(1, 9, size=(40, 1)), patients), plain)


def test_dead_and_broken_units_and_control_units_change_nothing():
    rng, activations, films, concepts, patients = a_layer()
    control = films @ rng.normal(size=(24, 3)) + rng.normal(size=(150, 3))
    plain = calibrated(activations, films, concepts, patients, control=control)
    mixed = np.insert(activations, [0, 9, 24], [2.5, np.nan, 0.1], axis=1)
    mixed[3:, 10] = 1.0
    twin = np.insert(control, [0, 2, 3], [0.1, np.nan, 1.0], axis=1)
    twin[7, 5] = np.inf
    found = calibrated(mixed, films, concepts, patients, control=twin)
    live = [unit for unit in range(27) if unit not in (0, 10, 26)]
    np.testing.assert_array_equal(found.scores[live], plain.scores)
    assert_same(found, plain, live)
    for unit in (0, 10, 26):
        assert np.isnan(found.scores[unit]).all()
        assert not len(found.concepts[unit])


def test_films_that_move_take_their_patients_along():
    """Scores never change. Patients' numbers seed folds and draws, so with patients given those stay too.

    The null deals a patient's films in order: it is the same where that order is, and nearly so elsewhere.
    """
    rng, activations, films, concepts, patients = a_layer()
    plain = calibrated(activations, films, concepts, patients)
    blocks = np.concatenate([np.flatnonzero(patients == name) for name in rng.permutation(patients.max() + 1)])
    moved = calibrated(activations[blocks], films[blocks], concepts, patients[blocks])
    np.testing.assert_allclose(moved.scores, plain.scores, atol=1e-12)
    for unit in range(24):
        assert blocks[moved.examples[unit]].tolist() == plain.examples[unit].tolist()
    for one, other in zip(everything(moved), everything(plain), strict=True):
        assert one[:2] == other[:2]
        for a, b in zip(one[2:-1], other[2:-1], strict=True):
            assert a == (pytest.approx(b, abs=1e-6) if isinstance(b, list) else b)
    order = rng.permutation(150)
    moved = calibrated(activations[order], films[order], concepts, patients[order])
    np.testing.assert_allclose(moved.scores, plain.scores, atol=1e-12)
    both = named(moved) & named(plain)
    assert both.sum() >= 10
    assert (named(moved) != named(plain)).sum() <= 1
    for unit in np.flatnonzero(both):
        assert moved.concepts[unit][0] == plain.concepts[unit][0]
        assert moved.verdict.effect[unit][0].item() == pytest.approx(plain.verdict.effect[unit][0].item(), abs=1e-9)
        assert moved.verdict.stability[unit][0].item() == plain.verdict.stability[unit][0].item()
    # Other numbers for the same patients are another draw: numbers change, scores do not.
    again = calibrated(activations, films, concepts, patients.max() - patients)
    np.testing.assert_array_equal(again.scores, plain.scores)
    assert everything(again) != everything(plain)
    assert (named(again) != named(plain)).sum() <= 5


def test_the_same_input_and_seed_give_the_same_answer():
    _, activations, films, concepts, patients = a_layer()
    one, other = (calibrated(activations, films, concepts, patients, seed=4) for _ in range(2))
    assert everything(one) == everything(other)
    assert everything(one) != everything(calibrated(activations, films, concepts, patients, seed=5))
    names = np.array([f"p{number:03d}" for number in patients])
    assert everything(calibrated(activations, films, concepts, names, seed=4)) == everything(one)


# Error rates


@pytest.mark.parametrize("n_films", [60, 200, 1000])
@pytest.mark.parametrize("kind", ["normal", "heavy", "binary", "sparse", "normal by patient", "binary by patient"])
def test_noise_alone_has_no_names(kind, n_films):
    rng = np.random.default_rng(n_films)
    films, concepts, patients = material(rng, n_films, sizes=(1, 2, 3, 4, 5, 6) if "patient" in kind else (1,))
    found = calibrated(noise(rng, kind, patients, 1000), films, concepts, patients)
    assert named(found).mean() <= 0.005
    assert all(found.verdict.reasons[unit] for unit in np.flatnonzero(~named(found)) if len(found.examples[unit]))


@pytest.mark.parametrize("kind", ["heavy", "sparse", "heavy by patient", "binary by patient"])
def test_noise_among_signals_has_few_names(kind):
    """Where a tenth of a layer means something, the threshold falls; of all names still at most 5 % are false."""
    false = true = 0
    for seed in range(3):
        rng = np.random.default_rng(seed)
        films, concepts, patients = material(rng, 200, sizes=(1, 2, 3, 4, 5, 6) if "patient" in kind else (1,))
        means = standard(films @ concepts.T)[:, rng.integers(40, size=40)] + 0.5 * rng.normal(size=(200, 40))
        found = named(calibrated(np.hstack([noise(rng, kind, patients, 400), means]), films, concepts, patients))
        false, true = false + found[:400].sum(), true + found[400:].sum()
    assert true >= 90
    assert false <= 0.05 * (false + true)


def test_a_lone_noise_unit_is_named_at_most_in_1_layer_of_20():
    count = 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        films, concepts, _ = material(rng, 60, n_concepts=12)
        count += named(calibrated(rng.normal(size=(60, 1)), films, concepts, shuffles=40, resamples=20)).sum()
    assert count <= 0.05 * 120


# What is planted is found


def planted(seed=0, n_films=400):
    """Films that show some of eight findings, each an axis; a concept a finding, with a synonym for the first."""
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(20, 20)))[0]
    patients = families(rng, n_films, (1, 2, 3))
    shows = (rng.uniform(size=(patients.max() + 1, 8)) < 0.12)[patients]
    films = rows(2 * axes[19] + shows @ axes[:8] + 0.15 * rng.normal(size=(n_films, 20)))
    concepts = np.vstack([axes[:8], rows(axes[:1] + 0.05 * axes[10])])
    fire = shows * rng.uniform(0.6, 1.4, size=shows.shape) + 0.2 * rng.normal(size=shows.shape)
    return rng, shows, fire, films, concepts, patients


@pytest.mark.parametrize("seed", range(2))
def test_planted_findings_are_named(seed):
    rng, shows, fire, films, concepts, patients = planted(seed, 800)
    absent = ~shows * rng.uniform(0.6, 1.4, size=shows.shape) + 0.2 * rng.normal(size=shows.shape)
    double = np.maximum(fire, 0.8 * np.roll(fire, 3, axis=1))
    found = calibrated(np.hstack([fire, absent, double]), films, concepts, patients)
    verdict = found.verdict
    assert named(found).all()
    assert verdict.reasons == [""] * 24
    for finding in range(8):
        single, missing, two = finding, 8 + finding, 16 + finding
        names = {finding, 8} if finding == 0 else {finding}
        assert set(found.concepts[single]) <= names
        assert found.formulas[single] == ""
        assert verdict.effect[single][0] > 1
        assert set(verdict.sense[single].tolist()) == {0}
        assert set(verdict.purity[single].tolist()) == {1.0}
        assert verdict.stability[single].min() >= 0.5
        assert verdict.q_value[single].max() <= 0.05
        assert set(found.concepts[missing]) <= names
        assert found.formulas[missing] == f"NOT {{{found.concepts[missing][0]}}}"
        assert verdict.effect[missing].max() < -0.2
        other = (finding - 3) % 8
        assert {finding, other} <= {0 if m == 8 else m for m in found.concepts[two].tolist()}
        assert verdict.sense[two].tolist() == [1] * (len(found.concepts[two]) - 1) + [2]
        assert verdict.purity[two].min() > 0.7
        assert verdict.effect[two].min() > 0.2


def test_a_second_sense_needs_patients_and_other_draws_that_keep_it():
    for seed, both in ((0, [1, 3]), (4, [1, 3])):
        _, shows, fire, films, concepts, patients = planted(seed, 800)
        unit = np.maximum(fire[:, 1], 0.8 * fire[:, 3])
        layer = np.column_stack([unit, fire[:, [0, 2, 4]]])
        assert calibrated(layer, films, concepts, patients).concepts[0].tolist() == both
        of_two = np.where(shows[:, 3], 5000 + patients % 2, patients)
        assert calibrated(layer, films, concepts, of_two).concepts[0].tolist() == [1]
    # Three second senses as strong as each other: which is first depends on the draw.
    layer[:, 0] = np.maximum(fire[:, 1], 0.8 * fire[:, [3, 5, 7]].max(axis=1))
    found = calibrated(layer, films, concepts, patients)
    assert found.concepts[0].tolist() == [1]
    assert found.verdict.sense[0].tolist() == [0]


def test_synonyms_are_kept_together_and_a_rare_unit_is_named():
    rng, shows, fire, films, concepts, patients = planted(3, 800)
    rare = np.flatnonzero(shows[:, 4])
    keep = rare[np.unique(patients[rare], return_index=True)[1]][:5]
    unit = 0.1 * rng.normal(size=800)
    unit[keep] += 1
    found = calibrated(np.column_stack([fire[:, 0], unit, fire[:, 1]]), films, concepts, patients)
    assert sorted(found.concepts[0]) == [0, 8]
    assert found.concepts[1].tolist() == [4]


def test_one_patients_films_name_nothing():
    rng, shows, fire, films, concepts, _ = planted()
    patients = np.arange(400)
    patients[shows[:, 2]] = 1000
    pair = np.where(shows[:, 3], np.where(rng.uniform(size=400) < 0.5, 2000, 2001), np.arange(400))
    found = calibrated(fire, films, concepts, patients)
    assert found.verdict.reasons[2] == "it rests on 1 patient, 3 are needed"
    assert found.concepts[4].tolist() == [4]
    found = calibrated(fire, films, concepts, pair)
    assert found.verdict.reasons[3] == "it rests on 2 patients, 3 are needed"
    assert found.verdict.reasons[2] == ""
    found = calibrated(fire, films, concepts, pair, min_patients=400)
    assert all(re.fullmatch(r"it rests on \d+ patients?, 400 are needed", reason) for reason in found.verdict.reasons)


# The untrained control


def test_a_control_that_shows_as_much_takes_the_name():
    rng, shows, fire, films, concepts, patients = planted()
    twin = np.column_stack([shows[:, 2] + 0.2 * rng.normal(size=400), 0.2 * rng.normal(size=400) - shows[:, 5]])
    plain = calibrated(fire, films, concepts, patients)
    found = calibrated(fire, films, concepts, patients, control=twin)
    assert named(plain).all()
    assert np.flatnonzero(~named(found)).tolist() == [2, 5]  # fires when it shows, and when it does not
    for unit in (2, 5):
        pattern = (
            r"its effect on held-out patients is \d\.\d\d, \d\.\d\d is what an untrained copy of the network can show"
        )
        assert re.fullmatch(pattern, found.verdict.reasons[unit])
    np.testing.assert_array_equal(found.scores, plain.scores)
    weak = 0.3 * standard(fire[:, :1]) + rng.normal(size=(400, 1))
    many = 0.5 * standard(films @ concepts[:1].T) + rng.normal(size=(400, 60))
    # No unit of many shows as much, but 3.5 times what they show on the whole is more.
    assert named(calibrated(np.hstack([weak, fire[:, 1:]]), films, concepts, patients)).all()
    found = calibrated(np.hstack([weak, fire[:, 1:]]), films, concepts, patients, control=many)
    assert np.flatnonzero(~named(found)).tolist() == [0]


def test_the_control_is_heeded_only_where_it_is_wanted():
    _, shows, fire, films, concepts, patients = planted()
    twin = torch.from_numpy(shows.astype(float))
    arrays = [torch.from_numpy(table) for table in (fire, films, concepts)]
    for control, expected in ((True, 0), (False, 8)):
        recipe = create_method("calibrated", control=control)
        assert wants_control(recipe) is control
        evidence = Evidence(*arrays, template=None, patients=torch.from_numpy(patients), control=twin)
        match = recipe.match(evidence, select_units(recipe, lambda units: arrays[0][:, units], 8))
        assert sum(len(kept) > 0 for kept in match.concepts) == expected
    assert not wants_control(create_method("mammi"))


def test_a_control_of_some_of_the_films():
    """The copy is shown every second film; its effects are those on these films."""
    _, shows, fire, films, concepts, patients = planted()
    rows_of = torch.arange(0, 400, 2)
    arrays = [torch.from_numpy(table) for table in (fire, films, concepts)]
    recipe = create_method("calibrated")
    twin = torch.from_numpy(shows[::2, 2:3].astype(float))
    evidence = Evidence(*arrays, None, torch.from_numpy(patients), control=twin, control_films=rows_of)
    match = recipe.match(evidence, select_units(recipe, lambda units: arrays[0][:, units], 8))
    assert [unit for unit, kept in enumerate(match.concepts) if not len(kept)] == [2]


def test_random_features_are_not_named_beside_another_draw_of_random_features():
    rng = np.random.default_rng(0)
    films, concepts, _ = material(rng, 300)

    def features():
        seen = films + 0.02 * rng.normal(size=films.shape)
        hidden = np.maximum((seen - seen.mean(axis=0)) @ rng.normal(size=(24, 100)), 0)
        return np.maximum((hidden - hidden.mean(axis=0)) @ rng.normal(size=(100, 100)), 0)

    target, control = features(), features()
    assert named(calibrated(target, films, concepts)).mean() > 0.7
    assert named(calibrated(target, films, concepts, control=control)).mean() <= 0.05


@pytest.mark.parametrize(
    ("control", "match"),
    [
        (np.ones((149, 2)), "'control' holds 149 images, 'activations' 150"),
        (np.ones(150), "'control' must have 2 axes"),
        ([["a"]], "'control' must be numbers"),
    ],
)
def test_bad_controls_are_named(control, match):
    _, activations, films, concepts, _ = a_layer()
    with pytest.raises(InputError, match=match):
        calibrated(activations, films, concepts, control=control)


def test_a_control_without_a_unit_that_varies_is_none():
    _, activations, films, concepts, patients = a_layer()
    plain = calibrated(activations, films, concepts, patients)
    for control in (np.ones((150, 2)), np.full((150, 1), np.nan), np.empty((150, 0))):
        assert everything(calibrated(activations, films, concepts, patients, control=control)) == everything(plain)


# Edges


@pytest.mark.parametrize("n_films", [2, 3, 4, 7])
@pytest.mark.parametrize(("n_units", "n_concepts"), [(1, 1), (1, 4), (3, 1), (3, 4)])
@pytest.mark.parametrize("films_each", [1, 2, 9])
def test_few_of_everything_gets_an_answer(n_films, n_units, n_concepts, films_each):
    rng = np.random.default_rng(n_films)
    patients = np.arange(n_films) // films_each
    arrays = rng.normal(size=(n_films, n_units)), rng.normal(size=(n_films, 5)), rng.normal(size=(n_concepts, 5))
    found = calibrated(*arrays, patients)
    assert not named(found).any()
    assert all(found.verdict.reasons)
    assert np.isfinite(found.scores).all()
    open_to_all = {"min_patients": 1, "min_effect": 0, "false_discovery_rate": 1.0, "concept_threshold": 0.0}
    for strength in (0.0, 1.0):
        found = calibrated(*arrays, patients, hub_strength=strength, **open_to_all)
        for unit in range(n_units):
            assert (len(found.concepts[unit]) > 0) == (found.verdict.reasons[unit] == "")
            assert found.verdict.effect[unit].isfinite().all()
            assert found.verdict.q_value[unit].isfinite().all()


def test_one_film_is_answered_and_no_unit_refused():
    found = calibrated([[1.0, 2.0]], [[1.0, 0.0]], [[1.0, 1.0]])
    assert [len(kept) for kept in found.concepts] == [0, 0]
    assert found.verdict is None
    with pytest.raises(InputError, match="'activations' holds no unit"):
        calibrated(np.empty((5, 0)), np.ones((5, 2)), [[1.0, 1.0]])


def test_a_patients_single_arrangement_is_no_evidence():
    """All films of one patient: every shuffle is the truth. Two films of two: every shuffle is its mirror image."""
    _, _, fire, films, concepts, _ = planted()
    found = calibrated(fire, films, concepts, np.zeros(400), min_patients=1)
    assert not named(found).any()
    assert all(re.match(r"no concept is above chance \(q = 0\.[1-9]", reason) for reason in found.verdict.reasons)


def test_concepts_that_never_vary_are_never_named():
    rng, _, fire, films, concepts, patients = planted()
    # Unit rows whose coordinate 19 is 0.6 for all; the last one makes up the length.
    films = np.hstack([0.5 * films[:, :19], np.full((400, 1), 0.6)])
    films = np.hstack([films, np.sqrt(1 - (films**2).sum(axis=1, keepdims=True))])
    still = np.zeros((1, 21))
    still[0, 19] = 1
    wide = rows(np.vstack([np.hstack([concepts[:, :19], np.zeros((9, 2))]), still]))
    turn = np.linalg.qr(rng.normal(size=(21, 21)))[0]
    for options in ({}, {"concept_threshold": 0.0, "hub_strength": 0.0}):
        found = calibrated(fire, films @ turn, wide @ turn, patients, **options)
        assert named(found).sum() >= 6
        assert not any(9 in kept for kept in found.concepts)
        assert all(effect.isfinite().all() for effect in found.verdict.effect)
    only = calibrated(fire, films @ turn, still @ turn, patients)
    assert not named(only).any()
    alike = calibrated(fire, np.tile(films[:1], (400, 1)), wide, patients)
    assert not named(alike).any()
    assert all(reason.startswith("no concept is above chance") for reason in alike.verdict.reasons)


def test_duplicates_among_the_concepts_share_names_and_are_no_second_sense():
    _, _, fire, films, concepts, patients = planted()
    plain = calibrated(fire, films, concepts, patients)
    found = calibrated(fire, films, np.vstack([concepts, concepts]), patients)
    for unit in range(8):
        assert set(found.concepts[unit] % 9) == set(plain.concepts[unit])
        assert len(found.concepts[unit]) == 2 * len(plain.concepts[unit])
        assert set(found.verdict.sense[unit].tolist()) == {0}


def test_a_unit_that_is_like_all_of_its_layer_is_told_so():
    """With all of the hubs taken off, units that have a concept like the others have nothing of their own."""
    _, _, fire, films, concepts, patients = planted()
    found = calibrated(fire[:, [3] * 3], films, concepts[3:4], patients, hub_strength=1.0)
    assert not named(found).any()
    assert set(found.verdict.reasons) == {"it likes no concept better than half of its layer does"}
    assert named(calibrated(fire[:, [3] * 3], films, concepts[3:4], patients)).all()


@pytest.mark.parametrize(
    "option",
    [
        *({"false_discovery_rate": 1.1}, {"false_discovery_rate": "0.05"}, {"min_effect": -0.1}, {"min_patients": 0}),
        *(
            {"concept_threshold": float("nan")},
            {"hub_strength": 2},
            {"control": None},
            {"control": 1},
            {"shuffles": 19},
        ),
        *({"shuffles": 20.0}, {"resamples": 9}, {"examples": 0}, {"seed": -1}, {"seed": 2**31}),
    ],
    ids=str,
)
def test_bad_options_are_named(option):
    with pytest.raises(InputError, match=f"'{next(iter(option))}' must be"):
        create_method("calibrated", **option)


def test_options_reach_what_they_say():
    _, _, fire, films, concepts, patients = planted()
    found = calibrated(fire, films, concepts, patients, min_effect=9.0)
    assert all(re.fullmatch(r".* is \d\.\d\d, 9\.00 is needed", reason) for reason in found.verdict.reasons)
    found = calibrated(fire, films, concepts, patients, false_discovery_rate=0.0)
    assert all(reason == "no concept is above chance (q = 0.00)" for reason in found.verdict.reasons)
    found = calibrated(fire, films, concepts, patients, examples=3)
    assert {len(chosen) for chosen in found.examples} == {3}
    loose = calibrated(fire, films, concepts, patients, concept_threshold=0.01)
    assert sum(map(len, loose.concepts)) > 9
    recipe = create_method("calibrated")
    assert recipe.needs == "films"
    assert recipe.whole_layer
