"""The rows of the table of targets: a full-size random checkpoint in each family's published layout, and its proofs."""

import contextlib
import io
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mammi.capture import Recorder, plan_layers
from mammi.targets import Target, create_target, list_layers

__all__ = ["COLUMNS", "ROWS", "TargetRow"]

#: Smallest difference of two films, as a share of the largest value, that a row counts with.
DEPENDS = 1e-3

#: The columns that `TargetRow.check` gives, in order.
COLUMNS = (
    "loaded",
    "outputs, largest difference",
    "layer, largest difference",
    "batch, largest change",
    "layers with units",
    "units",
    "hooks left",
)


@dataclass(frozen=True)
class TargetRow:
    """One kind of target as its library publishes it.

    Attributes:
        name: the row's name.
        family: the library.
        write: writes a random checkpoint at full size in the published layout; returns spec, weights (None where the
            spec holds them), further arguments of `create_target`, and the library's own network with those weights.
        layer: the layer that is compared.
        output: takes the library's logits from what its own network returns.
    """

    name: str
    family: str
    write: "Callable[[Path], tuple[str, Path | None, dict[str, Any], nn.Module]]"
    layer: str
    output: Callable[[Any], Tensor] = lambda found: found

    def make(self, folder: Path) -> tuple[str, Path | None]:
        """Write the checkpoint; return spec and weights."""
        spec, weights, _, _ = self._written(folder)
        return spec, weights

    def check(self, spec: str, weights: Path | None) -> dict[str, str]:
        """Load what `make` wrote through `create_target`, compare, and return the columns by name."""
        folder = Path(spec.partition(":")[2]) if weights is None else weights.parent
        _, _, settings, theirs = self._written(folder)
        target = create_target(spec, weights, **settings)
        films = _films(target)
        expected, inside = _by_hand(theirs, self.layer, films)
        with torch.no_grad():
            ours = target.model(films)
            alone = torch.cat([target.model(film[None]) for film in films])
        for values in (self.output(expected), inside):  # weights that wash the input out would let everything pass
            spread = (values[0] - values[1]).abs().max() / values.abs().max()
            if float(spread) < DEPENDS:
                raise RuntimeError(f"{self.name}: outputs hardly depend on the film ({float(spread):.1e})")
        layers = list_layers(target)
        return dict(
            zip(
                COLUMNS,
                (
                    "yes",
                    _shown(_logits(ours), self.output(expected)),
                    _shown(_recorded(target, self.layer, films), inside),
                    _shown(_logits(ours), _logits(alone)),
                    f"{sum(layer.n_units > 0 for layer in layers)} of {len(layers)}",
                    f"{sum(layer.n_units for layer in layers):,}",
                    str(_hooks(target.model)),
                ),
                strict=True,
            )
        )

    def _written(self, folder: Path) -> "tuple[str, Path | None, dict[str, Any], nn.Module]":
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            torch.manual_seed(6)
            spec, weights, settings, theirs = self.write(folder)
        return spec, weights, settings, theirs.eval()


def _films(target: Target) -> Tensor:
    """Two films as the network takes them: coarse noise on one, its fainter negative on the other."""
    coarse = torch.rand((1, 1, 9, 8), generator=torch.Generator().manual_seed(0))
    film = torch.nn.functional.interpolate(coarse, target.preprocessing.size, mode="bicubic").clamp(0, 1)
    mean, std = (torch.tensor(v)[:, None, None] for v in (target.preprocessing.mean, target.preprocessing.std))
    return (torch.cat([film, 0.6 * (1 - film)]) - mean) / std


def _by_hand(model: nn.Module, layer: str, films: Tensor) -> tuple[Any, Tensor]:
    """Run the library's own network; return its output and its layer, pooled by a hook that is not ours."""
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        if output.ndim == 4:
            last = output.shape[1] == output.shape[2] != output.shape[3]
            kept.append(output.mean((1, 2) if last else (2, 3)))
        else:
            kept.append((output[:, 0] if output.ndim == 3 else output).clone())

    handle = model.get_submodule(layer).register_forward_hook(keep)
    with torch.no_grad():
        output = model(films)
    handle.remove()
    return output, kept[0]


def _recorded(target: Target, layer: str, films: Tensor) -> Tensor:
    with Recorder(target.model, plan_layers(target, [layer])) as recorder:
        return recorder.record(films)[layer]


def _logits(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output.logits


def _shown(ours: Tensor, theirs: Tensor) -> str:
    """Write the largest difference as a share of the largest value."""
    difference = (ours.double() - theirs.double()).abs().max() / theirs.double().abs().max().clamp(min=1e-12)
    return f"{float(difference):.1e}" if float(difference) else "0"


def _hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules())


def _saved(model: nn.Module, folder: Path, spec: str, prefix: str = "") -> tuple[str, Path, dict[str, Any], nn.Module]:
    """Save a state dict as torch files are published, under a prefix where its authors have one."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "weights.pt"
    torch.save({prefix + key: value for key, value in model.state_dict().items()}, file)
    return spec, file, {}, model


def _torchvision(name: str) -> Callable[[Path], Any]:
    def write(folder: Path) -> Any:
        from torchvision import models

        return _saved(models.get_model(name, weights=None, num_classes=14), folder, f"torchvision:{name}", "module.")

    return write


def _timm(name: str) -> Callable[[Path], Any]:
    def write(folder: Path) -> Any:
        import timm

        return _saved(timm.create_model(name, num_classes=14), folder, f"timm:{name}")

    return write


def _xrv(name: str) -> Callable[[Path], Any]:
    def write(folder: Path) -> Any:
        from mammi.targets.from_xrv import _import_xrv

        xrv = _import_xrv()
        if name.startswith("densenet"):
            model = xrv.models.DenseNet(num_classes=18)
            model.op_threshs = torch.full((18,), 0.1)  # as its published state has them
            written = _saved(model, folder, f"xrv:{name}")
            model.op_threshs = None
            return written
        if name.startswith("resnet50"):
            from torchvision import models

            model = models.resnet50(weights=None, num_classes=18)
            model.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
            return _saved(model, folder, f"xrv:{name}")
        if name.startswith("jfhealthcare"):
            home = xrv.baseline_models.jfhealthcare
            settings = json.loads((Path(home.__file__).parent / "config/example.json").read_text()) | {
                "pretrained": False
            }
            model = home.classifier.Classifier(type("Settings", (), settings))
            return _saved(model, folder, f"xrv:{name}")
        spec, file, _, model = _saved(xrv.baseline_models.chestx_det.pspnet(14), folder, f"xrv:{name}", "module.")
        return spec, file, {"size": 256}, model  # it takes any size, and at its own, 512, it takes minutes

    return write


def _monai(name: str, build: Callable[[Any], nn.Module]) -> Callable[[Path], Any]:
    def write(folder: Path) -> Any:
        from monai.networks import nets

        return _saved(build(nets), folder, f"monai:{name}")

    return write


def _hugging_face(prefix: str, **settings: Any) -> Callable[[Path], Any]:
    def write(folder: Path) -> Any:
        import transformers

        config = getattr(transformers, f"{prefix}Config")(num_labels=14, **settings)
        model = getattr(transformers, f"{prefix}ForImageClassification")(config)
        model.save_pretrained(folder)
        processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": 224, "width": 224}}
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
        return f"transformers:{folder}", None, {}, model

    return write


class _Encoded(nn.Module):
    """A network and, apart from it, a TopK encoder at one layer: the formula of Gao et al. 2024 written again."""

    def __init__(self, model: nn.Module, layer: str, state: dict[str, Tensor], k: int) -> None:
        super().__init__()
        self.model, self.layer, self.state, self.k = model, layer, state, k
        self.sae = nn.ModuleDict({"layer4": nn.Identity()})

    def forward(self, films: Tensor) -> Tensor:
        kept: list[Tensor] = []
        handle = self.model.get_submodule(self.layer).register_forward_hook(lambda _m, _i, output: kept.append(output))
        output = self.model(films)
        handle.remove()
        state = self.state
        rows = kept[0].flatten(2).mT - state["b_dec"]
        latents = torch.relu(torch.nn.functional.linear(rows, state["encoder.weight"], state["encoder.bias"]))
        line = latents.sort(-1, descending=True).values[..., self.k - 1 : self.k]
        self.sae["layer4"](torch.where(latents >= line, latents, 0.0).mT.unflatten(2, kept[0].shape[2:]))
        return output


def _sae(folder: Path) -> Any:
    from torchvision import models

    model = models.resnet50(weights=None, num_classes=14)
    spec, file, _, _ = _saved(model, folder, "torchvision:resnet50")
    n_latents, width, k = 16384, 2048, 32
    state = {"encoder.weight": torch.randn(n_latents, width) / width**0.5, "encoder.bias": torch.zeros(n_latents)}
    state |= {"W_dec": torch.randn(n_latents, width), "b_dec": 0.1 * torch.randn(width)}
    (folder / "sae").mkdir(exist_ok=True)
    save_file(state, folder / "sae" / "sae.safetensors")
    (folder / "sae" / "cfg.json").write_text(json.dumps({"k": k, "d_in": width, "activation": "topk"}))
    return spec, file, {"sae": {"layer4": folder / "sae"}}, _Encoded(model, "layer4", state, k)


def _object(found: Any) -> Tensor:
    return found.logits


ROWS: Sequence[TargetRow] = (
    TargetRow("DenseNet-121", "torchvision", _torchvision("densenet121"), "features.norm5"),
    TargetRow("ResNet-50", "torchvision", _torchvision("resnet50"), "layer4"),
    TargetRow("ConvNeXt-T", "torchvision", _torchvision("convnext_tiny"), "features.5"),
    TargetRow("EfficientNet-B0", "torchvision", _torchvision("efficientnet_b0"), "features.8"),
    TargetRow("ViT-B/16", "torchvision", _torchvision("vit_b_16"), "encoder.layers.encoder_layer_11"),
    TargetRow("Swin-T", "torchvision", _torchvision("swin_t"), "features.5"),
    TargetRow("DenseNet-121", "timm", _timm("densenet121"), "features.norm5"),
    TargetRow("ResNet-50", "timm", _timm("resnet50"), "layer4"),
    TargetRow("ConvNeXt-T", "timm", _timm("convnext_tiny"), "stages.3"),
    TargetRow("EfficientNet-B0", "timm", _timm("efficientnet_b0"), "conv_head"),
    TargetRow("ViT-B/16", "timm", _timm("vit_base_patch16_224"), "blocks.11"),
    TargetRow("Swin-T", "timm", _timm("swin_tiny_patch4_window7_224"), "layers.2"),
    TargetRow("densenet121-res224-all", "torchxrayvision", _xrv("densenet121-res224-all"), "features.norm5"),
    TargetRow("resnet50-res512-all", "torchxrayvision", _xrv("resnet50-res512-all"), "layer4"),
    TargetRow(
        "jfhealthcare-densenet121",
        "torchxrayvision",
        _xrv("jfhealthcare-densenet121"),
        "backbone.features.norm5",
        lambda found: torch.cat(found[0], 1),
    ),
    TargetRow("chestx-det-pspnet", "torchxrayvision", _xrv("chestx-det-pspnet"), "cbr_final"),
    TargetRow("DenseNet-121", "MONAI", _monai("densenet121", lambda n: n.DenseNet121(2, 1, 14)), "features.norm5"),
    TargetRow(
        "ResNet-50",
        "MONAI",
        _monai("resnet50", lambda n: n.resnet50(spatial_dims=2, n_input_channels=1, num_classes=14)),
        "layer4",
    ),
    TargetRow(
        "SE-ResNet-50",
        "MONAI",
        _monai("seresnet50", lambda n: n.SEResNet50(spatial_dims=2, in_channels=1, num_classes=14)),
        "layer4",
    ),
    TargetRow(
        "EfficientNet-B0",
        "MONAI",
        _monai(
            "efficientnet-b0",
            lambda n: n.EfficientNetBN("efficientnet-b0", pretrained=False, in_channels=1, num_classes=14),
        ),
        "_conv_head",
    ),
    TargetRow("ViT-B/16", "transformers", _hugging_face("ViT"), "vit.layers.11", _object),
    TargetRow("DeiT-B/16", "transformers", _hugging_face("DeiT"), "deit.layers.11", _object),
    TargetRow("ConvNeXt-T", "transformers", _hugging_face("ConvNext"), "convnext.encoder.stages.3", _object),
    TargetRow("ResNet-50", "transformers", _hugging_face("ResNet"), "resnet.encoder.stages.3", _object),
    TargetRow("ResNet-50 with a TopK autoencoder (sparsify)", "torchvision", _sae, "sae.layer4"),
)
