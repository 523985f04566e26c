"""Units held at a value: algebra and hook agree, numbers by hand, random sets, and what is refused."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from tests.explain.test_audit import planted, slow_gap
from torch import nn

from mammi.capture import LayerPlan, Recorder
from mammi.errors import CaptureError, InputError
from mammi.explain.ablated import Ablated
from mammi.explain.ablation import ablate, ablated_logits, held_values, hooked_logits, units_named
from mammi.explain.account import open_account
from mammi.explain.attributes import read_attributes
from mammi.explain.gaps import patient_numbers_of

QUICK = {"n_sets": 30, "n_resamples": 60}


class Wide(nn.Module):
    """Maps, maps with channels last, tokens and vectors, each behind the other."""

    def __init__(self):
        super().__init__()
        self.map = nn.Conv2d(1, 4, 3, padding=1)
        self.last = nn.Linear(4, 6)
        self.tokens = nn.Linear(6, 5)
        self.vector = nn.Linear(5, 3)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        x = torch.relu_(self.map(x)).movedim(1, -1)
        x = torch.tanh_(self.last(x)).flatten(1, 2)
        x = self.tokens(x)
        return self.drop(self.vector(x.mean(dim=1) + x[:, 0]))


PLANS = [
    LayerPlan("map", "map", "mean", 4),
    LayerPlan("map", "map", "max", 4),
    LayerPlan("last", "map_last", "mean", 6),
    LayerPlan("tokens", "tokens", "cls", 5, 1),
    LayerPlan("tokens", "tokens", "mean", 5, 0),
    LayerPlan("vector", "vector", "none", 3),
    LayerPlan("vector@in", "vector", "none", 5),
]


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: f"{plan.name} {plan.pooling}")
def test_the_pooled_unit_becomes_the_value_and_others_stay(plan):
    torch.manual_seed(0)
    net, films = Wide().train(), torch.randn(3, 1, 4, 5)
    with Recorder(net, [plan]) as recorder:
        before = recorder.record(films)[plan.name]
    kept = {name: value.clone() for name, value in net.state_dict().items()}
    with Ablated(net, plan, {2: -0.75, 0: 3.0}):
        assert not net.drop.training
        with Recorder(net, [plan]) as recorder:
            after = recorder.record(films)[plan.name]
    if not plan.is_input:  # the input is recorded before it is replaced
        assert torch.allclose(after[:, 0], torch.tensor(3.0))
        assert torch.allclose(after[:, 2], torch.tensor(-0.75))
        others = [unit for unit in range(plan.n_units) if unit not in (0, 2)]
        assert torch.equal(after[:, others], before[:, others])
    assert net.training
    assert net.drop.training
    assert all(torch.equal(value, kept[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_what_follows_sees_the_held_units():
    torch.manual_seed(0)
    net, films = Wide().eval(), torch.randn(3, 1, 4, 5)
    given = []
    handle = net.vector.register_forward_pre_hook(lambda _module, args: given.append(args[0].clone()))
    free = net(films)
    handle.remove()
    with Ablated(net, PLANS[-1], {1: 2.0}):
        held = net(films)
    given[0][:, 1] = 2.0
    assert torch.allclose(held, net.vector(given[0]))
    assert not torch.allclose(held, free)
    assert torch.equal(net(films), free)


def test_nothing_stays_after_an_error():
    net = Wide().train()
    with pytest.raises(RuntimeError), Ablated(net, PLANS[0], {0: 1.0}):
        net(torch.zeros(1, 2, 4, 4))
    with (
        pytest.raises(CaptureError, match="layer 'gone' is not in the network"),
        Ablated(net, LayerPlan("gone", "vector", "none", 2), {0: 1.0}),
    ):
        pass
    with pytest.raises(InputError, match="units 0 to 3, got 4"):
        Ablated(net, PLANS[0], {4: 1.0})
    with pytest.raises(InputError, match="finite"):
        Ablated(net, PLANS[0], {1: float("nan")})
    assert net.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_a_layer_called_twice_has_no_single_meaning():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x):
            return self.layer(self.layer(x))

    with (
        pytest.raises(CaptureError, match="called 2 times"),
        Ablated(Twice(), LayerPlan("layer", "vector", "none", 2), {0: 1.0}) as held,
    ):
        held.model(torch.zeros(1, 2))


@pytest.mark.parametrize("to", ["mean", "zero"])
def test_algebra_and_hook_agree_on_the_phantom(phantom_account, to):
    rows = np.array([0, 7, 8, 31, 59])
    sets = [np.array([3]), np.array([0, 5, 64, 127]), np.arange(128)]
    values = held_values(phantom_account, to)
    hooked = hooked_logits(phantom_account, sets, values, rows)
    for units, by_hook in zip(sets, hooked, strict=True):
        by_algebra = ablated_logits(phantom_account, units, values, rows)
        assert np.abs(by_algebra - by_hook).max() < 1e-4
        assert np.abs(by_algebra - phantom_account.logits[rows]).max() > 1e-3
    if to == "zero":
        assert np.abs(hooked[2] - phantom_account.head.bias).max() < 1e-4


def test_both_ways_give_the_same_table(phantom_run, phantom_account, monkeypatch):
    monkeypatch.setattr("mammi.explain.account.linear_head", lambda target, plan: None)
    by_hook = open_account(phantom_run, phantom_account.target, "layer3")
    one, two = (
        ablate(account, [4, 80, 99], classes=["effusion", "side marker"], **{**QUICK, "n_sets": 2})
        for account in (phantom_account, by_hook)
    )
    assert (one.by, two.by) == ("algebra", "hook")
    numbers = one.changes.select_dtypes("number")
    assert np.abs(numbers - two.changes[numbers.columns]).max().max() < 1e-4
    assert one.areas["before"].tolist() == pytest.approx(two.areas["before"].tolist(), abs=0.01)


def test_numbers_by_hand():
    account, metadata = planted(n_patients=70)
    attributes, _ = read_attributes(account.run, patient_numbers_of(account), metadata, ["marker"])
    found = ablate(account, [1, 2], classes=["finding 0"], attributes=attributes, seed=4, **QUICK)
    a, w = account.activations.astype(np.float64), account.head.weight[0]
    after = account.logits[:, 0] + sum(w[unit] * (a[unit].mean() - a[unit]) for unit in (1, 2))
    truth, m = account.run.labels["finding 0"].to_numpy(), metadata["marker"].to_numpy()
    changes = found.changes.set_index("films")
    assert set(changes.index) == {"all", "without", "with"}
    for films, rows in {"all": truth != 5, "without": truth == 0, "with": truth == 1}.items():
        row = changes.loc[films]
        assert row["change"] == pytest.approx((after - account.logits[:, 0])[rows].mean(), abs=1e-10)
        odds = [(1 / (1 + np.exp(-z)))[rows].mean() for z in (account.logits[:, 0], after)]
        assert row["probability_change"] == pytest.approx(odds[1] - odds[0], abs=1e-10)
        assert row["n_films"] == rows.sum()
        if films != "all":  # where it is 0 by construction
            assert row["low"] <= row["change"] <= row["high"]
    assert abs(changes.loc["all", "change"]) < 1e-10
    (area,) = found.areas.to_dict("records")
    for which, z in (("before", account.logits[:, 0]), ("after", after)):
        won = [(p > q) + 0.5 * (p == q) for p in z[truth == 1] for q in z[truth == 0]]
        assert area[which] == pytest.approx(np.mean(won))
    gaps = found.gaps.set_index("films")
    nothing = np.zeros(len(m))
    assert gaps.loc["all", "before"] == pytest.approx(slow_gap(account.logits[:, 0], m, nothing), abs=1e-10)
    assert gaps.loc["all", "after"] == pytest.approx(slow_gap(after, m, nothing), abs=1e-10)
    rows = truth == 0
    assert gaps.loc["without", "after"] == pytest.approx(slow_gap(after[rows], m[rows], nothing[rows]), abs=1e-10)
    assert gaps.loc["without", "before_low"] > 1.5
    assert gaps.loc["without", "after_low"] < 0 < gaps.loc["without", "after_high"]
    assert gaps.loc["without", "random_share"] < 0.1


def test_the_share_of_random_sets_is_a_fair_test():
    """A set drawn at random ranks anywhere among random sets."""
    account, _ = planted()
    rng = np.random.default_rng(0)
    shares = []
    for seed in range(40):
        units = rng.choice(11, 2, replace=False).tolist()
        table = ablate(account, units, classes=["finding 0"], seed=seed, n_sets=60, n_resamples=2).changes
        shares.append(float(table.set_index("films").loc["with", "random_share"]))
    assert 0.05 < np.mean(np.array(shares) <= 0.5) < 0.95
    assert np.allclose(np.round(np.array(shares) * 61), np.array(shares) * 61)  # of 60 sets and itself
    assert min(shares) >= 1 / 61


def test_a_dead_unit_changes_nothing():
    account, _ = planted(n_patients=40)
    found = ablate(account, [11], **QUICK)
    assert found.values == (0.25,)
    assert np.abs(found.changes["change"]).max() < 1e-12
    assert (found.changes["random_share"] == 1).all()
    assert np.abs(found.areas["change"]).max() == 0


def test_order_of_units_and_films_looked_at():
    account, _ = planted(n_patients=40)
    one, two = ablate(account, [5, 2, 2], **QUICK), ablate(account, [2, 5], **QUICK)
    pd.testing.assert_frame_equal(one.changes, two.changes)
    assert one.units == (2, 5)
    few = ablate(account, [2], films=7, **QUICK)
    assert few.n_films == 7
    assert set(few.changes.loc[few.changes["films"] == "all", "n_films"]) == {7}


def test_units_by_the_words_of_a_concept():
    account, _ = planted(n_patients=30)
    assert units_named(account, "Concept 1") == [1, 5, 9]
    with pytest.raises(InputError, match="no unit of 'deep' keeps a concept with the words 'tube'"):
        units_named(account, "tube")
    with pytest.raises(InputError, match="no unit"):
        units_named(account, " ")


def test_words_and_json():
    account, metadata = planted()
    attributes, _ = read_attributes(account.run, patient_numbers_of(account), metadata, ["marker"])
    found = ablate(account, [1, 2], attributes=attributes, **QUICK)
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert [entry["unit"] for entry in plain["units"]] == [1, 2]
    assert plain["by"] == "algebra"
    row = found.gaps.set_index("films").loc["without"]
    assert found.sentences[0] == f"2 of 12 units of deep held at their mean, {found.n_films} films."
    assert f"goes from {row['before']:+.2f} [" in found.sentences[1]
    assert f"to {row['after']:+.2f} [" in found.sentences[1]


def test_what_is_wrong_is_said():
    account, _ = planted(n_patients=30)
    for units, options, said in (
        ([], {}, "no unit to take out"),
        ([12], {}, "units 0 to 11, got 12"),
        ([1], {"to": "median"}, "'to' must be mean or zero"),
        ([1], {"films": 0}, "'films' must be at least 1"),
    ):
        with pytest.raises(InputError, match=said):
            ablate(account, units, **options)
    activations = account.activations.copy()
    activations[3, 0] = np.nan
    account.__dict__["activations"] = activations
    with pytest.raises(InputError, match="unit deep:3 is not finite"):
        ablate(account, [1, 3])


def test_an_input_given_by_name_is_held_too():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 1, bias=False)

        def forward(self, x):
            return self.layer(input=x)

    net = Named()
    nn.init.ones_(net.layer.weight)
    with Ablated(net, LayerPlan("layer@in", "vector", "none", 2), {1: 5.0}):
        assert net(torch.ones(1, 2)).item() == 6
    assert net(torch.ones(1, 2)).item() == 2
