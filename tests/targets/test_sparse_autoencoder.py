import json
import pickle

import pytest
import torch
from safetensors.torch import save_file
from tests.targets.same import films_for, hooks_of, recorded, seen_by_hand
from torch import nn
from typer.testing import CliRunner

from mammi.capture import Recorder, plan_layers
from mammi.cli import app
from mammi.errors import InputError, TargetError, UnknownNameError
from mammi.targets import copied, create_target, list_layers
from mammi.targets.sae_file import read_sae

WIDTH, LATENTS = 6, 11


def drawn(*shape):
    return torch.randn(*shape)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(4)


def written(folder, state, settings=None, file="sae.safetensors", name="cfg.json"):
    folder.mkdir(exist_ok=True)
    if file.endswith(".pt"):
        torch.save(state, folder / file)
    else:
        save_file({key: value.contiguous() for key, value in state.items()}, folder / file)
    if settings is not None:
        (folder / name).write_text(json.dumps(settings))
    return folder / file


def saelens(**more):
    state = {"W_enc": drawn(WIDTH, LATENTS), "b_enc": drawn(LATENTS), "W_dec": drawn(LATENTS, WIDTH)}
    return state | {"b_dec": drawn(WIDTH)} | more


def linear(**more):
    state = {"encoder.weight": drawn(LATENTS, WIDTH), "encoder.bias": drawn(LATENTS)}
    return state | more


def top(values, k):
    """Keep the k largest of each row, by sorting."""
    line = values.sort(dim=-1, descending=True).values[..., k - 1 : k]
    return torch.where(values >= line, values, torch.zeros(()))


X = torch.randn(40, WIDTH, generator=torch.Generator().manual_seed(9))


def layouts():
    """Each published layout: state, settings, file, settings' name, and the library's own formula written again."""
    s = saelens()
    yield (
        "SAELens standard",
        s,
        {"architecture": "standard", "apply_b_dec_to_input": True, "normalize_activations": "none"},
        "sae_weights.safetensors",
        "cfg.json",
        torch.relu((X - s["b_dec"]) @ s["W_enc"] + s["b_enc"]),
    )
    j = saelens(threshold=torch.rand(LATENTS) + 0.2)
    pre = X @ j["W_enc"] + j["b_enc"]
    yield (
        "SAELens jumprelu",
        j,
        {"architecture": "jumprelu", "apply_b_dec_to_input": False},
        "sae_weights.safetensors",
        "cfg.json",
        torch.relu(pre) * (pre > j["threshold"]),
    )
    t = saelens()
    pre = ((X - t["b_dec"]) @ t["W_enc"] + t["b_enc"]) * t["W_dec"].norm(dim=-1)
    yield (
        "SAELens topk",
        t,
        {"architecture": "topk", "k": 3, "apply_b_dec_to_input": True, "rescale_acts_by_decoder_norm": True},
        "sae_weights.safetensors",
        "cfg.json",
        top(torch.relu(pre), 3),
    )
    e = linear(W_dec=drawn(LATENTS, WIDTH), b_dec=drawn(WIDTH))
    yield (
        "sparsify",
        e,
        {"k": 4, "activation": "topk", "d_in": WIDTH, "transcode": False},
        "sae.safetensors",
        "cfg.json",
        top(torch.relu((X - e["b_dec"]) @ e["encoder.weight"].T + e["encoder.bias"]), 4),
    )
    d = linear(bias=drawn(WIDTH), **{"decoder.weight": drawn(WIDTH, LATENTS)})
    yield (
        "dictionary_learning AutoEncoder",
        d,
        {"trainer": {"dict_class": "AutoEncoder"}},
        "ae.pt",
        "config.json",
        torch.relu((X - d["bias"]) @ d["encoder.weight"].T + d["encoder.bias"]),
    )
    k = linear(b_dec=drawn(WIDTH), **{"decoder.weight": drawn(WIDTH, LATENTS)})
    k |= {"k": torch.tensor(2, dtype=torch.int), "threshold": torch.tensor(-1.0)}
    pre = torch.relu((X - k["b_dec"]) @ k["encoder.weight"].T + k["encoder.bias"])
    yield (
        "dictionary_learning TopK",
        k,
        {"trainer": {"dict_class": "AutoEncoderTopK"}},
        "ae.pt",
        "config.json",
        top(pre, 2),
    )
    b = k | {"threshold": torch.tensor(0.7)}
    yield (
        "dictionary_learning BatchTopK",
        b,
        {"trainer": {"dict_class": "BatchTopKSAE"}},
        "ae.pt",
        "config.json",
        pre * (pre > 0.7),
    )
    r = saelens(threshold=torch.rand(LATENTS) + 0.2)
    pre = X @ r["W_enc"] + r["b_enc"]
    yield (
        "dictionary_learning JumpReLU",
        r,
        {"trainer": {"dict_class": "JumpReluAutoEncoder"}},
        "ae.pt",
        "config.json",
        torch.relu(pre * (pre > r["threshold"])) * r["W_dec"].norm(dim=1),
    )


LAYOUTS = list(layouts())


@pytest.mark.parametrize(
    ("state", "settings", "file", "name", "latents"), [row[1:] for row in LAYOUTS], ids=[row[0] for row in LAYOUTS]
)
def test_every_published_layout_gives_its_librarys_latents(tmp_path, state, settings, file, name, latents):
    written(tmp_path, state, settings, file, name)
    target = create_target(nn.Sequential(Flat(), nn.Linear(WIDTH, 2)), size=(1, WIDTH), sae={"0": tmp_path})
    ours = recorded(target, "sae.0", X[:, None, None, :])
    assert 0 < (latents > 0).float().mean() < 1
    torch.testing.assert_close(ours, latents, atol=1e-5, rtol=1e-5)
    assert [n for n in target.notes if "assumed" in n and "preprocessing" not in n] == []


class Flat(nn.Module):
    def forward(self, x):
        return x[:, 0, 0, :] * 1.0


class Net(nn.Module):
    """Maps, tokens and a vector, each of WIDTH units."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, WIDTH, 3)
        self.act = nn.ReLU(inplace=True)
        self.cls_token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.tokens = nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, 2)

    def forward(self, x):
        maps = self.act(self.conv(x))
        rows = torch.cat([self.cls_token.expand(len(x), -1, -1), maps.flatten(2).mT], 1)
        return self.head(self.tokens(rows)[:, 0] + rows.mean(1))


@pytest.fixture
def file(tmp_path):
    return written(tmp_path / "sae", saelens(), {"architecture": "topk", "k": 3, "apply_b_dec_to_input": True})


def latents_by_hand(file, vectors):
    sae = read_sae(file)
    return top(torch.relu((vectors - sae.shift) @ sae.weight + sae.bias), 3)


def test_latents_are_taken_at_every_place_and_then_pooled(file):
    net = Net()
    plain = create_target(net, size=(12, 9))
    films = films_for(plain)
    output, maps = seen_by_hand(net, "conv", films)
    _, tokens = seen_by_hand(net, "tokens", films)
    maps = maps.clone()
    target = create_target(net, size=(12, 9), sae={"conv": file, "tokens": file, "head": other_width(file)})
    layers = {layer.name: layer for layer in list_layers(target)}
    assert (layers["sae.conv"].layout, layers["sae.conv"].shape) == ("map", (LATENTS, 10, 7))
    assert (layers["sae.tokens"].layout, layers["sae.tokens"].shape) == ("tokens", (71, LATENTS))
    assert (layers["sae.tokens"].pooling, layers["sae.head"].layout, layers["sae"].n_units) == ("cls", "vector", 0)
    by_hand = latents_by_hand(file, maps.movedim(1, -1))
    torch.testing.assert_close(recorded(target, "sae.conv", films), by_hand.mean((1, 2)))
    torch.testing.assert_close(recorded(target, "sae.conv", films, "max"), by_hand.amax((1, 2)))
    at_tokens = latents_by_hand(file, tokens)
    torch.testing.assert_close(recorded(target, "sae.tokens", films), at_tokens[:, 0])
    torch.testing.assert_close(recorded(target, "sae.tokens", films, "mean"), at_tokens[:, 1:].mean(1))
    # Nothing of it goes back into the network, and nothing stays on it.
    with torch.no_grad():
        torch.testing.assert_close(target.model(films), output, atol=0, rtol=0)
    assert hooks_of(target.model) == hooks_of(net) == 0
    assert {name: v.shape for name, v in net.state_dict().items()}.items() <= {
        name: v.shape for name, v in target.model.state_dict().items()
    }.items()


def other_width(file):
    state = {"encoder.weight": drawn(5, 2), "encoder.bias": drawn(5), "decoder.weight": drawn(2, 5)}
    return written(file.parent.parent / "head", state, None, "ae.pt")


def test_rows_do_not_depend_on_their_batch(file):
    target = create_target(Net(), size=12, sae={"conv": file})
    films = films_for(target, 5)
    alone = torch.cat([recorded(target, "sae.conv", film[None]) for film in films])
    torch.testing.assert_close(recorded(target, "sae.conv", films), alone, atol=1e-6, rtol=1e-5)


def test_the_mode_of_the_network_inside_is_the_one_outside(file):
    class Moody(Net):
        def forward(self, x):
            return super().forward(x) + (100 if self.training else 0)

    target = create_target(Moody(), size=12, sae={"conv": file})
    films = films_for(target)
    before = target.model(films)
    with Recorder(target.model.train(), plan_layers(target, ["conv"])) as recorder:
        recorder.record(films)
    assert float((target.model(films) - before).detach().mean()) == pytest.approx(100, abs=1e-3)
    assert torch.equal(target.model.eval()(films), before)


def test_it_is_copied_lowered_and_sent_with_its_latents(file, net_file):
    path = net_file(
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        f"        self.conv = nn.Conv2d(1, {WIDTH}, 3)\n"
        f"        self.head = nn.Linear({WIDTH}, 2)\n"
        "    def forward(self, x):\n"
        "        return self.head(self.conv(x).mean((2, 3)))\n"
    )
    target = create_target(f"{path}:Net", size=12, sae={"conv": file})
    films = films_for(target)
    expected = recorded(target, "sae.conv", films)
    again = pickle.loads(pickle.dumps(target))
    assert again.fingerprint == target.fingerprint
    torch.testing.assert_close(recorded(again, "sae.conv", films), expected)
    twin = copied(target)
    with torch.no_grad():
        twin.get_submodule("sae.conv").bias.zero_()
    assert not torch.equal(twin.get_submodule("sae.conv").bias, target.model.get_submodule("sae.conv").bias)
    torch.testing.assert_close(recorded(target, "sae.conv", films), expected)
    half = target.at("bfloat16")
    with Recorder(half.model, plan_layers(target, ["sae.conv"]), "bfloat16") as recorder:
        assert recorder.record(films)["sae.conv"].shape == expected.shape
    # The weights of the autoencoder are part of the content.
    plain = create_target(f"{path}:Net", size=12)
    state = saelens()
    other = written(file.parent.parent / "b", state, {"architecture": "topk", "k": 3, "apply_b_dec_to_input": True})
    fewer = written(file.parent.parent / "c", state, {"architecture": "topk", "k": 2, "apply_b_dec_to_input": True})
    contents = [create_target(f"{path}:Net", size=12, sae={"conv": f}).fingerprint for f in (other, fewer)]
    assert len({plain.fingerprint, target.fingerprint, *contents}) == 4
    assert "sae" not in plain.source


def test_what_cannot_be_read_is_refused_with_the_reason(file, tmp_path):
    def make(layer, path):
        return create_target(Net(), size=12, sae={layer: path})

    with pytest.raises(UnknownNameError, match="Did you mean 'conv'"):
        make("conf", file)
    with pytest.raises(TargetError, match=r"reads 6 units, but layer 'head' of module has 2: give the layer it was tr"):
        make("head", file)
    with pytest.raises(TargetError, match="is no sparse autoencoder in a known layout"):
        make("conv", written(tmp_path / "a", {"w": drawn(2)}))
    with pytest.raises(TargetError, match="gated sparse autoencoder: expected ReLU, TopK or JumpReLU"):
        make("conv", written(tmp_path / "b", saelens(), {"architecture": "gated"}))
    with pytest.raises(TargetError, match=r"normalises activations first \('layer_norm'\): fold it"):
        make("conv", written(tmp_path / "c", saelens(), {"normalize_activations": "layer_norm"}))
    with pytest.raises(TargetError, match="no cfg.json beside it says k"):
        make("conv", written(tmp_path / "d", linear(W_dec=drawn(LATENTS, WIDTH), b_dec=drawn(WIDTH))))
    with pytest.raises(TargetError, match=r"encoder bias has shape \(3,\), expected \(11,\)"):
        make("conv", written(tmp_path / "e", saelens(b_enc=drawn(3)), {"apply_b_dec_to_input": True}))
    state = linear(b_dec=drawn(WIDTH), **{"decoder.weight": drawn(WIDTH, LATENTS)})
    state |= {"k": torch.tensor(2), "threshold": torch.tensor(-1.0)}
    untrained = written(tmp_path / "f", state, {"trainer": {"dict_class": "BatchTopKSAE"}}, "ae.pt", "config.json")
    with pytest.raises(TargetError, match="threshold is below 0"):
        make("conv", untrained)
    with pytest.raises(TargetError, match="does not exist"):
        make("conv", tmp_path / "nowhere.pt")
    with pytest.raises(InputError, match="names no layer"):
        create_target(Net(), size=12, sae={})


def test_settings_that_are_missing_are_assumed_aloud(tmp_path):
    subtracts = read_sae(written(tmp_path / "a", saelens()))
    plain = read_sae(written(tmp_path / "b", saelens(threshold=torch.ones(LATENTS))))
    assert "assumed that b_dec is subtracted first" in subtracts.notes[0]
    assert "assumed that nothing is subtracted first" in plain.notes[0]
    assert bool(subtracts.shift.any())
    assert not bool(plain.shift.any())


def test_the_command_line_lists_the_latents(tmp_path):
    layer = next(layer for layer in list_layers(create_target("phantom")) if layer.layout == "map")
    state = {"W_enc": drawn(layer.n_units, 40), "b_enc": drawn(40), "W_dec": drawn(40, layer.n_units)}
    state["b_dec"] = drawn(layer.n_units)
    path = written(tmp_path / "sae", state, {"architecture": "standard", "apply_b_dec_to_input": True})
    run = CliRunner().invoke(app, ["layers", "--target", "phantom", "--sae", f"{layer.name}={path}"])
    assert run.exit_code == 0, run.output
    assert f"sae.{layer.name}" in run.output
    for wrong, said in ((layer.name, "LAYER=FILE"), ("=x", "LAYER=FILE")):
        run = CliRunner().invoke(app, ["layers", "--target", "phantom", "--sae", wrong])
        assert run.exit_code != 0
        assert said in run.output
