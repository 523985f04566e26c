import base64
import pickle
import zipfile
import zlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mammi.errors import TargetError, VlmError
from mammi.weights_file import load_weights, read_checkpoint, read_weights


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 2)


@pytest.fixture
def small():
    torch.manual_seed(0)
    return Small()


class Bomb:
    """A pickle that writes a file when it is opened the unsafe way."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "ran")


@pytest.mark.parametrize("wrap", [None, "state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.model."])
def test_every_usual_wrapping_loads_the_same_weights(tmp_path, small, wrap, prefix):
    other = type(small)()
    state = {prefix + name: value for name, value in small.state_dict().items()}
    torch.save(state if wrap is None else {"epoch": 3, wrap: state}, tmp_path / "w.pt")
    notes = load_weights(other, read_weights(tmp_path / "w.pt"), "'w.pt'")
    assert bool(notes) == bool(prefix)
    for name, value in small.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, rtol=0, atol=0)


def test_safetensors_and_the_old_torch_format_and_any_file_name(tmp_path, small):
    save_file(small.state_dict(), tmp_path / "w.pt")
    torch.save(small.state_dict(), tmp_path / "w.bin", _use_new_zipfile_serialization=False)
    for name in ("w.pt", "w.bin"):
        state = read_weights(tmp_path / name)
        torch.testing.assert_close(state["fc.weight"], small.state_dict()["fc.weight"])


def test_counters_that_old_files_lack_are_not_missed(small):
    state = {k: v for k, v in small.state_dict().items() if "num_batches" not in k}
    load_weights(type(small)(), state, "w")


def test_half_precision_is_widened(small):
    model = type(small)()
    load_weights(model, {k: v.half() if v.is_floating_point() else v for k, v in small.state_dict().items()}, "w")
    assert model.fc.weight.dtype == torch.float32


@pytest.mark.parametrize("unzipped", [False, True])
def test_code_in_a_file_is_refused_and_never_run(tmp_path, unzipped):
    target = tmp_path / "w.pt"
    if unzipped:
        target.write_bytes(pickle.dumps({"state_dict": Bomb(tmp_path / "ran")}, protocol=2))
    else:
        torch.save({"state_dict": Bomb(tmp_path / "ran")}, target)
    with pytest.raises(TargetError, match=r"could run code, so it was not opened.*state_dict\(\)") as caught:
        read_weights(target)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_the_bomb_does_go_off_the_unsafe_way(tmp_path):
    torch.save(Bomb(tmp_path / "ran"), tmp_path / "w.pt")
    torch.load(tmp_path / "w.pt", weights_only=False)
    assert (tmp_path / "ran").exists()


def test_a_whole_pickled_network_is_refused_with_the_way_out(tmp_path, small):
    torch.save(small, tmp_path / "w.pt")
    with pytest.raises(TargetError, match=r"holds more than tensors \(.*Small.*torch\.save\(model\.state_dict\(\)"):
        read_weights(tmp_path / "w.pt")


def test_torchscript_is_refused_with_the_way_out(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        archive.writestr("w/data.pkl", b"")
        archive.writestr("w/code/__torch__.py", b"")
    with pytest.raises(TargetError, match=r"TorchScript program, which holds code.*state_dict\(\)"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize("form", ["torch", "safetensors"])
@pytest.mark.parametrize("keep", [100, 0.5, 0.99])
def test_a_truncated_file_is_said_in_one_line(tmp_path, small, form, keep):
    path = tmp_path / "w"
    torch.save(small.state_dict(), path) if form == "torch" else save_file(small.state_dict(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: keep if keep > 1 else int(len(whole) * keep)])
    with pytest.raises(TargetError, match=r"truncated torch file|not a whole safetensors file") as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>Sign in", "neither a safetensors nor a torch file"),
        (b"\x80\x02garbage", "cannot be read as a torch file|could run code"),
    ],
)
def test_a_wrong_file_is_said_in_one_line(tmp_path, content, message):
    path = tmp_path / "w.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TargetError, match=message) as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ([1, 2], "holds a list, not a state dict"),
        ({"epoch": 3}, r"no tensors by name \(found 'epoch'\)"),
        (torch.zeros(3), "holds a Tensor, not a state dict"),
    ],
)
def test_a_file_without_a_state_dict_is_said(tmp_path, saved, message):
    torch.save(saved, tmp_path / "w.pt")
    with pytest.raises(TargetError, match=message):
        read_weights(tmp_path / "w.pt")


def test_a_folder_is_not_a_file(tmp_path):
    with pytest.raises(TargetError, match="is a folder"):
        read_weights(tmp_path)


def test_what_does_not_fit_is_named_and_nothing_is_loaded(small):
    before = small.fc.bias.clone()
    state = dict(small.state_dict())
    state["classifier.weight"] = state.pop("fc.weight")
    state["norm.weight"] = torch.zeros(7)
    state["fc.bias"] = torch.full((2,), 5.0)
    message = (
        r"1 missing: fc\.weight; 1 unexpected: classifier\.weight; "
        r"1 of another shape: norm\.weight \(7,\) instead of \(4,\)"
    )
    with pytest.raises(TargetError, match=message):
        load_weights(small, state, "'w.pt'")
    torch.testing.assert_close(small.fc.bias, before)


def test_a_shape_alone_that_differs_is_named(small):
    with pytest.raises(TargetError, match=r"names agree\)\. 1 of another shape: fc\.bias \(3,\) instead of \(2,\)"):
        load_weights(small, small.state_dict() | {"fc.bias": torch.zeros(3)}, "w")


def test_a_renamed_layer_is_guessed(small):
    state = dict(small.state_dict())
    state["conv1.weight"] = state.pop("conv.weight")
    with pytest.raises(TargetError, match=r"Is 'conv1\.weight' what the network calls 'conv\.weight'\?"):
        load_weights(small, state, "w")


def test_only_the_first_five_are_named_of_many(small):
    message = r"9 unexpected: a0, a1, a2, a3, a4, \.\.\."
    with pytest.raises(TargetError, match=message):
        load_weights(small, small.state_dict() | {f"a{i}": torch.zeros(1) for i in range(9)}, "w")


def test_what_lies_beside_the_weights_is_given_too(tmp_path, small):
    torch.save({"model": small.state_dict(), "config": {"size": 224}, "epoch": 3}, tmp_path / "w.tar")
    state, rest = read_checkpoint(tmp_path / "w.tar")
    assert set(state) == set(small.state_dict())
    assert rest == {"config": {"size": 224}, "epoch": 3}
    torch.save(small.state_dict(), tmp_path / "bare.pt")
    assert read_checkpoint(tmp_path / "bare.pt")[1] == {}


#: ``{"config": {"scale": [0.8, 1.1], "nested": [[1, "a"], {"on": True, "off": None}]}}`` as OmegaConf 2.3 makes it, its
#: lists left as they are, pickled (protocol 2), deflated.
OMEGA = (
    "eNptk9lS1EAUhocdwrAoi4KIuwZFGHdcEUFxBEaNW0QxZjI904GQ8E8SlIuu0gur4BH0Db30DTydTCSxyE063X2+/z9LvjUL5PT2XC5neW7Vrq"
    "FJoFnV22jDt0yHocXyNlnNlKdTju0H8TVlmZbz8RKtE9/RJtCu6l0UZmyywKyYgYmOVGjZ9JlCAYFpu6y+0riioJNiuwQUVe+k2DqrGsHOFkO3"
    "RS/brSlz7o6CvN5Nh155nVlBfN5jGUY5tJ3Adg1Dkb4U9EYIbyuwPdd00Lert9D3BttBP2+JMqo6Zs3HIYHDupJ8GnXPCzCwp/dG+r7nbLO6YZ"
    "kWZxi0LM9xSJSIvlJhVTN0goptkdhQxkC8N/wDRzQcjWyQbOx0JOvUo5wwqufpCnPYJnMbCR3j+bCsd8j6bZl12sZYqnqS3yj8Ai2Twh+n4o0L"
    "nFB5B5eFPClwSuXdPM97+DDv2+X9vIlTuqf5wB4f5EOcHJ7RcJaP0JVIkY9xCTkncD6BXBBQs5CSZEykGBc1XEozSlHKBjkMpPNJgcskPO7TGa"
    "2nVN7C26IZc5kfsAqmuRyZgsCVRPSqwLVEtDd2Pi1Vr6dUb2i4Saqj/5yP88k13FIj2IzA7QR2R+BuFraUk7B7Kdh9DQ8ysIKEzaqportehfly"
    "AEu0UPCQyHMCj0jl/7neH+d5urQg8LghX0qpP0mpL2p4GqnO6K2ycts0r8WlJtqSKs8ElmQuErYssJKFRR0tpWDPNbyIYbyoNxHOxMuwzGhLtl"
    "YTeJUU5rXAm2xrY9rbFO2dBj0zHwXZw/eq3ix/LherkcUPAh8Ti2sCnzIW+aqEGinoZw1mBNN4cZfmXP6YXrWKOF9LoJLAmEA1CytLWC0F4xrs"
    "BFYKy2GUayhnbQ3rakTcEHAS4qaAe0A7vBRxSwMiYhsvLs7+/imfX41m1AX8BBUIhAc0YzuF+qLh6z7qT4KS3ZjmhdCf+gvJ87ei"
)


def test_settings_of_omegaconf_are_read_without_it(tmp_path):
    settings = zlib.decompress(base64.b64decode("".join(OMEGA)))
    with zipfile.ZipFile(tmp_path / "settings.tar", "w") as archive:
        torch.save({}, tmp_path / "empty.tar")
        with zipfile.ZipFile(tmp_path / "empty.tar") as empty:
            for name in empty.namelist():
                archive.writestr(name, settings if name.endswith("data.pkl") else empty.read(name))
    from mammi.weights_file import _plain, _torch_load

    wanted = {"scale": [0.8, 1.1], "nested": [[1, "a"], {"on": True, "off": None}]}
    assert _plain(_torch_load(tmp_path / "settings.tar")) == {"config": wanted}


def test_a_stand_in_for_a_setting_runs_nothing(tmp_path):
    class Eval:
        def __reduce__(self):
            return dict, ([("a", 1)],)

    torch.save({"model": {"w": torch.ones(1)}, "config": Eval()}, tmp_path / "w.tar")
    assert read_checkpoint(tmp_path / "w.tar")[1] == {"config": None}


def test_a_checkpoint_of_a_training_run_is_read_whatever_lies_beside_the_weights(tmp_path, small):
    optimizer = torch.optim.AdamW(small.parameters())
    sum(parameter.sum() for parameter in small.parameters()).backward()
    optimizer.step()
    whole = {"model": small.state_dict(), "optimizer": optimizer.state_dict(), "train_loss": torch.tensor(0.5)}
    torch.save(whole | {"epoch": 7, "seen": (1, 2)}, tmp_path / "w.tar")
    state, rest = read_checkpoint(tmp_path / "w.tar")
    assert set(state) == set(small.state_dict())
    assert rest == {"train_loss": None, "epoch": 7, "seen": [1, 2]}


def test_the_error_is_of_the_room_that_asked(tmp_path):
    torch.save({"model": Bomb(tmp_path / "ran")}, tmp_path / "w.pt")
    with pytest.raises(VlmError, match="could run code"):
        read_weights(tmp_path / "w.pt", error=VlmError)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(VlmError, match="does not fit"):
        load_weights(Small(), {"fc.weight": torch.zeros(2, 4)}, "'w.pt'", error=VlmError)
