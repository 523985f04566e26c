"""Classification networks of MONAI, in two dimensions."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mammi.errors import TargetError, UnknownNameError
from mammi.registry import import_extra
from mammi.targets.built import Built, input_channels
from mammi.targets.library_weights import assumed, fill, need_weights
from mammi.targets.preprocessing import Preprocessing
from mammi.targets.shell import LogitsOnly
from mammi.weights_file import match_prefix, read_weights

__all__ = ["from_monai"]

#: By name: MONAI's class or function, and what it calls channels and outputs.
_DENSENETS = {f"densenet{n}": f"DenseNet{n}" for n in (121, 169, 201, 264)}
_RESNETS = {f"resnet{n}": f"resnet{n}" for n in (10, 18, 34, 50, 101, 152, 200)}
_SENETS = {"senet154": "SENet154"} | {f"seresnet{n}": f"SEResNet{n}" for n in (50, 101, 152)}
_EFFICIENTNETS = tuple(f"efficientnet-b{n}" for n in range(9))
_NAMES = (*_DENSENETS, *_RESNETS, *_SENETS, *_EFFICIENTNETS, "vit")
_N_OUTPUTS = 2


def from_monai(name: str, weights: str | None) -> Built:
    """Build ``monai:NAME`` with ``spatial_dims=2``; outputs and input channels are those of the weights file.

    MONAI publishes no preprocessing with a network: pixels in [0, 1], as its ``ScaleIntensity`` gives, are assumed.
    """
    if name not in _NAMES:
        raise UnknownNameError.among("MONAI network", name, _NAMES, f"Known: {', '.join(_NAMES)}.")
    spec = f"monai:{name}"
    need_weights(spec, weights)
    if weights == "pretrained":
        raise TargetError(
            f"{spec}: MONAI publishes no weights trained on films for it, only ImageNet's: give a file, or take the "
            "network from torchvision or timm"
        )
    nets = _import_monai()
    size = 224
    if name == "vit":
        model, size, notes = _vit(nets, weights, spec)
    else:
        if name in _EFFICIENTNETS:
            size = int(nets.get_efficientnet_image_size(name))
        make = _maker(nets, name)
        model = make(_N_OUTPUTS, 1)
        head = [n for n, m in model.named_modules() if isinstance(m, nn.Linear)][-1]
        first = next(n for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
        model, notes = fill(
            model, head, weights, spec, lambda n, c: make(_N_OUTPUTS if n is None else n, 1 if c is None else c), first
        )
    channels = input_channels(model)
    if channels not in (1, 3):
        raise TargetError(f"{spec}: the weights take {channels} channels: expected 1 (grey) or 3 (RGB)")
    preprocessing = Preprocessing(
        channels=channels, size=(size, size), mean=(0.0,) * channels, std=(1.0,) * channels, resize="squash"
    )
    return Built(model, preprocessing, (), (*notes, *assumed(spec, preprocessing)))


def _import_monai() -> Any:  # noqa: ANN401 - the module monai.networks.nets
    """Import MONAI, which takes seconds and warns of what it would like to be installed besides."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_extra("monai.networks.nets", "monai")


def _maker(nets: Any, name: str) -> Callable[[int, int], nn.Module]:  # noqa: ANN401
    """Return what makes a network of so many outputs and input channels, with random weights."""

    def make(n_outputs: int, channels: int) -> nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if name in _DENSENETS:
                model = getattr(nets, _DENSENETS[name])(2, channels, n_outputs)
            elif name in _RESNETS:
                build = getattr(nets, _RESNETS[name])
                model = build(spatial_dims=2, n_input_channels=channels, num_classes=n_outputs)
            elif name in _SENETS:
                model = getattr(nets, _SENETS[name])(spatial_dims=2, in_channels=channels, num_classes=n_outputs)
            else:
                model = nets.EfficientNetBN(name, pretrained=False, in_channels=channels, num_classes=n_outputs)
        network: nn.Module = model
        return network

    return make


def _vit(nets: Any, weights: str | None, spec: str) -> tuple[nn.Module, int, tuple[str, ...]]:  # noqa: ANN401
    """Build MONAI's ``ViT`` as large as a file's tensors say, its output unwrapped; the heads are its default, 12."""
    state: dict[str, Tensor] = {}
    if weights not in (None, "random"):
        state = read_weights(Path(str(weights)).expanduser())
        prefix = match_prefix(set(state), {"norm.weight", "cls_token", "blocks.0.norm1.weight"})
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    settings: dict[str, Any] = {"in_channels": 1, "img_size": 224, "patch_size": 16, "num_classes": _N_OUTPUTS}
    patch, positions = (
        state.get(f"patch_embedding.{key}") for key in ("patch_embeddings.weight", "position_embeddings")
    )
    if patch is not None and positions is not None and patch.ndim == 4:
        side = round(int(positions.shape[1]) ** 0.5) * int(patch.shape[-1])
        settings |= {"in_channels": int(patch.shape[1]), "patch_size": int(patch.shape[-1]), "img_size": side}
        settings |= {"hidden_size": int(patch.shape[0])}
        settings["num_layers"] = len({m[1] for m in (re.match(r"blocks\.(\d+)\.", key) for key in state) if m})
        if "blocks.0.mlp.linear1.weight" in state:
            settings["mlp_dim"] = int(state["blocks.0.mlp.linear1.weight"].shape[0])
    plain = state.get("classification_head.weight")  # without the Tanh of the default
    final = plain if plain is not None else state.get("classification_head.0.weight")
    if final is not None:
        settings["num_classes"] = int(final.shape[0])
    if plain is not None:
        settings["post_activation"] = "none"
    side, patch_size = settings["img_size"], settings["patch_size"]
    settings |= {"img_size": (side, side), "patch_size": (patch_size, patch_size)}
    try:
        model = nets.ViT(classification=True, spatial_dims=2, **settings)
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise TargetError(
            f"{spec} cannot be built ({type(error).__name__}: {text}): it needs the package einops, and a file of a "
            "classifier with learned positions and 12 heads"
        ) from error
    model, notes = fill(model, "", weights, spec, lambda _n, _c: model)
    return LogitsOnly(model), side, notes
