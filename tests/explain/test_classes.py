"""What decides a class: importances by plain loops, concepts that add up, films that agree."""

import json

import numpy as np
import pytest
from tests.explain.made_up import made_up_account

from mammi.errors import InputError, UnknownNameError
from mammi.explain.classes import explain_class, film_agreement

NAMES = ["effusion", "NOT effusion", "no concept", "effusion", "tube", "no concept", "mass"]


def decided(seed=0, n_patients=40, **options):
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(n_patients), rng.integers(1, 4, n_patients))
    n = len(patients)
    truth = np.where(rng.random(n) < 0.15, np.nan, (rng.random(n) < 0.4).astype(float))
    a = (
        np.abs(rng.normal(size=(n, 7)))
        + 2 * np.nan_to_num(truth)[:, None] * [1, 0, 0, 0.5, 0, 0, 0]
        + [0, 0, 0, 0, 9, 0, 0]
    )
    weights = np.vstack([np.ones(7), rng.normal(size=(2, 7))])
    return made_up_account(a, weights, {"finding 0": truth}, patients, names=NAMES, **options), truth


def test_importances_as_by_plain_loops():
    account, truth = decided()
    found = explain_class(account, "Finding_0", n_resamples=50)
    assert (found.n_in, found.n_out) == (int((truth == 1).sum()), int((truth == 0).sum()))
    for row in found.units.to_dict("records"):
        unit = row["unit"]
        shares = [float(account.activations[unit, n]) * account.head.weight[0, unit] for n in range(len(truth))]
        inside = [shares[n] for n in range(len(truth)) if truth[n] == 1]
        outside = [shares[n] for n in range(len(truth)) if truth[n] == 0]
        assert row["in_class"] == pytest.approx(sum(inside) / len(inside), abs=1e-12)
        assert row["elsewhere"] == pytest.approx(sum(outside) / len(outside), abs=1e-12)
        assert row["difference"] == pytest.approx(row["in_class"] - row["elsewhere"], abs=1e-12)
        assert row["low"] < row["difference"] < row["high"]
        assert row["name"] == NAMES[unit]
    assert found.units["unit"].iloc[:2].tolist() == [0, 3]
    # unit 4 gives most to every film, and no evidence
    by_unit = found.units.set_index("unit")
    assert by_unit.loc[4, "in_class"] == by_unit["in_class"].max()
    assert by_unit.loc[4, "low"] < 0 < by_unit.loc[4, "high"]


def test_concepts_add_up_to_the_units():
    account, _ = decided()
    found = explain_class(account, "finding 0", n_resamples=50)
    concepts = found.concepts.set_index("concept")
    assert concepts["n_units"].to_dict() == {"effusion": 2, "NOT effusion": 1, "no concept": 2, "tube": 1, "mass": 1}
    for column in ("in_class", "elsewhere", "difference"):
        sums = found.units.groupby("name")[column].sum()
        assert np.allclose(concepts[column], sums[concepts.index])
    assert found.concepts["concept"].iloc[0] == "effusion"


def test_without_labels_the_highest_tenth_stands_for_the_class():
    account, _ = decided()
    found = explain_class(account, 1, n_resamples=20)
    logits = account.logits[:, 1]
    assert found.n_in == int((logits >= np.quantile(logits, 0.9)).sum())
    assert found.n_in + found.n_out == len(logits)
    assert "no labels" in found.rule
    flat = made_up_account(np.ones((12, 2)), [[1.0, 1.0]], {}, range(12))
    with pytest.raises(InputError, match="cannot be told from others"):
        explain_class(flat, 0)
    with pytest.raises(UnknownNameError):
        explain_class(account, "finding 9")


def test_agreement_by_hand():
    account, truth = decided()
    found = explain_class(account, "finding 0", n_resamples=20)
    shares = account.contributions(0)
    members = np.flatnonzero(truth == 1)

    def cosine(x, y):
        return float(x @ y / np.sqrt((x @ x) * (y @ y)))

    others = [cosine(shares[:, n], np.mean([shares[:, k] for k in members if k != n], axis=0)) for n in members]
    assert found.cosines.tolist() == pytest.approx(others)
    film = shares[:, 0]
    agreement = film_agreement(found, film)
    assert agreement.cosine == pytest.approx(cosine(film, shares[:, members].mean(axis=1)))
    assert agreement.percentile == pytest.approx(np.mean([other <= agreement.cosine for other in others]))
    assert agreement.n_films == len(members)
    assert film_agreement(found, 3 * film).percentile == agreement.percentile
    assert film_agreement(found, -film).percentile == 0
    assert film_agreement(found, found.mean).percentile == 1
    assert np.isnan(film_agreement(found, np.zeros(7)).percentile)
    with pytest.raises(InputError, match="each of the 7 units"):
        film_agreement(found, np.zeros(6))


def test_a_film_decided_by_other_units_agrees_little():
    account, _ = decided()
    found = explain_class(account, "finding 0", n_resamples=20)
    odd = np.zeros(7)
    odd[6] = found.mean.sum()
    assert film_agreement(found, odd).percentile == 0


def test_order_of_films_and_a_second_copy_of_every_film():
    account, truth = decided()
    found = explain_class(account, "finding 0", n_resamples=80)
    twice = np.random.default_rng(1).permutation(np.arange(len(truth)).repeat(2))
    patients = np.array([int(name[2:]) for name in account.run.images["patient"]])
    doubled = made_up_account(
        *(
            account.activations.T.astype(np.float64)[twice],
            account.head.weight,
            {"finding 0": truth[twice]},
            patients[twice],
        ),
        names=NAMES,
    )
    other = explain_class(doubled, "finding 0", n_resamples=80)
    columns = ["unit", "in_class", "elsewhere", "difference"]
    assert np.allclose(found.units[columns], other.units[columns])


def test_dead_and_nan_units():
    account, truth = decided()
    activations = account.activations.copy()
    activations[5] = 0
    activations[2, int(np.flatnonzero(truth == 1)[0])] = np.nan
    account.__dict__["activations"] = activations
    found = explain_class(account, "finding 0", n_resamples=30)
    units = found.units.set_index("unit")
    assert units.loc[5, "difference"] == 0
    assert np.isnan(units.loc[2, "difference"])
    assert found.units["unit"].iloc[-1] == 2
    concepts = found.concepts.set_index("concept")
    assert concepts.loc["no concept", "n_units"] == 1
    assert np.isfinite(concepts["difference"]).all()
    assert np.isfinite(found.cosines).all()
    json.dumps(found.to_dict(), allow_nan=False)


def test_json_keeps_both_ends():
    account, _ = decided()
    found = explain_class(account, "finding 0", n_resamples=20)
    plain = found.to_dict(limit=2)
    assert [row["unit"] for row in plain["units"]] == [*found.units["unit"].iloc[:2], *found.units["unit"].iloc[-2:]]
    assert len(found.to_dict()["units"]) == 7
    assert plain["notice"] == "A research and audit tool, not a diagnostic device."
    assert plain["agreement"]["low"] <= plain["agreement"]["median"] <= plain["agreement"]["high"]


def test_the_drawn_films(phantom_account):
    found = explain_class(phantom_account, "side marker", n_resamples=50)
    assert found.exact
    whole = found.units["in_class"].sum() + phantom_account.head.bias[phantom_account.output("side marker")]
    present = phantom_account.labels["side marker"] == 1
    assert whole == pytest.approx(phantom_account.logits[present, phantom_account.output("side marker")].mean())
    assert found.units["low"].iloc[0] > 0


def test_labels_of_one_kind_are_not_called_none():
    account, truth = decided()
    account.run.labels["finding 0"] = np.ones(len(truth))
    assert explain_class(account, "finding 0", n_resamples=20).rule.endswith(
        "against the others: no labels of both kinds"
    )
