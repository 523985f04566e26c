"""The audit on made-up units whose answer is known, and on the drawn films."""

import json

import numpy as np
import pandas as pd
import pytest
from tests.explain.made_up import made_up_account

from mammi.errors import InputError, UnknownNameError
from mammi.explain.attributes import read_attributes
from mammi.explain.audit import audit
from mammi.explain.gaps import GAP_COLUMNS, class_gaps, film_sets, patient_numbers_of

QUICK = {"n_shuffles": 60, "n_resamples": 100}


def planted(seed=0, n_patients=150, n_units=12):
    """Unit 0 sees the disease, unit 1 the marker, unit 2 both; the marker goes with the disease. Unit 11 is dead."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(n_patients), rng.integers(1, 4, n_patients))
    n = len(patients)
    disease = (rng.random(n) < 0.35).astype(float)
    marker = (rng.random(n) < np.where(disease == 1, 0.7, 0.2)).astype(float)
    a = np.abs(rng.normal(size=(n, n_units)))
    a[:, 0] += 2 * disease
    a[:, 1] += 2 * marker
    a[:, 2] += disease + marker
    a[:, 11] = 0.25
    a = a.astype(np.float32).astype(np.float64)
    weights = rng.normal(size=(2, n_units))
    weights[0, :3] = [1.5, 1.0, 0.5]
    metadata = pd.DataFrame(
        {"marker": marker, "sex": rng.choice(["F", "M"], n_patients)[patients], "age": rng.normal(60, 9, n)}
    )
    metadata.loc[rng.random(n) < 0.1, "marker"] = np.nan
    labels = {"finding 0": np.where(rng.random(n) < 0.1, np.nan, disease)}
    return made_up_account(a, weights, labels, patients, bias=[0.5, -1.0]), metadata


def strata_of(account):
    truth = account.run.labels["finding 0"].to_numpy()
    return np.where(np.isnan(truth), 2, truth)


def slow_gap(x, m, strata):
    top = bottom = 0.0
    for s in set(strata.tolist()):
        rows = [n for n in range(len(x)) if strata[n] == s and not np.isnan(m[n])]
        if rows:
            mx, mm = sum(x[n] for n in rows) / len(rows), sum(m[n] for n in rows) / len(rows)
            top += sum((x[n] - mx) * (m[n] - mm) for n in rows)
            bottom += sum((m[n] - mm) ** 2 for n in rows)
    return top / bottom


def test_units_that_react_and_what_they_carry():
    account, metadata = planted()
    found = audit(account, metadata, classes=["finding 0"], attributes=["marker"], **QUICK)
    assert found.exact
    assert {1, 2} <= set(found.reacting("marker"))
    assert 0 in found.reacting("marker")  # over all films the disease is taken for the marker that goes with it
    assert {1, 2} <= set(found.reacting("marker", "finding 0")) <= {1, 2, *range(3, 11)}
    assert 0 not in found.reacting("marker", "finding 0")
    gaps = found.gaps.set_index("films")
    assert gaps.loc["all", "gap"] > gaps.loc["same finding", "gap"]
    # the marker raises the logit by 2 * 1.0 through unit 1 and by 0.5 through unit 2
    for films in ("same finding", "without", "with"):
        assert gaps.loc[films, "low"] < 2.5 < gaps.loc[films, "high"]
    assert gaps.loc["without", "share"] == pytest.approx(gaps.loc["without", "carried"] / gaps.loc["without", "gap"])


def test_gaps_and_shares_as_by_plain_loops():
    account, metadata = planted(n_patients=60)
    found = audit(account, metadata, **QUICK)
    strata, truth = strata_of(account), account.run.labels["finding 0"].to_numpy()
    assert list(found.gaps["output"].unique()) == ["finding 0"]  # the other has no labels
    coded = {"marker": metadata["marker"].to_numpy(), "sex = M": (metadata["sex"] == "M").to_numpy(dtype=float)}
    coded["age"] = ((metadata["age"] - metadata["age"].mean()) / metadata["age"].std(ddof=0)).to_numpy()
    for row in found.gaps.to_dict("records"):
        m = coded[row["attribute"]]
        rows = {"without": truth == 0, "with": truth == 1}.get(row["films"], np.ones(len(m), dtype=bool))
        given = strata if row["films"] == "same finding" else np.zeros(len(m))
        by_hand = slow_gap(account.logits[rows, 0], m[rows], given[rows])
        assert row["gap"] == pytest.approx(by_hand, abs=1e-10)
        table = found.carried[found.carried["attribute"] == row["attribute"]]
        units = table.loc[table["reacts_overall" if row["films"] == "all" else "reacts"], "unit"]
        shares = sum(account.contributions(0)[unit] for unit in units) + np.zeros(len(m))
        assert row["carried"] == pytest.approx(slow_gap(shares[rows], m[rows], given[rows]), abs=1e-10)
        assert row["n_units"] == len(units)
        assert row["n_films"] == int((~np.isnan(m[rows])).sum())
        assert abs(row["rest"]) < 1e-10


def test_what_all_units_carry_is_the_gap():
    account, metadata = planted(seed=3)
    found = audit(account, metadata, **QUICK)
    sums = found.carried.groupby("attribute")[["carried", "carried_same"]].sum()
    gaps = found.gaps.pivot_table(index="attribute", columns="films", values="gap")
    assert np.abs(sums["carried"] - gaps["all"]).max() < 1e-10
    assert np.abs(sums["carried_same"] - gaps["same finding"]).max() < 1e-10


def test_q_values_are_over_all_units_attributes_and_levels():
    account, metadata = planted()
    found = audit(account, metadata, **QUICK)
    tested = found.units.dropna(subset="p_value")
    assert len(tested) == 3 * 11  # the dead unit is not tested
    order = tested.sort_values("p_value")
    q = (order["p_value"] * len(order) / np.arange(1, len(order) + 1))[::-1].cummin()[::-1].clip(upper=1)
    assert np.allclose(order["q_value"], q)
    assert not found.units.loc[found.units["unit"] == 11, "reacts"].any()
    dead = found.units[found.units["unit"] == 11]
    assert dead["effect"].isna().all()
    assert np.abs(dead["slope"]).max() < 1e-12


def test_a_nan_unit_spoils_what_hangs_on_it_only():
    account, metadata = planted()
    activations = account.activations.copy()
    activations[7, 5] = np.nan
    account.__dict__["activations"] = activations
    found = audit(account, metadata, **QUICK)
    assert found.units.loc[found.units["unit"] == 7, "effect"].isna().sum() >= 2
    assert {1, 2} <= set(found.reacting("marker"))
    assert found.gaps["gap"].notna().all()
    json.dumps(found.to_dict(), allow_nan=False)


def test_order_of_films_changes_no_number_but_the_draws():
    account, metadata = planted(n_patients=80)
    order = np.random.default_rng(1).permutation(len(metadata))
    shuffled = made_up_account(
        account.activations.T[order].astype(np.float64),
        account.head.weight,
        {"finding 0": account.run.labels["finding 0"].to_numpy()[order]},
        [int(name[2:]) for name in account.run.images["patient"].to_numpy()[order]],
        bias=account.head.bias,
    )
    one, two = audit(account, metadata, **QUICK), audit(shuffled, metadata.iloc[order], **QUICK)
    for name in ("effect", "slope"):
        assert np.allclose(one.units[name], two.units[name], equal_nan=True)
    assert np.allclose(one.gaps["gap"], two.gaps["gap"])
    assert np.allclose(one.carried["carried_same"], two.carried["carried_same"])


def test_nothing_is_found_where_there_is_nothing():
    tables = 0
    for seed in range(20):
        account, _ = planted(seed, n_patients=60)
        rng = np.random.default_rng(900 + seed)
        patients = pd.factorize(account.run.images["patient"])[0]
        null = pd.DataFrame({"site": rng.choice(["a", "b", "c"], patients.max() + 1)[patients]})
        found = audit(account, null, **QUICK)
        tables += bool(found.units["reacts"].any())
    assert tables <= 3


def test_sampled_contributions_leave_a_stated_rest():
    account, metadata = planted()
    films = np.arange(0, len(metadata), 2)
    shares = np.stack([account.contributions(c)[:, films] for c in range(2)]).astype(np.float32)
    shares[:, 4] = 0  # what unit 4 gives is missed
    sampled = made_up_account(
        account.activations.T.astype(np.float64),
        account.head.weight,
        {"finding 0": account.run.labels["finding 0"].to_numpy()},
        [int(name[2:]) for name in account.run.images["patient"]],
        bias=account.head.bias,
        films=films,
        sampled=shares,
    )
    found = audit(sampled, metadata, attributes=["marker"], **QUICK)
    assert not found.exact
    row = found.gaps.set_index("films").loc["all"]
    m = metadata["marker"].to_numpy()[films]
    assert row["n_films"] == int((~np.isnan(m)).sum())
    assert row["rest"] == pytest.approx(slow_gap(account.contributions(0)[4, films], m, np.zeros(len(m))), abs=1e-6)


def test_words_and_json():
    account, metadata = planted()
    found = audit(account, metadata, **QUICK)
    row = found.headline("marker")
    assert row["films"] == "without"
    (said,) = [sentence for sentence in found.sentences if "react to marker" in sentence]
    n_units = len(found.reacting("marker", "finding 0"))
    assert said.startswith(f"{n_units} of 12 units of deep react to marker at the same finding (q < 0.05); they carry ")
    assert f"{row['carried']:+.2f} [" in said
    assert said.endswith("logit gap of finding 0 among films without it, with marker against without.")
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert {entry["label"] for entry in plain["attributes"]} == {"marker", "sex = M", "age"}
    assert {row["unit"] for row in plain["units"]} >= {1, 2}
    assert plain["notice"] == "A research and audit tool, not a diagnostic device."
    pair = found.confounders.iloc[0]
    assert (pair["attribute"], pair["goes_with"]) == ("marker", "finding: finding 0")
    assert pair["r"] == pytest.approx(
        np.corrcoef(*metadata[["marker"]].assign(y=account.run.labels["finding 0"]).dropna().to_numpy().T)[0, 1]
    )


def test_without_labels_there_is_one_gap_over_all_films():
    account, metadata = planted()
    account.run.labels = pd.DataFrame(index=range(len(metadata)))
    found = audit(account, metadata, **QUICK)
    assert set(found.gaps["films"]) == {"all"}
    assert set(found.gaps["output"]) == {"finding 0", "finding 1"}
    assert found.carried["carried_same"].isna().all()
    assert found.reacting("marker", "finding 1") == found.reacting("marker")


def test_what_is_wrong_is_said():
    account, metadata = planted(n_patients=30)
    with pytest.raises(InputError, match="'level' must be in"):
        audit(account, metadata, level=0)
    with pytest.raises(UnknownNameError, match="'makrer' is not known. Did you mean 'marker'"):
        audit(account, metadata, attributes=["makrer"])
    with pytest.raises(UnknownNameError, match="Class"):
        audit(account, metadata, classes=["findin"])
    with pytest.raises(InputError, match="no label that is no output"):
        audit(account)


def test_the_drawn_films(phantom_account, drawn):
    """The side marker is an output of its own: the units that react to it carry its whole gap."""
    found = audit(phantom_account, drawn / "labels.csv", attributes=["side marker"], classes=["side marker"], **QUICK)
    (row,) = found.gaps.to_dict("records")
    assert row["films"] == "all"
    assert row["gap"] > 3
    assert row["share"] > 0.8
    assert abs(row["rest"]) < 1e-10


def test_a_share_of_next_to_nothing_is_not_stated():
    # Unit 0 and 1 see the marker and work against each other: what is left of the gap is small but clear.
    account, metadata = planted()
    marker = np.nan_to_num(metadata["marker"].to_numpy())
    noise = np.random.default_rng(0).normal(size=len(marker))
    a = np.stack([marker * 4 + noise * 0.1, marker * 4 + noise * 0.1, 0.5 * marker, np.zeros_like(marker)], axis=1)
    weights = [[1.0, -1.0, 0.1, 0.0]]
    patients = account.run.images["patient"]
    made = made_up_account(a, weights, {"other": np.nan * marker}, patients)
    reacts = np.array([True, False, False, False])
    attribute = read_attributes(made.run, patient_numbers_of(made), metadata, ["marker"])[0][0]
    arguments = (patient_numbers_of(made), reacts, reacts, film_sets(made, 0))
    row = dict(zip(GAP_COLUMNS, class_gaps(made, 0, attribute, *arguments, seed=0, n_resamples=60)[0], strict=True))
    assert 0 < row["low"] <= row["gap"] == pytest.approx(0.05, abs=0.001)
    assert row["carried"] == pytest.approx(4, abs=0.1)  # eighty times the gap
    assert np.isnan(row["share"])
