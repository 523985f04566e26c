import sys
import warnings
from types import ModuleType

import numpy as np
import pytest
import torch
from tests.targets.same import films_for, hooks_of, recorded, seen_by_hand

from mammi.errors import TargetError, UnknownNameError
from mammi.targets import Preprocessing, create_target, list_layers
from mammi.types import Film

NAMES = [f"densenet121-res224-{name}" for name in ("all", "nih", "rsna", "pc", "chex", "mimic_nb", "mimic_ch")]


@pytest.fixture(scope="module")
def xrv():
    """The library, imported by our own loader where a module ``model`` of the user's is there already."""
    pytest.importorskip("skimage")
    from mammi.targets.from_xrv import _import_xrv

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "model", own := ModuleType("model"))
        library = _import_xrv()
        assert sys.modules["model"] is own
    return library


@pytest.fixture
def published(xrv, tmp_path):
    """A state dict of the library's own class, as its users save it."""
    torch.manual_seed(3)
    model = xrv.models.DenseNet(num_classes=18)
    with torch.no_grad():
        model.classifier.bias.normal_()
    model.op_threshs = torch.linspace(0.01, 0.2, 18)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    return model.eval(), tmp_path / "weights.pt"


def test_every_weight_of_the_library_has_its_target(xrv):
    ours = {name for name in xrv.models.model_urls if name.startswith(("densenet", "resnet"))}
    from mammi.targets.from_xrv import _CORPORA

    assert set(_CORPORA) == ours
    assert set(NAMES) < ours


def test_the_librarys_network_gives_the_same(xrv, published):
    theirs, file = published
    target = create_target("xrv:densenet121-res224-all", file)
    assert (target.n_outputs, target.output_names[9], target.output_names[17]) == (
        18,
        "pleural thickening",
        "enlarged cardiomediastinum",
    )
    assert target.preprocessing == Preprocessing(1, (224, 224), (0.5,), (1 / 2048,), "crop")
    assert {"NIH ChestX-ray14", "MIMIC-CXR", "PadChest", "CheXpert"} < set(target.training_corpora)
    films = 1024 * films_for(target).clamp(-1, 1)
    layer = "features.norm5"
    theirs.op_threshs = None  # as it stands its class returns predictions
    logits, inside = seen_by_hand(theirs, layer, films)
    torch.testing.assert_close(recorded(target, layer, films), inside.mean((2, 3)), atol=1e-4, rtol=1e-5)
    with torch.no_grad():
        ours = target.model(films)
    torch.testing.assert_close(ours, logits, atol=1e-5, rtol=1e-5)
    assert hooks_of(target.model) == 0
    seen = {info.name: info for info in list_layers(target)}
    assert (seen[layer].layout, seen[layer].n_units, seen["classifier"].layout) == ("map", 1024, "vector")


def test_what_the_library_calls_a_prediction_rises_with_the_logit(xrv):
    thresholds = torch.tensor(xrv.models.model_urls["densenet121-res224-nih"]["op_threshs"])
    logits = torch.linspace(-9, 9, 50)[:, None].expand(-1, 18)
    predictions = xrv.models.op_norm(torch.sigmoid(logits), thresholds)
    assert bool((predictions[:, :14].diff(dim=0) > 0).all())
    assert predictions[:, 14:].unique().tolist() == [0.5]


@pytest.mark.parametrize("shape", [(300, 240), (240, 300), (224, 224)])
def test_films_come_to_the_librarys_square_and_range(xrv, shape):
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]]
    pixels = (0.5 + 0.3 * np.sin(rows / 23) + 0.2 * np.cos(columns / 31)).astype(np.float32)
    target = create_target("xrv:densenet121-res224-all", "random")
    ours = target.view(Film(pixels)).numpy()
    film = xrv.datasets.XRayCenterCrop()(xrv.utils.normalize(pixels, 1)[None])
    theirs = xrv.datasets.XRayResizer(224)(film)
    assert ours.shape == theirs.shape == (1, 224, 224)
    assert np.abs(ours - theirs).max() < 2048 * 0.01  # two smoothings of a film that is smooth already
    assert target.view(Film(np.ones((9, 9), np.float32))).max() == 1024
    assert target.view(Film(np.zeros((9, 9), np.float32))).min() == -1024


def test_outputs_that_were_never_trained_are_called_so():
    target = create_target("xrv:densenet121-res224-rsna", "random")
    trained = [name for name in target.output_names if "untrained" not in name]
    assert trained == ["pneumonia", "lung opacity"]
    assert target.output_names[0] == "atelectasis (untrained)"
    assert len(set(target.output_names)) == 18
    assert any("16 of 18 outputs were never trained" in note for note in target.notes)
    assert target.training_corpora == ()  # random weights saw nothing


def test_a_pickled_network_is_refused_with_the_command_that_converts_it(xrv, published, tmp_path):
    model, _ = published
    for zipped in (True, False):
        torch.save(model, tmp_path / "whole.pt", _use_new_zipfile_serialization=zipped)
        with pytest.raises(
            TargetError, match=r"pickled.*python -c .*DenseNet\(weights='densenet121-res224-nih'\)"
        ) as said:
            create_target("xrv:densenet121-res224-nih", tmp_path / "whole.pt")
        assert "\n" not in str(said.value)


def test_wrong_names_and_files_are_said(tmp_path):
    with pytest.raises(UnknownNameError, match=r"Did you mean 'densenet121-res224-all'\?"):
        create_target("xrv:densenet121-res224-al", "random")
    with pytest.raises(TargetError, match="needs weights"):
        create_target("xrv:densenet121-res224-all")
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "w.pt")
    with pytest.raises(TargetError, match="does not fit DenseNet"):
        create_target("xrv:densenet121-res224-all", tmp_path / "w.pt")


def test_pretrained_weights_are_taken_from_the_librarys_own_folder(xrv, published, monkeypatch, capsys):
    model, file = published
    monkeypatch.setattr(xrv.models, "get_weights", lambda name: sys.stdout.write("Downloading...") and str(file))
    target = create_target("xrv:densenet121-res224-pc", "pretrained")
    torch.testing.assert_close(target.model.classifier.bias, model.classifier.bias)
    assert target.training_corpora == ("PadChest",)
    assert capsys.readouterr().out == ""


def test_importing_the_library_leaves_no_trace(xrv):
    assert "torchxrayvision" not in str(getattr(sys.modules.get("model"), "__file__", ""))
    assert not [path for path in sys.path if "torchxrayvision" in path]
    with pytest.warns(UserWarning, match="still heard"):
        warnings.warn("still heard", stacklevel=1)


@pytest.mark.slow
def test_five_heads_stand_side_by_side(xrv):
    target = create_target("xrv:jfhealthcare-densenet121", "random", size=128)
    assert target.output_names == ("cardiomegaly", "edema", "consolidation", "atelectasis", "effusion")
    films = films_for(target)
    with torch.no_grad():
        heads, _ = target.model.inner.eval()(films)
        torch.testing.assert_close(target.model(films), torch.cat(heads, 1))
    layers = {layer.name: layer for layer in list_layers(target)}
    assert (layers["backbone.features.norm5"].n_units, layers["backbone.features.norm5"].layout) == (1024, "map")
    assert list(target.model.state_dict()) == list(target.model.inner.state_dict())
    assert create_target("xrv:jfhealthcare-densenet121", "random").view(Film(np.ones((8, 8), np.float32))).max() == 2


@pytest.mark.slow
def test_the_view_network_gives_the_two_outputs_that_were_trained():
    target = create_target("xrv:xinario-view", "random", size=64)
    assert (target.n_outputs, target.output_names) == (2, ("frontal", "lateral"))


@pytest.mark.slow
def test_the_autoencoder_has_layers_and_a_film_for_an_output():
    target = create_target("xrv:resnetae-101-elastic", "random")
    layers = {layer.name: layer for layer in list_layers(target)}
    assert (layers["layer4"].layout, layers["layer4"].n_units, layers["layer4"].shape) == ("map", 512, (512, 3, 3))
    with torch.no_grad():
        assert target.model(films_for(target)).shape == (2, 1, 224, 224)
    assert (target.n_outputs, target.output_names) == (0, ())


def test_weights_of_others_are_asked_for_where_the_library_keeps_its_own(xrv, tmp_path, monkeypatch):
    asked = []

    def download(address, file):
        asked.append((address, file))
        raise OSError("no network")

    monkeypatch.setattr(xrv.utils, "get_cache_dir", lambda: str(tmp_path))
    monkeypatch.setattr(xrv.utils, "download", download)
    with pytest.raises(TargetError, match="could not be downloaded"):
        create_target("xrv:chestx-det-pspnet", "pretrained")
    own = xrv.models.model_urls["densenet121-res224-all"]["weights_url"].rpartition("/")[0]
    assert asked == [(f"{own}/pspnet_chestxray_best_model_4.pth", str(tmp_path / "pspnet_chestxray_best_model_4.pth"))]
