"""Integrated gradients against plain loops and against the weights; what they leave over is told."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import mammi
from mammi.capture import plan_layers
from mammi.errors import CaptureError
from mammi.explain.attribution import integrated_gradients, weighted_units
from mammi.explain.heads import linear_head
from mammi.types import Film


class Toy(nn.Module):
    """A map with a ReLU in place behind it, a smooth bend, then logits and, if asked, a link or a way around."""

    def __init__(self, link="none", around=False, size=6):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.mix = nn.Linear(4, 5)
        self.bend = nn.Tanh()
        self.out = nn.Linear(5, 3)
        self.link, self.around = link, around
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)

    def tail(self, maps, x):
        units = self.bend(self.mix(self.relu(maps.clone()).mean((2, 3))))
        z = self.out(units)
        return z + 0.3 * x.mean((1, 2, 3))[:, None] ** 2 if self.around else z

    def forward(self, x):
        maps = self.conv(x)
        units = self.bend(self.mix(self.relu(maps).mean((2, 3))))
        z = self.out(units)
        if self.around:
            z = z + 0.3 * x.mean((1, 2, 3))[:, None] ** 2
        return {"none": lambda z: z, "sigmoid": torch.sigmoid, "softmax": lambda z: z.softmax(-1)}[self.link](z)


class Tokens(nn.Module):
    """Patches with a class token, two blocks of attention: a small transformer."""

    def __init__(self, n_features=6, n_outputs=4):
        super().__init__()
        torch.manual_seed(5)
        self.patch = nn.Conv2d(1, n_features, 4, 4)
        self.cls_token = nn.Parameter(torch.randn(1, 1, n_features))
        self.first = nn.TransformerEncoderLayer(n_features, 2, 12, dropout=0.3, batch_first=True)
        self.second = nn.TransformerEncoderLayer(n_features, 2, 12, dropout=0.3, batch_first=True)
        self.norm = nn.LayerNorm(n_features)
        self.head = nn.Linear(n_features, n_outputs)

    def forward(self, x):
        patches = self.patch(x).flatten(2).mT
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), patches], 1)
        tokens = self.second(self.first(tokens))
        return self.head(self.norm(tokens)[:, 0])


def target_of(net, size=(6, 8), **settings):
    return mammi.create_target(net, channels=1, size=size, mean=0.5, std=0.25, **settings)


def a_view(target, seed=0):
    rng = np.random.default_rng(seed)
    return target.view(Film(rng.random(target.preprocessing.size, dtype=np.float32)))


def slowly(tail, film_value, base_value, output, points=800):
    """Equation 1 of the paper, the middle of every one of many equal steps."""
    total = torch.zeros_like(film_value)
    for k in range(points):
        here = (base_value + (k + 0.5) / points * (film_value - base_value)).detach().requires_grad_()
        (slope,) = torch.autograd.grad(tail(here)[0, output], here)
        total += slope / points
    return ((film_value - base_value) * total).detach().double()


@pytest.mark.parametrize("around", [False, True])
def test_against_plain_loops(around):
    net = Toy(around=around).eval()
    target = target_of(net)
    view = a_view(target)
    plan = plan_layers(target, ["conv"])[0]
    found = integrated_gradients(target, plan, view, [2, 0], steps=256)
    at_film, at_base = (net.conv(x).detach() for x in (view[None], torch.zeros_like(view[None])))
    for row, output in enumerate([2, 0]):
        by_hand = slowly(lambda maps: net.tail(maps, view[None]), at_film, at_base, output).sum((2, 3))[0]
        np.testing.assert_allclose(found.contributions[row], by_hand, atol=1e-3)
        assert found.logits[row] == pytest.approx(net(view[None])[0, output].item(), abs=1e-6)
        assert found.base[row] == pytest.approx(net(torch.zeros_like(view[None]))[0, output].item(), abs=1e-6)
    np.testing.assert_allclose(found.activations, net.conv(view[None]).mean((2, 3))[0].detach(), atol=1e-6)
    # What passes the layer by is no unit's: it is told, to the digit.
    left_over = 0.3 * view.mean().item() ** 2 if around else 0.0
    np.testing.assert_allclose(found.gap, left_over, atol=2e-3)


def test_smooth_networks_are_complete_to_the_digit():
    target = target_of(Toy().eval())
    plan = plan_layers(target, ["mix"])[0]
    found = integrated_gradients(target, plan, a_view(target), [0, 1, 2])
    assert np.abs(found.gap).max() < 1e-5
    assert np.abs(found.contributions).min() > 0


@pytest.mark.parametrize(("layer", "twin"), [("relu@in", "conv"), ("out@in", "bend"), ("bend@in", "mix")])
def test_what_goes_into_a_layer_is_what_came_out_of_the_one_before(layer, twin):
    target = target_of(Toy().eval())
    view = a_view(target)
    one, other = (integrated_gradients(target, plan_layers(target, [n])[0], view, [1]) for n in (layer, twin))
    np.testing.assert_allclose(one.contributions, other.contributions, atol=1e-6)


@pytest.mark.parametrize("link", ["sigmoid", "softmax"])
def test_the_logit_is_attributed_not_the_probability(link):
    plain, linked = target_of(Toy().eval()), target_of(Toy(link).eval())
    view = a_view(plain, seed=4)
    plan = plan_layers(plain, ["conv"])[0]
    one, other = (integrated_gradients(target, plan, view, [0, 2]) for target in (plain, linked))
    np.testing.assert_allclose(one.contributions, other.contributions, atol=1e-6)
    np.testing.assert_allclose(one.logits, other.logits, atol=1e-6)
    assert other.logits.min() < 0 or other.logits.max() > 1


def test_linear_heads_are_exact_and_integrated_gradients_agree(phantom_account):
    target, plan, head = phantom_account.target, phantom_account.plan, phantom_account.head
    view = a_view(target, seed=1)
    exact = weighted_units(target, plan, head, view, [7, 3, 18])
    assert np.abs(exact.gap).max() < 1e-4
    weights = target.model.head.weight.detach().double().numpy()[[7, 3, 18]]
    np.testing.assert_allclose(exact.contributions, exact.activations * weights)
    np.testing.assert_allclose(exact.base, target.model.head.bias.detach().numpy()[[7, 3, 18]])
    by_gradients = integrated_gradients(target, plan, view, [7, 3, 18])
    at_base = weighted_units(target, plan, head, torch.zeros_like(view), [7, 3, 18])
    # The units' share in the baseline's logit is its base, and so no contribution.
    np.testing.assert_allclose(by_gradients.contributions, exact.contributions - at_base.contributions, atol=1e-5)
    np.testing.assert_allclose(by_gradients.base, at_base.logits, atol=1e-5)
    assert np.abs(by_gradients.gap).max() < 1e-4


def test_a_deep_layer_with_kinks_leaves_little_over(phantom_account):
    target = phantom_account.target
    plan = plan_layers(target, ["layer2"])[0]
    found = integrated_gradients(target, plan, a_view(target, seed=2), range(19))
    assert found.contributions.shape == (19, 72)
    assert np.abs(found.gap).max() < 0.02 * np.abs(found.logits - found.base).max()


@pytest.mark.parametrize("layer", ["first", "second", "norm", "patch"])
def test_tokens(layer):
    net = Tokens()
    target = target_of(net, size=(12, 8))
    net.train()  # as a user may leave it
    modes = {name: module.training for name, module in net.named_modules()}
    found = integrated_gradients(target, plan_layers(target, [layer])[0], a_view(target), [3, 1])
    assert found.contributions.shape == (2, 6)
    assert np.abs(found.gap).max() < 5e-3
    assert {name: module.training for name, module in net.named_modules()} == modes
    if layer == "norm":
        head = linear_head(target, plan_layers(target, ["norm"])[0])
        assert head is not None
        exact = weighted_units(target, plan_layers(target, ["norm"])[0], head, a_view(target), [3, 1])
        assert np.abs(exact.gap).max() < 1e-6


def test_nothing_is_left_behind():
    net = Toy()
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    target = target_of(net)
    plan = plan_layers(target, ["conv"])[0]
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = integrated_gradients(target, plan, a_view(target), [0])
    assert np.abs(found.contributions).max() > 0
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_a_layer_off_the_way_is_refused_and_leaves_no_hook():
    class Off(Toy):
        def forward(self, x):
            self.mix(torch.zeros(len(x), 4))
            return self.out(functional.pad(x.mean((2, 3)), (0, 4)))

    net = Off().eval()
    target = target_of(net)
    plan = plan_layers(target, ["mix"])[0]
    with pytest.raises(CaptureError, match="output 1 of module does not follow from layer 'mix'"):
        integrated_gradients(target, plan, a_view(target), [1])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_the_number_of_films_in_a_pass_changes_nothing(monkeypatch):
    target = target_of(Toy().eval())
    plan = plan_layers(target, ["conv"])[0]
    whole = integrated_gradients(target, plan, a_view(target), [0])
    monkeypatch.setattr("mammi.explain.attribution.AT_ONCE", 5)
    parts = integrated_gradients(target, plan, a_view(target), [0])
    np.testing.assert_allclose(whole.contributions, parts.contributions, atol=1e-5)


def test_a_blank_film_is_its_own_baseline():
    target = target_of(Toy().eval())
    plan = plan_layers(target, ["conv"])[0]
    found = integrated_gradients(target, plan, torch.zeros(1, 6, 8), [0, 1])
    assert not found.contributions.any()
    assert np.array_equal(found.logits, found.base)
