"""MONAI's classification networks in two dimensions. Slow: importing MONAI alone takes ten seconds."""

import warnings

import pytest
import torch
from tests.targets.same import films_for, hooks_of, recorded, seen_by_hand

from mammi.errors import TargetError, UnknownNameError
from mammi.targets import create_target, list_layers


@pytest.fixture(scope="module")
def nets():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("monai.networks.nets")


#: name, size, layer: name, layout, units, pooling; and how MONAI is asked for three outputs and three channels.
FAMILIES = [
    ("densenet121", "features.norm5 map 1024 mean", lambda n: n.DenseNet121(2, 3, 3)),
    ("resnet18", "layer4 map 512 mean", lambda n: n.resnet18(spatial_dims=2, n_input_channels=3, num_classes=3)),
    ("seresnet50", "layer2 map 512 mean", lambda n: n.SEResNet50(spatial_dims=2, in_channels=3, num_classes=3)),
    (
        "efficientnet-b0",
        "_conv_head map 1280 mean",
        lambda n: n.EfficientNetBN("efficientnet-b0", pretrained=False, in_channels=3, num_classes=3),
    ),
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "line", "make"), FAMILIES, ids=[row[0] for row in FAMILIES])
def test_layers_units_and_axes_of_a_family(nets, tmp_path, name, line, make):
    torch.manual_seed(1)
    theirs = make(nets)
    torch.save(theirs.state_dict(), tmp_path / "w.pt")
    target = create_target(f"monai:{name}", tmp_path / "w.pt", size=64)
    assert (target.n_outputs, target.preprocessing.channels) == (3, 3)
    assert target.preprocessing.mean == (0, 0, 0)
    assert "3 outputs and 3 input channels" in target.notes[0]
    layer, layout, units, pooling = line.split()
    seen = {info.name: info for info in list_layers(target)}[layer]
    assert (seen.layout, seen.n_units, seen.pooling) == (layout, int(units), pooling)
    films = films_for(target)
    output, inside = seen_by_hand(theirs, layer, films)
    with torch.no_grad():
        torch.testing.assert_close(target.model(films), output, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(recorded(target, layer, films), inside.mean((2, 3)), atol=1e-5, rtol=1e-5)
    assert hooks_of(target.model) == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("activation", ["Tanh", "none"])
def test_a_vit_is_as_large_as_its_file_says(nets, tmp_path, activation):
    pytest.importorskip("einops")
    torch.manual_seed(1)
    settings = {"num_layers": 2, "hidden_size": 48, "mlp_dim": 40, "num_classes": 5, "post_activation": activation}
    theirs = nets.ViT(3, (32, 32), (8, 8), classification=True, spatial_dims=2, **settings)
    torch.save(theirs.state_dict(), tmp_path / "w.pt")
    target = create_target("monai:vit", tmp_path / "w.pt")
    assert (target.preprocessing.size, target.preprocessing.channels, target.n_outputs) == ((32, 32), 3, 5)
    layers = {info.name: info for info in list_layers(target)}
    assert (layers["blocks.1"].layout, layers["blocks.1"].n_units, layers["blocks.1"].pooling) == ("tokens", 48, "cls")
    films = films_for(target)
    (output, _), inside = seen_by_hand(theirs, "blocks.1", films)
    with torch.no_grad():
        torch.testing.assert_close(target.model(films), output)
    torch.testing.assert_close(recorded(target, "blocks.1", films), inside[:, 0])


def test_a_name_is_checked_before_the_library_is_imported():
    from mammi.targets.from_monai import from_monai

    with pytest.raises(UnknownNameError, match=r"Did you mean 'densenet121'\?"):
        from_monai("densenet12", "random")
    with pytest.raises(TargetError, match="publishes no weights trained on films"):
        from_monai("densenet121", "pretrained")
    with pytest.raises(TargetError, match="needs weights"):
        from_monai("vit", None)
