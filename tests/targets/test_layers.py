import pytest
import torch
from torch import nn

from mammi.errors import InputError, TargetError
from mammi.targets import Preprocessing, default_pooling, layout_of, list_layers, unit_axis


def rgb(size):
    return Preprocessing(size=(size, size))


def by_name(model, preprocessing):
    return {layer.name: layer for layer in list_layers(model, preprocessing)}


@pytest.mark.parametrize(
    ("shape", "other", "expected"),
    [
        ((1, 10), None, "vector"),
        ((1, 8, 8, 8), (1, 8, 6, 6), "map"),
        ((1, 8, 8, 8), (1, 6, 6, 8), "map_last"),
        ((1, 7, 7, 96), None, "map_last"),
        ((1, 96, 7, 7), None, "map"),
        ((1, 2048, 1, 1), (1, 2048, 1, 1), "map"),
        ((1, 17, 17), (1, 10, 17), "tokens"),
        ((1, 17, 17), (1, 17, 10), None),
        ((1, 3, 17, 8), None, None),
        ((1, 3, 17, 8), (1, 3, 10, 8), None),
        ((1, 4, 5, 6, 7), None, None),
        ((3,), None, None),
    ],
)
def test_layouts_by_shape(shape, other, expected):
    assert layout_of(shape, other) == expected


def test_a_hint_decides_only_where_shapes_cannot():
    assert layout_of((1, 8, 8, 8)) == "map"
    assert layout_of((1, 8, 8, 8), hint="last") == "map_last"
    assert layout_of((1, 96, 7, 7), hint="last") == "map"
    assert layout_of((1, 8, 8, 8), (1, 8, 6, 6), hint="last") == "map"


def test_maps_of_oblong_films_are_known_by_their_proportions():
    assert layout_of((1, 14, 7, 7), aspect=(2, 1)) == "map"
    assert layout_of((1, 14, 7, 16), aspect=(224, 112)) == "map_last"
    assert layout_of((1, 16, 14, 7), aspect=(224, 112)) == "map"


def test_units_and_pooling_follow_from_the_layout():
    assert [unit_axis(layout) for layout in ("vector", "map", "map_last", "tokens")] == [1, 1, 3, 2]
    assert [default_pooling(layout) for layout in ("vector", "map", "map_last", "tokens", None)] == [
        "none",
        "mean",
        "mean",
        "mean",
        "none",
    ]
    assert default_pooling("tokens", has_class_token=True) == "cls"
    assert default_pooling("map", has_class_token=True) == "mean"


class Odd(nn.Module):
    """Every awkward layer in one network: reused, unused, tuple, scalar, no row per image."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.unused = nn.Linear(6, 6)
        self.pair = Pair()
        self.windows = Windows()
        self.scalar = Scalar()
        self.fc = nn.Linear(6, 2)

    def forward(self, x):
        x = self.act(self.conv(x))
        x, _ = self.pair(self.act(x))
        self.windows(x)
        self.scalar(x)
        return self.fc(x.mean((2, 3)))


class Pair(nn.Module):
    def forward(self, x):
        return x, x


class Windows(nn.Module):
    def forward(self, x):
        return x.reshape(-1, 6, 16).repeat(4, 1, 1)


class Scalar(nn.Module):
    def forward(self, x):
        return x.sum()


def test_awkward_layers_are_listed_with_a_reason():
    layers = by_name(Odd(), rgb(8))
    assert list(layers) == ["conv", "act", "unused", "pair", "windows", "scalar", "fc"]
    assert (layers["conv"].shape, layers["conv"].n_units, layers["conv"].layout) == ((6, 8, 8), 6, "map")
    assert (layers["act"].n_calls, layers["act"].n_units, layers["act"].kind) == (2, 6, "ReLU")
    assert (layers["unused"].n_calls, layers["unused"].shape, layers["unused"].n_units) == (0, None, 0)
    assert "not called" in layers["unused"].reason
    assert "tuple" in layers["pair"].reason
    assert "no row per image" in layers["windows"].reason
    assert "no row per image" in layers["scalar"].reason
    assert (layers["fc"].layout, layers["fc"].pooling, layers["fc"].n_units, layers["fc"].reason) == (
        "vector",
        "none",
        2,
        "",
    )


@pytest.mark.parametrize("size", [16, 64, 192])
def test_channels_equal_to_height_and_width_are_still_channels(size):
    channels = size // 2
    model = nn.Sequential(nn.Conv2d(3, channels, 2, 2), nn.ReLU(), Last(), nn.LayerNorm(channels))
    layers = by_name(model, rgb(size))
    assert [layers[str(i)].layout for i in range(4)] == ["map", "map", "map_last", "map_last"]
    assert {layer.n_units for layer in layers.values()} == {channels}


class Last(nn.Module):
    def forward(self, x):
        return x.permute(0, 2, 3, 1)


def hooks_of(model):
    return sum(len(module._forward_hooks) for module in model.modules())


class Failing(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.late = Boom()

    def forward(self, x):
        return self.late(self.conv(x))


class Boom(nn.Module):
    def forward(self, x):
        raise RuntimeError("out of order")


@pytest.mark.parametrize("make", [Odd, Failing])
def test_no_hook_is_left_and_every_mode_is_restored(make):
    model = make()
    model.train()
    model.conv.eval()
    modes = [module.training for module in model.modules()]
    if make is Failing:
        with pytest.raises(TargetError, match=r"refuses one film as a \(1, 3, 8, 8\) batch \(RuntimeError: out of ord"):
            list_layers(model, rgb(8))
    else:
        list_layers(model, rgb(8))
    assert hooks_of(model) == 0
    assert [module.training for module in model.modules()] == modes


def test_the_dry_forward_moves_no_statistics():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    before = model[1].running_mean.clone(), int(model[1].num_batches_tracked)
    list_layers(model, rgb(8))
    torch.testing.assert_close(model[1].running_mean, before[0])
    assert int(model[1].num_batches_tracked) == before[1]


def test_a_network_that_takes_one_size_only_is_listed():
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Flatten(), nn.Linear(5 * 6 * 6, 4))
    layers = by_name(model, rgb(8))
    assert [layer.layout for layer in layers.values()] == ["map", "vector", "vector"]
    assert layers["2"].n_units == 4


def test_a_module_needs_the_size_of_its_input():
    with pytest.raises(InputError, match="'preprocessing' is needed"):
        list_layers(nn.Identity())


@pytest.fixture(scope="module")
def timm():
    return pytest.importorskip("timm")


def test_vit_tokens_are_not_taken_for_channels(timm):
    # 24 patches and 1 class token: as many tokens as features, and the network takes no other size.
    model = timm.create_model(
        "vit_tiny_patch16_224", img_size=(32, 48), patch_size=8, embed_dim=25, num_heads=5, depth=2, num_classes=3
    )
    layers = by_name(model, Preprocessing(size=(32, 48)))
    assert layers["blocks.0"].shape == (25, 25)
    assert layers["blocks.0"].layout == "tokens"
    assert layers["blocks.0.mlp.fc1"].n_units == 100
    assert {layers[name].pooling for name in ("blocks.0", "blocks.1.attn", "norm")} == {"cls"}
    assert (layers["patch_embed"].shape, layers["patch_embed"].pooling) == ((24, 25), "mean")
    assert (layers["patch_embed.proj"].layout, layers["patch_embed.proj"].n_units) == ("map", 25)
    assert layers["head"].layout == "vector"


def test_a_vit_without_class_token_is_averaged(timm):
    model = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=12, depth=1, class_token=False, global_pool="avg"
    )
    assert {layer.pooling for layer in list_layers(model, rgb(32)) if layer.layout == "tokens"} == {"mean"}


def test_torchvision_vit_has_its_class_token():
    models = pytest.importorskip("torchvision.models")
    model = models.VisionTransformer(32, 8, 2, 2, 12, 24, num_classes=3)
    layers = by_name(model, rgb(32))
    assert (layers["encoder.layers.encoder_layer_1"].shape, layers["encoder"].pooling) == ((17, 12), "cls")
    assert "tuple" in layers["encoder.layers.encoder_layer_0.self_attention"].reason


def test_swin_keeps_its_channels_last_in_timm(timm):
    # The first stage is 8 x 8 places of 8 channels; the network takes no other size.
    model = timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=32, embed_dim=8, depths=(1, 1), num_heads=(2, 2), window_size=4
    )
    layers = by_name(model, rgb(32))
    assert (layers["layers.0.blocks.0"].shape, layers["layers.0.blocks.0"].layout) == ((8, 8, 8), "map_last")
    assert (layers["layers.1"].shape, layers["layers.1"].n_units) == ((4, 4, 16), 16)
    assert layers["patch_embed.proj"].layout == "map"
    assert "no row per image" in layers["layers.0.blocks.0.attn"].reason


def test_swin_and_convnext_of_torchvision():
    models = pytest.importorskip("torchvision.models")
    swin = models.SwinTransformer([4, 4], 8, [1, 1], [2, 2], [4, 4], num_classes=3)
    layers = by_name(swin, rgb(32))
    assert (layers["features.1"].shape, layers["features.1"].layout) == ((8, 8, 8), "map_last")
    block = models.convnext.CNBlock(8, 1e-6, 0.0)
    layers = by_name(nn.Sequential(nn.Conv2d(3, 8, 4, 4), block), rgb(32))
    assert [layers[f"1.block.{i}"].layout for i in range(7)] == ["map", *["map_last"] * 5, "map"]
    assert layers["1"].layout == "map"


def test_a_mixers_transposed_layers_have_no_units(timm):
    model = timm.models.MlpMixer(img_size=96, patch_size=32, embed_dim=16, num_blocks=2, num_classes=3)
    layers = by_name(model, rgb(96))
    assert (layers["blocks.0"].shape, layers["blocks.0"].n_units) == ((9, 16), 16)
    assert layers["blocks.0.mlp_tokens"].shape == (16, 9)
    assert (layers["blocks.0.mlp_tokens"].n_units, layers["blocks.0.mlp_tokens.fc1"].n_units) == (0, 0)
    assert "features first" in layers["blocks.0.mlp_tokens"].reason
