"""Maps on the film's own geometry and gradient times activation, against slow re-derivations and by laws."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate

from mammi.capture import plan_layers, plan_maps
from mammi.data import read_film
from mammi.errors import CaptureError, InputError
from mammi.explain.receptive import cell_offset
from mammi.explain.where import cell_maps, lay_on_film, unit_maps
from mammi.targets import Preprocessing, create_target
from mammi.types import Film


class Net(nn.Module):
    """Maps, an in-place ReLU, channels last, tokens with a class token, and a head that is not linear in them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 6, 4, stride=4)
        self.act = nn.ReLU(inplace=True)
        self.norm = nn.LayerNorm(6)
        self.cls_token = nn.Parameter(torch.randn(1, 1, 6))
        self.block = nn.Linear(6, 6)
        self.mix = nn.Linear(6, 5)
        self.head = nn.Linear(5, 3)
        self.aside = nn.Linear(6, 2)

    def tail(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), self.norm(x.movedim(1, -1)).flatten(1, 2)], 1)
        block = self.block(tokens)
        hidden = self.mix(torch.tanh(block).mean(1) * block[:, 0])
        return block, hidden, self.head(torch.tanh(hidden))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.aside(x.new_zeros(len(x), 6))
        return self.tail(self.act(self.conv(x)))[2]


def make(size=(48, 64), **settings):
    return create_target(Net(), channels=1, size=size, mean=0.4, std=0.3, **settings)


def plan(target, name, pooling=None):
    return plan_layers(target, [name], pooling)[0]


def n_hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


SETTINGS = [
    {"size": (64, 96), "resize": "squash"},
    {"size": (64, 96), "resize": "squash", "crop_pct": 0.83},
    {"size": (96, 64), "resize": "crop", "crop_pct": 0.875},
    {"size": (64, 64), "resize": "crop"},
    {"size": (64, 96), "resize": "pad"},
    {"size": (60, 60), "resize": "pad"},
]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("shape", [(37, 91), (130, 71)])
@pytest.mark.parametrize("size", [None, (19, 23)])
def test_laying_on_the_film_equals_a_slow_rederivation(settings, shape, size):
    preprocessing = Preprocessing.from_dict({"channels": 1, "mean": 0.4, "std": 0.3, **settings})
    cells = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(1))
    found = lay_on_film(cells, preprocessing, shape, size)
    place, (n_rows, n_columns) = preprocessing.placement(*shape), preprocessing.size
    height, width = size or shape
    assert found.shape == (3, height, width)
    assert found.dtype == np.float32

    def at(values, y, x):
        """Bilinear between cell centres; outside the outermost centres, the outermost cell."""
        y, x = min(max(y, 0.0), values.shape[0] - 1.0), min(max(x, 0.0), values.shape[1] - 1.0)
        i, j = math.floor(y), math.floor(x)
        down, right = min(i + 1, values.shape[0] - 1), min(j + 1, values.shape[1] - 1)
        above = (1 - (x - j)) * float(values[i, j]) + (x - j) * float(values[i, right])
        below = (1 - (x - j)) * float(values[down, j]) + (x - j) * float(values[down, right])
        return (1 - (y - i)) * above + (y - i) * below

    for r in range(height):
        for c in range(width):
            y = place.top + (r + 0.5) / height * place.height
            x = place.left + (c + 0.5) / width * place.width
            if not (0 <= y < n_rows and 0 <= x < n_columns):
                assert np.isnan(found[:, r, c]).all()
                continue
            for unit in range(3):
                expected = at(cells[unit], y / n_rows * 5 - 0.5, x / n_columns * 7 - 0.5)
                assert found[unit, r, c] == pytest.approx(expected, abs=2e-6)
    if settings["resize"] == "pad" or ("crop_pct" not in settings and settings["resize"] == "squash"):
        assert np.isfinite(found).all()  # the whole film was seen


@pytest.mark.parametrize("shape", [(37, 91), (320, 321), (6, 5)])
def test_a_squashed_film_gets_what_torch_interpolates(shape):
    preprocessing = Preprocessing.from_dict({"channels": 1, "size": (64, 96), "mean": 0.4, "std": 0.3})
    cells = torch.randn(2, 4, 7, 9, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(
        torch.from_numpy(lay_on_film(cells, preprocessing, shape)),
        interpolate(cells.double(), shape, mode="bilinear", align_corners=False).float(),
    )


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("shape", [(150, 260), (260, 150), (203, 201)])
def test_a_bright_spot_comes_back_to_where_it_was(settings, shape):
    preprocessing = Preprocessing.from_dict({"channels": 1, "mean": 0.4, "std": 0.3, **settings})
    y, x = round(shape[0] * 0.55), round(shape[1] * 0.42)
    pixels = np.zeros(shape, np.float32)
    pixels[y - 9 : y + 9, x - 9 : x + 9] = 1
    view = preprocessing.apply(Film(pixels)) * 0.3 + 0.4
    cells = nn.functional.avg_pool2d(view[None], 4)[0]
    found = np.nan_to_num(lay_on_film(cells, preprocessing, shape)[0])
    mass = found * (found > 0.3)
    rows, columns = np.arange(shape[0]) + 0.5, np.arange(shape[1]) + 0.5
    cell = max(shape[0] / (preprocessing.size[0] / 4), shape[1] / (preprocessing.size[1] / 4))
    assert abs((mass.sum(1) @ rows) / mass.sum() - y) < 0.25 * cell
    assert abs((mass.sum(0) @ columns) / mass.sum() - x) < 0.25 * cell


def looking(target, layer):
    return cell_offset(target, plan_maps(target, [plan(target, layer)])[0])


def test_unit_maps_are_the_maps_of_the_layer():
    target = make(resize="crop")
    film = Film(np.random.default_rng(0).random((61, 50), dtype=np.float32))
    view = target.view(film)[None]
    with torch.no_grad():
        conv = target.model.conv(view)
        norm = target.model.norm(conv.relu().movedim(1, -1)).movedim(-1, 1)
        block = target.model.block(norm.movedim(1, -1)).movedim(-1, 1)
    for name, cells in {"conv": conv, "norm": norm, "block": block}.items():
        found = unit_maps(target, plan(target, name), film, [4, 0])
        np.testing.assert_allclose(
            found.maps,
            lay_on_film(cells[0, [4, 0]], target.preprocessing, (61, 50), offset=looking(target, name)),
            rtol=1e-5,
            atol=1e-5,
        )
        assert (found.kind, found.layer, found.units) == ("map", name, (4, 0))
        assert np.isnan(found.maps[:, 0, :]).all()  # cropped away
        assert len(unit_maps(target, plan(target, name), film).maps) == 6
        assert len(unit_maps(target, plan_maps(target, [plan(target, name)])[0], film, []).maps) == 0


def test_gradient_times_activation_equals_a_slow_rederivation():
    target = make()
    model = target.model
    views = torch.randn(3, 1, 48, 64, generator=torch.Generator().manual_seed(3))
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.train()
    model.norm.eval()
    modes = [module.training for module in model.modules()]
    with torch.no_grad():  # whatever the caller is in
        of = {
            name: cell_maps(target, plan(target, name), views, [2, 0], at=plan(target, "act"))
            for name in ("mix", "head")
        }
        of["block"] = cell_maps(target, plan(target, "block", "cls"), views, [2, 0], at=plan(target, "act"))
    assert [module.training for module in model.modules()] == modes
    assert n_hooks(model) == 0
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in model.parameters())
    maps = model.conv(views).relu().detach()
    for film in range(3):
        leaf = maps[film : film + 1].clone().requires_grad_(True)
        block, hidden, logits = model.tail(leaf)
        for name, value in {"mix": hidden, "head": logits, "block": block[:, 0]}.items():
            for position, unit in enumerate((2, 0)):
                if name == "block":  # the class token of this toy sees no patch
                    continue
                (gradient,) = torch.autograd.grad(value[0, unit], leaf, retain_graph=True)
                expected = torch.zeros(12, 16)
                for k in range(6):
                    expected += gradient[0, k] * leaf[0, k].detach()
                torch.testing.assert_close(of[name][film, position], expected, atol=1e-6, rtol=1e-5)
    assert (of["block"] == 0).all()


def test_slopes_are_those_of_the_network_itself():
    """Against finite differences: nudge the maps, look at the unit."""
    target = make()
    view = torch.randn(1, 1, 48, 64, generator=torch.Generator().manual_seed(3))
    found = cell_maps(target, plan(target, "head"), view, [1], at=plan(target, "act"))[0, 0]
    model, step = target.model.double(), 1e-6
    with torch.no_grad():
        maps = model.conv(view.double()).relu()
        for row, column in ((0, 0), (5, 9), (11, 15)):
            expected = 0.0
            for k in range(6):
                up, down = maps.clone(), maps.clone()
                up[0, k, row, column] += step
                down[0, k, row, column] -= step
                slope = (model.tail(up)[2][0, 1] - model.tail(down)[2][0, 1]) / (2 * step)
                expected += float(slope * maps[0, k, row, column])
            assert float(found[row, column]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("at", ["conv", "norm", "block", "norm@in", "block@in"])
def test_every_kind_of_layer_can_stand_below(at):
    target = make()
    views = torch.randn(2, 1, 48, 64, generator=torch.Generator().manual_seed(4))
    found = cell_maps(target, plan(target, "head"), views, at=plan(target, at))
    assert found.shape == (2, 3, 12, 16)
    assert found.abs().max() > 0
    one = torch.cat([cell_maps(target, plan(target, "head"), view[None], at=plan(target, at)) for view in views])
    torch.testing.assert_close(found, one, atol=1e-6, rtol=1e-4)  # the batch changes nothing
    torch.testing.assert_close(
        found[:, [2, 0]], cell_maps(target, plan(target, "head"), views, [2, 0], at=plan(target, at))
    )


def test_maps_of_a_linear_head_add_up_to_the_logit():
    target = create_target("phantom")
    views = torch.rand(3, 1, 128, 128, generator=torch.Generator().manual_seed(5))
    found = cell_maps(target, plan(target, "head"), views, at=plan(target, "layer3"))
    with torch.no_grad():
        logits, bias = target.model(views), target.model.head.bias
        maps = target.model.features(views)
        by_hand = torch.einsum("nkhw,ck->nchw", maps, target.model.head.weight) / 64
    torch.testing.assert_close(found.sum((2, 3)) + bias, logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found, by_hand, atol=1e-5, rtol=1e-4)
    same = cell_maps(target, plan(target, "layer3"), views, [7], at=plan(target, "layer3"))
    torch.testing.assert_close(same[:, 0], maps[:, 7] / 64)  # of itself: its own map, as its mean sees it


def test_what_cannot_be_told_is_refused():
    target = make()
    film = Film(np.zeros((30, 40), np.float32))
    head, conv, aside = (plan(target, name) for name in ("head", "conv", "aside"))
    with pytest.raises(CaptureError, match="'head' gives one number a unit and no map: give an earlier layer"):
        unit_maps(target, head, film)
    with pytest.raises(CaptureError, match="'mix' gives one number a unit and no map"):
        unit_maps(target, head, film, at=plan(target, "mix"))
    for unit_layer, at in ((conv, plan(target, "norm")), (aside, conv)):
        with pytest.raises(CaptureError, match=f"'{unit_layer.name}' does not follow from '{at.name}'"):
            unit_maps(target, unit_layer, film, at=at)
    with pytest.raises(InputError, match="layer 'conv' has units 0 to 5, got 6"):
        unit_maps(target, conv, film, [0, 6])
    with pytest.raises(InputError, match="'cells' must be floating"):
        lay_on_film(torch.zeros(2, 3, dtype=torch.int64), target.preprocessing, (30, 40))
    assert n_hooks(target.model) == 0

    net = Net()
    net.preprocess = lambda picture: torch.zeros(1, 48, 64)
    own = create_target(net)
    with pytest.raises(InputError, match="does not tell where a film lies"):
        unit_maps(own, plan(own, "conv"), film)


def test_hooks_go_also_when_the_network_fails():
    target = make()
    wrong = torch.zeros(1, 2, 48, 64)
    for at in (None, plan(target, "conv")):
        with pytest.raises(RuntimeError):
            cell_maps(target, plan(target, "act"), wrong, at=at)
        assert n_hooks(target.model) == 0
    target.model.train()
    with pytest.raises(RuntimeError):
        cell_maps(target, plan(target, "head"), wrong, at=plan(target, "conv"))
    assert all(module.training for module in target.model.modules())


def test_a_vision_transformer_of_timm():
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    net = timm.create_model(
        "vit_tiny_patch16_224", img_size=(64, 96), depth=2, embed_dim=24, num_heads=2, num_classes=3, in_chans=1
    )
    target = create_target(net, channels=1, size=(64, 96), mean=0.5, std=0.25)
    film = Film(np.random.default_rng(0).random((50, 80), dtype=np.float32))
    first, second, head = (plan(target, name) for name in ("blocks.0", "blocks.1", "head"))
    assert first.n_prefix == 1
    assert cell_maps(target, first, target.view(film)[None]).shape == (1, 24, 4, 6)
    for unit_layer in (second, head):
        found = unit_maps(target, unit_layer, film, [1, 2], at=first)
        assert found.maps.shape == (2, 50, 80)
        assert np.abs(found.maps).max() > 0
        assert found.kind == "gradient x activation at blocks.0"


def test_a_real_network_on_real_films(shared_data):
    """A vector layer behind average, linear layer, normalisation and hard swish, against its slope worked out by hand."""
    folder = shared_data / "mobilenet_nih"
    target = create_target(f"{folder / 'model.py'}:MNV3S", folder / "weights.pt", resize="crop")
    images = shared_data / "nih" / "images"
    film = read_film(sorted(images.iterdir())[7])
    units = [3, 700, 1279]
    found = unit_maps(target, plan(target, "hs3"), film, units, at=plan(target, "hs2"))
    assert found.maps.shape == (3, *film.pixels.shape)
    model = target.model
    with torch.no_grad():
        maps = model.features(target.view(film)[None])[0]
        norm = model.bn3
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        pre = (model.linear3(maps.mean((1, 2))) - norm.running_mean) * scale + norm.bias
        slope = torch.where(pre <= -3, 0.0, torch.where(pre >= 3, 1.0, pre / 3 + 0.5)) * scale
        by_hand = [slope[u] * torch.einsum("k,khw->hw", model.linear3.weight[u], maps) / 49 for u in units]
    shape, offset = film.pixels.shape, looking(target, "hs2")
    assert offset == pytest.approx(
        [-15.5, -15.5], abs=5
    )  # five strides of two; squeeze and excitation takes part of it
    expected = lay_on_film(torch.stack(by_hand), target.preprocessing, shape, offset=offset)
    np.testing.assert_allclose(found.maps, expected, atol=1e-5, rtol=1e-4)
