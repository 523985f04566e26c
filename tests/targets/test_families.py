"""DenseNet, ResNet, ConvNeXt, EfficientNet, ViT and Swin, of torchvision and timm: layers, units, axes, no trace left."""

import pytest
import torch
from tests.targets.same import films_for, hooks_of, recorded, seen_by_hand

from mammi.targets import create_target, list_layers

#: spec, size, outputs, then layers: name, layout, units, pooling.
FAMILIES = [
    ("torchvision:densenet121", 64, "features.norm5 map 1024 mean", "features.denseblock1 map 256 mean"),
    ("torchvision:resnet18", 64, "layer4 map 512 mean", "avgpool map 512 mean"),
    ("torchvision:convnext_tiny", 64, "features.5 map 384 mean", "features.1.0.block.2 map_last 96 mean"),
    ("torchvision:efficientnet_b0", 64, "features.8 map 1280 mean", "features.4.0.block.2.fc1 map 10 mean"),
    ("torchvision:vit_b_32", 224, "encoder.layers.encoder_layer_11 tokens 768 cls", "conv_proj map 768 mean"),
    ("torchvision:swin_t", 64, "features.5 map_last 384 mean", "norm map_last 768 mean"),
    ("timm:densenet121", 64, "features.norm5 map 1024 mean", "features.denseblock1 map 256 mean"),
    ("timm:resnet18", 64, "layer4 map 512 mean", "global_pool vector 512 none"),
    ("timm:convnext_atto", 64, "stages.3 map 320 mean", "stages.0.blocks.0.mlp.fc1 map 160 mean"),
    ("timm:efficientnet_b0", 64, "conv_head map 1280 mean", "blocks.5 map 192 mean"),
    ("timm:vit_tiny_patch16_224", 224, "blocks.11 tokens 192 cls", "patch_embed tokens 192 mean"),
    ("timm:swin_tiny_patch4_window7_224", 224, "layers.2 map_last 384 mean", "norm map_last 768 mean"),
    ("timm:deit_tiny_distilled_patch16_224", 224, "blocks.3 tokens 192 cls", "head_dist vector 1000 none"),
]


def by_hand(output, layout, pooling, prefix):
    if layout == "tokens":
        return output[:, 0] if pooling == "cls" else output[:, prefix:].mean(1)
    return {"map": lambda: output.mean((2, 3)), "map_last": lambda: output.mean((1, 2)), "vector": lambda: output}[
        layout
    ]()


#: The large ones, left to the long run.
LARGE = ("torchvision:vit_b_32", "torchvision:convnext_tiny", "timm:densenet121", "timm:swin_tiny_patch4_window7_224")
CASES = [pytest.param(*row, id=row[0], marks=[pytest.mark.slow] if row[0] in LARGE else []) for row in FAMILIES]


@pytest.mark.parametrize(("spec", "size", "first", "second"), CASES)
def test_layers_units_and_axes_of_a_family(spec, size, first, second):
    library, _, name = spec.partition(":")
    pytest.importorskip(library)
    target = create_target(spec, "random", size=size)
    layers = {layer.name: layer for layer in list_layers(target)}
    assert target.n_outputs == 1000
    for line in (first, second):
        layer, layout, units, pooling = line.split()
        seen = layers[layer]
        assert (seen.layout, seen.n_units, seen.pooling) == (layout, int(units), pooling)
    films = films_for(target)
    layer, layout, units, pooling = first.split()
    theirs = own_model(library, name)
    theirs.load_state_dict(target.model.state_dict())
    output, inside = seen_by_hand(theirs, layer, films)
    ours = recorded(target, layer, films)
    with torch.no_grad():
        torch.testing.assert_close(target.model(films), output, atol=0, rtol=0)
    torch.testing.assert_close(ours, by_hand(inside, layout, pooling, 1), atol=1e-5, rtol=1e-5)
    assert ours.shape == (2, int(units))
    assert hooks_of(target.model) == 0


def own_model(library, name):
    if library == "timm":
        import timm

        return timm.create_model(name)
    from torchvision import models

    return models.get_model(name, weights=None)


def test_patches_are_averaged_without_the_tokens_before_them():
    pytest.importorskip("timm")
    target = create_target("timm:deit_tiny_distilled_patch16_224", "random")
    films = films_for(target)
    _, inside = seen_by_hand(target.model, "blocks.3", films)
    assert inside.shape[1] == 196 + 2
    torch.testing.assert_close(recorded(target, "blocks.3", films, "mean"), inside[:, 2:].mean(1), atol=1e-5, rtol=1e-5)
