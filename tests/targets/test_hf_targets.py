"""Image classifiers of transformers, from a folder as ``save_pretrained`` writes it."""

import json

import numpy as np
import pytest
import torch
from tests.targets.same import films_for, hooks_of, recorded, seen_by_hand

from mammi.errors import TargetError
from mammi.targets import Preprocessing, create_target, list_layers
from mammi.types import Film

transformers = pytest.importorskip("transformers")

VIT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": 32,
    "patch_size": 8,
}
SQUASH = {"do_resize": True, "size": {"height": 32, "width": 32}, "resample": 2, "do_rescale": True}
NORMAL = {"do_normalize": True, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.2, 0.1]}
PROCESSOR = {"image_processor_type": "ViTImageProcessor"} | SQUASH | NORMAL

#: class prefix, configuration, then layers: name, layout, units, pooling; and tokens before those of the patches.
FAMILIES = [
    ("ViT", VIT, "vit.layers.1 tokens 32 cls", "vit.layers.0.mlp.fc1 tokens 48 cls", 1),
    ("DeiT", VIT, "deit.layers.1 tokens 32 cls", "deit.embeddings.patch_embeddings tokens 32 mean", 2),
    (
        "Dinov2WithRegisters",
        {key: value for key, value in VIT.items() if key != "intermediate_size"},
        "dinov2_with_registers.encoder.layer.1 tokens 32 cls",
        "classifier vector 3 none",
        5,
    ),
    (
        "Swin",
        {"image_size": 32, "patch_size": 4, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4},
        "swin.layernorm tokens 32 mean",
        "swin.embeddings.norm tokens 16 mean",
        0,
    ),
    (
        "ConvNext",
        {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2},
        "convnext.encoder.stages.1 map 16 mean",
        "convnext.encoder.stages.0.layers.0.pwconv1 map_last 32 mean",
        0,
    ),
    (
        "ResNet",
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]},
        "resnet.encoder.stages.1 map 16 mean",
        "resnet.embedder map 8 mean",
        0,
    ),
]


def made(folder, prefix="ViT", config=VIT, processor=PROCESSOR, **more):
    torch.manual_seed(2)
    settings = getattr(transformers, f"{prefix}Config")(
        **config, id2label={0: "No_Finding", 1: "Mass", 2: "Effusion"}, **more
    )
    model = getattr(transformers, f"{prefix}ForImageClassification")(settings)
    with torch.no_grad():
        model.get_submodule("classifier" if prefix != "ResNet" else "classifier.1").weight.normal_()
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return model.eval()


@pytest.mark.parametrize(("prefix", "config", "first", "second", "before"), FAMILIES, ids=[row[0] for row in FAMILIES])
def test_layers_units_and_axes_of_a_family(tmp_path, prefix, config, first, second, before):
    theirs = made(tmp_path, prefix, config)
    target = create_target(f"transformers:{tmp_path}")
    assert target.output_names == ("no finding", "mass", "effusion")
    assert (target.n_outputs, target.notes) == (3, ())
    assert list(target.model.state_dict()) == list(theirs.state_dict())
    layers = {layer.name: layer for layer in list_layers(target)}
    for line in (first, second):
        layer, layout, units, pooling = line.split()
        seen = layers[layer]
        assert (seen.layout, seen.n_units, seen.pooling) == (layout, int(units), pooling)
    assert not any(layer.n_units for layer in layers.values() if "relative_position" in layer.name)
    films = films_for(target, 3)
    layer, layout, _, _ = first.split()
    output, inside = seen_by_hand(theirs, layer, films)
    with torch.no_grad():
        torch.testing.assert_close(target.model(films), output.logits, atol=0, rtol=0)
    ours = recorded(target, layer, films, "mean")
    by_hand = inside.mean((2, 3)) if layout == "map" else inside[:, before:].mean(1)
    torch.testing.assert_close(ours, by_hand, atol=1e-5, rtol=1e-5)
    if before:
        torch.testing.assert_close(recorded(target, layer, films, "cls"), inside[:, 0])
    assert hooks_of(target.model) == 0


@pytest.mark.parametrize(
    ("processor", "expected"),
    [
        (PROCESSOR, {"size": (32, 32), "mean": (0.5, 0.4, 0.3), "std": (0.5, 0.2, 0.1)}),
        (PROCESSOR | {"resample": 3, "do_normalize": False}, {"interpolation": "bicubic", "mean": (0.0,) * 3}),
        (
            {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 32}, "crop_pct": 0.5} | NORMAL,
            {"resize": "crop", "crop_pct": 0.5, "size": (32, 32)},
        ),
        (
            {
                "image_processor_type": "CLIPImageProcessor",
                "size": {"shortest_edge": 40},
                "crop_size": {"height": 32, "width": 32},
                "do_center_crop": True,
            }
            | NORMAL,
            {"resize": "crop", "crop_pct": 0.8, "interpolation": "bicubic"},
        ),
        (PROCESSOR | {"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3}, {"std": (0.25, 0.1, 0.05)}),
    ],
    ids=["squash", "plain bicubic", "ConvNeXT", "shortest edge", "other factor"],
)
def test_the_image_processor_becomes_numbers(tmp_path, processor, expected):
    made(tmp_path, processor=processor)
    target = create_target(f"transformers:{tmp_path}")
    assert isinstance(target.preprocessing, Preprocessing)
    found = {key: getattr(target.preprocessing, key) for key in expected}
    assert (
        found == pytest.approx(expected) if all(isinstance(v, float) for v in expected.values()) else found == expected
    )
    rows, columns = np.mgrid[0:60, 0:90]
    levels = (127 + 80 * np.sin(rows / 7) + 40 * np.cos(columns / 9)).astype(np.uint8)
    theirs = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    film = Film(levels.astype(np.float32) / 255)
    expected_view = theirs(images=film.to_pil().convert("RGB"), return_tensors="pt")["pixel_values"][0]
    step = 1 / 255 / min(target.preprocessing.std)  # one grey level: the library rounds to 8 bits on the way
    assert float((target.view(film) - expected_view).abs().max()) <= 1.6 * step


def test_a_grey_network_takes_grey_films(tmp_path):
    made(tmp_path, num_channels=1)
    target = create_target(f"transformers:{tmp_path}")
    assert (target.preprocessing.channels, target.preprocessing.mean) == (1, (0.5,))


def test_older_weights_of_torch_are_read_and_code_is_not(tmp_path):
    theirs = made(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    target = create_target(f"transformers:{tmp_path}")
    torch.testing.assert_close(target.model.classifier.weight, theirs.classifier.weight)
    torch.save(theirs, tmp_path / "pytorch_model.bin")
    with pytest.raises(TargetError, match="hold more than tensors, which could run code"):
        create_target(f"transformers:{tmp_path}")


def test_what_is_no_whole_classifier_is_refused(tmp_path, monkeypatch):
    def folder(name):
        made(tmp_path / name)
        return tmp_path / name

    def edit(path, **changes):
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    cut = folder("cut")
    data = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(TargetError, match="truncated"):
        create_target(f"transformers:{cut}")
    other = folder("other")
    edit(other / "config.json", architectures=["ViTModel"])
    with pytest.raises(TargetError, match="is a ViTModel: expected an image classifier"):
        create_target(f"transformers:{other}")
    headless = folder("headless")
    transformers.ViTModel(transformers.ViTConfig(**VIT)).save_pretrained(headless)
    edit(headless / "config.json", architectures=["ViTForImageClassification"])
    with pytest.raises(TargetError, match=r"lack \d+ tensors that the network has, classifier"):
        create_target(f"transformers:{headless}")
    blind = folder("blind")
    (blind / "preprocessor_config.json").unlink()
    with pytest.raises(TargetError, match="without preprocessor_config.json"):
        create_target(f"transformers:{blind}")
    empty = folder("empty")
    (empty / "model.safetensors").unlink()
    with pytest.raises(TargetError, match="holds none of model.safetensors"):
        create_target(f"transformers:{empty}")
    coded = folder("coded")
    edit(coded / "config.json", model_type="mine", auto_map={"AutoModelForImageClassification": "mine.Net"})
    with pytest.raises(TargetError, match="code of its own, which is not run"):
        create_target(f"transformers:{coded}")
    with pytest.raises(TargetError, match="brings its own weights"):
        create_target(f"transformers:{folder('two')}", "w.pt")
    with pytest.raises(TargetError, match="there is no folder 'nowhere'"):
        create_target("transformers:nowhere")
    import huggingface_hub

    def out_of_reach(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", out_of_reach)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", out_of_reach)
    with pytest.raises(TargetError, match=r"could not be downloaded.*no route to host.*give its folder"):
        create_target("transformers:organisation/name")
