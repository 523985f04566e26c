import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from mammi.errors import ImageError, InputError, TargetError, UnknownNameError
from mammi.targets import Preprocessing, create_target, list_layers, list_targets
from mammi.types import Film

GREY = Film(np.linspace(0, 1, 30 * 40, dtype=np.float32).reshape(30, 40))
NET = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.fc = nn.Linear(4, 2)
    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))
"""


def test_a_module_is_used_itself(small):
    target = create_target(small.train(), size=32)
    assert target.model is small
    assert (target.name, target.device, target.n_outputs, target.output_names) == ("module", "cpu", 2, ())
    assert not any(module.training for module in small.modules())
    assert target.preprocessing == Preprocessing(1, (32, 32), (0.485,), (0.229,))
    assert target.notes == (
        "module declares no preprocessing: assumed 1x32x32, squash bilinear, mean 0.485, std 0.229",
    )
    assert target.view(GREY).shape == (1, 32, 32)


def test_a_strip_is_refused_before_it_is_resized(small):
    """A strip of 30 million pixels would ask for gigabytes: its side is kept while the other is blown up."""
    target = create_target(small, size=32)
    assert target.view(Film(np.zeros((2, 100), np.float32))).shape == (1, 32, 32)
    for shape in ((1, 51), (3_000_000, 1), (1, 3_000_000, 3)):
        with pytest.raises(ImageError, match="a strip and no film"):
            target.view(Film(np.zeros(shape, np.float32)))


def test_a_target_does_not_speak_of_assumptions_when_all_is_told(small):
    assert create_target(small, size=16, mean=0.5, std=0.5, resize="pad").notes == ()


def test_a_file_with_its_weights_and_its_declarations(net_file, tmp_path):
    path = net_file(NET + "preprocessing = dict(size=(24, 20), mean=0.3, std=[0.6])\nCLASSES = ['Big_Heart', 'Mass']")
    weights = {"conv.weight": torch.ones(4, 1, 3, 3), "conv.bias": torch.zeros(4)}
    weights |= {"fc.weight": torch.ones(2, 4), "fc.bias": torch.tensor([1.0, 2.0])}
    torch.save(weights, tmp_path / "w.pt")
    target = create_target(f"{path}:Net", tmp_path / "w.pt")
    assert target.output_names == ("big heart", "mass")
    assert target.preprocessing == Preprocessing(1, (24, 20), (0.3,), (0.6,))
    assert target.notes == ()
    out = target.model(torch.ones(1, 1, 24, 20))
    torch.testing.assert_close(out, torch.tensor([[37.0, 38.0]]))


def test_a_file_says_what_it_was_trained_on(net_file):
    target = create_target(net_file(NET + "training_corpora = ('NIH  ChestX-ray14', 'CheXpert')") + ":Net")
    assert target.training_corpora == ("NIH ChestX-ray14", "CheXpert")
    assert create_target(net_file(NET) + ":Net").training_corpora == ()
    for wrong in ("'CheXpert'", "[1]", "['']"):
        with pytest.raises(TargetError, match="'training_corpora' of .* must be a sequence of names"):
            create_target(net_file(NET + f"training_corpora = {wrong}") + ":Net")


def test_the_networks_own_word_comes_before_its_files(net_file):
    body = NET + "preprocessing = dict(size=24)\nclasses = None\noutput_names = ('a', 'b')\n"
    body += "def create():\n    net = Net()\n    net.preprocessing = dict(size=40, channels=1)\n"
    body += "    net.output_names = ['c_d', 'e']\n    return net"
    target = create_target(net_file(body) + ":create")
    assert (target.preprocessing.size, target.output_names) == ((40, 40), ("c d", "e"))
    assert "no weights file given" in target.notes[0]


def test_a_files_own_preprocess_function_is_used_and_cannot_be_half_replaced(net_file):
    body = NET + "import numpy as np\ndef preprocess(picture):\n    pixels = np.asarray(picture.resize((9, 8)))\n"
    body += "    return torch.from_numpy(pixels / 255)[None]\n"
    path = net_file(body)
    target = create_target(f"{path}:Net")
    assert target.view(GREY).shape == (1, 8, 9)
    assert target.preprocessing.size == (8, 9)
    with pytest.raises(InputError, match=r"brings its own preprocess\(\): leave out size"):
        create_target(f"{path}:Net", size=10)


def test_the_users_settings_come_before_all(net_file):
    path = net_file(NET + "preprocessing = dict(size=24, mean=0.3, std=0.6, resize='pad')")
    target = create_target(f"{path}:Net", size=(20, 16), std=0.7)
    assert target.preprocessing == Preprocessing(1, (20, 16), (0.3,), (0.7,), "pad")


def test_a_network_that_refuses_a_film_says_what_was_shown(small):
    with pytest.raises(TargetError, match=r"refuses one film as a \(1, 3, 224, 224\) batch.*give the channels and siz"):
        create_target(small, channels=3)


def test_the_fingerprint_is_of_weights_and_view_not_of_names(small, tmp_path):
    first = create_target(small, size=32)
    assert create_target(small, size=32).fingerprint == first.fingerprint
    assert create_target(small, size=32, output_names=["a", "b"]).fingerprint == first.fingerprint
    assert create_target(small, size=40).fingerprint != first.fingerprint
    with torch.no_grad():
        small.fc.bias[0] += 1e-3
    assert create_target(small, size=32).fingerprint != first.fingerprint


def test_output_names_must_be_as_many_as_outputs(small):
    with pytest.raises(TargetError, match="3 output names were given, but module has 2 outputs"):
        create_target(small, size=16, output_names=["a", "b", "c"])
    with pytest.raises(InputError, match="sequence of names"):
        create_target(small, size=16, output_names="ab")
    small.CLASSES = ["a", "b", "c"]
    target = create_target(small, size=16)
    assert target.output_names == ()
    assert "declares 3 output names for 2 outputs" in target.notes[-1]


@pytest.mark.parametrize(
    ("spec", "weights", "kind", "message"),
    [
        ("resnet18", None, UnknownNameError, "Target 'resnet18' is not known"),
        ("tim:resnet18", None, UnknownNameError, r"Did you mean 'timm'\?"),
        ("timm", None, TargetError, "'timm' names no network"),
        ("timm:resnet18x", "random", UnknownNameError, r"Did you mean 'resnet18'\?"),
        ("torchvision:resnet81", "random", UnknownNameError, r"Did you mean 'resnet18'\?"),
        ("timm:resnet18", None, TargetError, r"needs weights: give a file, or weights='pretrained' .*'random'"),
        ("torchvision:resnet18", None, TargetError, r"needs weights: give a file, or weights='pretrained' .*'random'"),
        ("torchvision:resnet18", "nowhere.pt", TargetError, "'nowhere.pt' does not exist"),
        ("nowhere.py:Net", None, TargetError, "no file 'nowhere.py'"),
        ("phantom:big", None, TargetError, "give 'phantom' alone"),
    ],
)
def test_a_wrong_spec_is_said_in_one_line(spec, weights, kind, message):
    pytest.importorskip("timm")
    with pytest.raises(kind, match=message) as caught:
        create_target(spec, weights)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def create(): return 3", "returned a int: expected a torch.nn.Module"),
        ("def create(): return nn.Conv2d(2, 1, 1)", r"takes 2 channels: expected 1 \(grey\) or 3 \(RGB\)"),
        ("create = nn.Identity\npreprocessing = dict(siez=3)", r"'preprocessing' of .*Did you mean 'size'"),
    ],
)
def test_a_file_that_gives_no_network_is_said(net_file, body, message):
    with pytest.raises(TargetError, match=message):
        create_target(net_file(body) + ":create")


def test_a_device_that_is_not_there_is_said(small):
    with pytest.raises(TargetError, match=r"cannot run on 'nonsense'.*try device='cpu'"):
        create_target(small, device="nonsense")


def test_torchvision_weights_bring_their_number_of_outputs(tmp_path):
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(1)
    theirs = models.squeezenet1_0  # no linear head: must fit as it is
    own = models.shufflenet_v2_x0_5(num_classes=14)
    torch.save({"state_dict": {f"module.{k}": v for k, v in own.state_dict().items()}}, tmp_path / "w.pt")
    target = create_target("torchvision:shufflenet_v2_x0_5", tmp_path / "w.pt")
    assert target.n_outputs == 14
    assert "14 outputs" in target.notes[0]
    view = target.view(GREY)[None]
    torch.testing.assert_close(target.model(view), own.eval()(view))
    torch.save(theirs(num_classes=5).state_dict(), tmp_path / "s.pt")
    with pytest.raises(TargetError, match=r"2 of another shape: classifier\.1\.weight"):
        create_target("torchvision:squeezenet1_0", tmp_path / "s.pt")


def test_torchvision_preprocessing_is_the_librarys(tmp_path):
    models = pytest.importorskip("torchvision.models")
    target = create_target("torchvision:shufflenet_v2_x0_5", "random")
    assert target.notes[0].startswith("RANDOM WEIGHTS")
    assert "assumed the library's own preprocessing" in target.notes[1]
    preset = models.ShuffleNet_V2_X0_5_Weights.DEFAULT.transforms(antialias=True)
    torch.testing.assert_close(
        target.view(GREY), preset(torch.from_numpy(GREY.pixels)[None].expand(3, -1, -1)), atol=1e-5, rtol=1e-5
    )


def test_timm_weights_bring_outputs_channels_and_config(tmp_path):
    timm = pytest.importorskip("timm")
    torch.manual_seed(1)
    own = timm.create_model("test_resnet", num_classes=3, in_chans=1)
    torch.save(own.state_dict(), tmp_path / "w.pt")
    target = create_target("timm:test_resnet", tmp_path / "w.pt", output_names=["A_b", "c", "d"])
    config = timm.data.resolve_model_data_config(own)
    assert target.output_names == ("a b", "c", "d")
    assert (target.preprocessing.channels, target.preprocessing.size) == (1, config["input_size"][1:])
    assert target.preprocessing.mean == (config["mean"][0],)
    assert target.preprocessing.crop_pct == config["crop_pct"]
    view = target.view(GREY)[None]
    torch.testing.assert_close(target.model(view), own.eval()(view))


def test_random_weights_are_loudly_random():
    pytest.importorskip("timm")
    assert create_target("timm:test_vit", "random").notes[0].startswith("RANDOM WEIGHTS")


def test_pretrained_weights_out_of_reach_are_said_at_once(monkeypatch, tmp_path):
    pytest.importorskip("timm")
    import huggingface_hub

    def out_of_reach(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", out_of_reach)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *args, **kwargs: None)
    with pytest.raises(TargetError, match=r"could not be downloaded.*no route to host.*give the file"):
        create_target("timm:test_resnet", "pretrained")
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", out_of_reach)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", out_of_reach)
    with pytest.raises(TargetError, match=r"could not be downloaded.*no route to host.*give the file"):
        create_target("torchvision:shufflenet_v2_x0_5", "pretrained")


def test_every_kind_is_listed_with_a_sentence():
    kinds = ["phantom", "file.py", "torchvision", "timm", "xrv", "monai", "transformers"]
    assert [name for name, _ in list_targets()] == kinds
    assert all(summary for _, summary in list_targets())


def test_importing_the_room_imports_no_model_library():
    code = "import sys, mammi.targets, mammi.vlms; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torchvision", "timm", "open_clip", "transformers", "huggingface_hub"} & set(loaded)


def test_the_phantom_is_loaded_as_it_declares_itself(monkeypatch, small):
    phantom = pytest.importorskip("mammi.phantoms.target")
    monkeypatch.setattr(phantom, "create", lambda: phantom.PhantomTarget())
    target = create_target("phantom")
    assert target.preprocessing.to_dict() | target.model.preprocessing == target.preprocessing.to_dict() | {
        "size": (128, 128)
    }
    assert len(target.output_names) == target.n_outputs > 1
    assert target.notes == ()

    def fail():
        raise FileNotFoundError("no weights")

    monkeypatch.setattr(phantom, "create", fail)
    with pytest.raises(TargetError, match="'phantom' is not part of this installation"):
        create_target("phantom")


def test_the_real_mobilenet_loads_as_a_user_brings_it(shared_data):
    folder = shared_data / "mobilenet_nih"
    target = create_target(f"{folder}/model.py:MNV3S", folder / "weights.pt")
    assert len(target.output_names) == target.n_outputs == 15
    assert (target.output_names[0], target.output_names[8]) == ("no finding", "pleural thickening")
    assert target.preprocessing == Preprocessing(1, (224, 224), (0.485,), (0.229,))
    layers = {layer.name: layer for layer in list_layers(target)}
    assert [layers[name].n_units for name in ("hs2", "hs3", "linear4")] == [576, 1280, 15]
    assert [layers[name].layout for name in ("hs2", "hs3", "linear4")] == ["map", "vector", "vector"]
    view = target.view(Film(np.full((320, 320), 0.485, dtype=np.float32)))
    torch.testing.assert_close(view, torch.zeros(1, 224, 224), atol=1e-6, rtol=0)
    assert isinstance(target.model, nn.Module)
