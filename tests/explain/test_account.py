"""Contributions add up to the logit; by gradients they agree with the weights where both exist."""

import numpy as np
import pytest
import torch
from tests.explain.made_up import made_up_account
from torch import nn

import mammi
from mammi.errors import CaptureError, InputError, UnknownNameError
from mammi.explain.account import best_f1_threshold, open_account
from mammi.explain.models import load_target, run_films


def test_contributions_and_bias_are_the_logit(phantom_account, phantom_run):
    recorded = phantom_run.activations("head").T
    assert phantom_account.layer == "layer3"
    assert phantom_account.exact
    assert np.abs(phantom_account.logits - recorded).max() < 1e-4
    for output in range(19):
        sums = phantom_account.contributions(output).sum(axis=0) + phantom_account.rest(output)
        assert np.abs(sums - recorded[:, output]).max() < 1e-4


def test_a_contribution_is_activation_times_weight(phantom_account):
    net = phantom_account.target.model
    for film, unit, output in [(0, 3, 2), (17, 127, 18), (59, 64, 0)]:
        by_hand = float(phantom_account.activations[unit, film]) * net.head.weight[output, unit].item()
        assert phantom_account.contributions(output)[unit, film] == pytest.approx(by_hand, rel=1e-12)


def test_by_gradients_the_linear_layer_gives_the_same(phantom_run, phantom_account, monkeypatch):
    monkeypatch.setattr("mammi.explain.account.linear_head", lambda target, plan: None)
    monkeypatch.setattr("mammi.explain.account.SAMPLE", 7)
    sampled = open_account(phantom_run, phantom_account.target, "layer3")
    assert not sampled.exact
    assert len(sampled.films) == 7
    for output in (0, 5, 18):
        exact = phantom_account.contributions(output)[:, sampled.films]
        assert np.abs(sampled.contributions(output) - exact).max() < 1e-5
        assert np.abs(sampled.rest(output) - phantom_account.rest(output)[sampled.films]).max() < 1e-4


def test_gradient_times_activation_by_hand(phantom_run, phantom_account, monkeypatch):
    """layer2: each place of each map by itself, through the rest of the network, in plain PyTorch."""
    monkeypatch.setattr("mammi.explain.account.SAMPLE", 3)
    account = open_account(phantom_run, phantom_account.target, "layer2")
    net, films = account.target.model, run_films(phantom_run)
    for column, film in enumerate(account.films.tolist()):
        maps = net.layer2(net.layer1(net.stem(account.target.view(films.film(film))[None]))).detach().requires_grad_()
        logits = net.head(torch.flatten(net.pool(net.layer3(maps)), 1))
        logits[0, 4].backward()
        by_hand = (maps.grad * maps)[0].sum((1, 2)).detach().numpy()
        assert np.allclose(account.contributions(4)[:, column], by_hand, atol=1e-5)
    sums = account.contributions(4).sum(axis=0) + account.rest(4)
    assert np.abs(sums - account.logits[account.films, 4]).max() < 1e-9
    assert np.abs(account.logits - phantom_account.logits).max() < 1e-4


def test_logits_are_read_again_once_where_no_layer_holds_them(drawn, tmp_path):
    run = mammi.annotate(
        mammi.create_target("phantom"),
        mammi.ProbingSet.open(drawn / "images"),
        mammi.ConceptSet.from_terms(["effusion", "mass"]),
        mammi.create_vlm("phantom"),
        layers=["layer2"],
        out=tmp_path / "run",
    )
    steps = []
    target = load_target(run)
    first = open_account(run, target, progress=lambda step, done, total: steps.append(step))
    assert "reading the outputs" in steps
    steps.clear()
    second = open_account(run, target, progress=lambda step, done, total: steps.append(step))
    assert "reading the outputs" not in steps
    assert np.array_equal(first.logits, second.logits)
    assert first.labels == {}
    assert first.thresholds == {}


def test_a_run_of_outputs_alone_has_nothing_to_account_for(drawn, tmp_path):
    run = mammi.annotate(
        mammi.create_target("phantom"),
        mammi.ProbingSet.open(drawn / "images"),
        mammi.ConceptSet.from_terms(["effusion", "mass"]),
        mammi.create_vlm("phantom"),
        layers=["head"],
        out=tmp_path / "run",
    )
    with pytest.raises(CaptureError, match=r"outputs only \(head\): annotate a layer before them"):
        open_account(run, load_target(run))


def test_outputs_are_found_by_name_or_number(phantom_account):
    assert phantom_account.output("Pleural_Thickening") == phantom_account.output("pleural thickening")
    assert phantom_account.output(3) == 3
    with pytest.raises(UnknownNameError, match="Did you mean 'effusion'"):
        phantom_account.output("effusions")
    with pytest.raises(InputError, match="outputs 0 to 18, got 19"):
        phantom_account.output(19)
    with pytest.raises(UnknownNameError, match="Layer 'layer9' is not known"):
        open_account(phantom_account.run, phantom_account.target, "layer9")


def slow_best_f1(logits, truth):
    best, chosen = -1.0, None
    pairs = [(z, t) for z, t in zip(logits, truth, strict=True) if not np.isnan(t)]
    for cut in sorted({z for z, _ in pairs}, reverse=True):
        tp = sum(1 for z, t in pairs if z >= cut and t == 1)
        fp = sum(1 for z, t in pairs if z >= cut and t == 0)
        fn = sum(1 for z, t in pairs if z < cut and t == 1)
        f1 = 2 * tp / (2 * tp + fp + fn)
        if f1 > best + 1e-12:
            best, chosen = f1, cut
    lower = [z for z, _ in pairs if z < chosen]
    return (chosen + max(lower)) / 2 if lower else chosen


@pytest.mark.parametrize("seed", range(8))
def test_the_threshold_of_best_f1_is_that_of_trying_all(seed):
    rng = np.random.default_rng(seed)
    logits = rng.integers(-4, 5, 31).astype(float)  # many ties
    truth = rng.choice([0.0, 1.0, np.nan], 31, p=[0.5, 0.3, 0.2])
    truth[0] = 1.0
    assert best_f1_threshold(logits, truth) == pytest.approx(slow_best_f1(logits, truth))


def test_thresholds_separate_what_the_network_knows(phantom_account):
    assert set(phantom_account.thresholds) == {
        name for name, truth in phantom_account.labels.items() if np.nansum(truth)
    }
    name = "effusion"
    called = phantom_account.logits[:, phantom_account.outputs.index(name)] >= phantom_account.thresholds[name]
    assert (called == phantom_account.labels[name]).mean() > 0.9


def test_a_layer_that_leads_nowhere_is_refused_in_words(drawn, tmp_path):
    class Off(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.preprocessing = {"channels": 1, "size": 32, "mean": 0.5, "std": 0.25}
            self.conv, self.off, self.out = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 5, 1), nn.Linear(4, 2)

        def forward(self, x):
            maps = torch.relu(self.conv(x))
            self.off(maps)
            return self.out(maps.mean((2, 3)))

    target = mammi.create_target(Off())
    run = mammi.annotate(
        target,
        mammi.ProbingSet.open(drawn / "images"),
        mammi.ConceptSet.from_terms(["effusion", "mass"]),
        mammi.create_vlm("phantom"),
        layers=["conv", "off"],
        out=tmp_path / "run",
    )
    with pytest.raises(CaptureError, match="output 0 of module does not follow from layer 'off' by gradients"):
        open_account(run, target, "off")
    assert not any(module._forward_hooks for module in target.model.modules())
    assert open_account(run, target, "conv").layer == "conv"


def test_labels_of_films_without_a_logit_give_no_threshold():
    account = made_up_account(np.full((3, 2), np.nan), [[1.0, 1.0]], {"finding 0": [1.0, 0.0, np.nan]}, range(3))
    assert account.thresholds == {}
