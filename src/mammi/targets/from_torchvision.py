"""Networks of torchvision by name."""

import inspect
from typing import Any

from torch import nn

from mammi.errors import TargetError, UnknownNameError
from mammi.registry import import_extra
from mammi.targets.built import Built, clean_names
from mammi.targets.library_weights import assumed, download, fill, need_weights, quiet_construction
from mammi.targets.preprocessing import Preprocessing

__all__ = ["from_torchvision"]


def from_torchvision(name: str, weights: str | None) -> Built:
    """Build ``torchvision:NAME``; its preprocessing is that of the newest weights torchvision publishes."""
    models = import_extra("torchvision.models", "torchvision")
    known = models.list_models()
    if name not in known:
        raise UnknownNameError.among("torchvision network", name, known, "'torchvision.models.list_models()' has all.")
    spec = f"torchvision:{name}"
    need_weights(spec, weights)
    try:
        entry = models.get_model_weights(name).DEFAULT
    except (AttributeError, ValueError):  # a few networks have no published weights
        entry = None
    if weights == "pretrained" and entry is None:
        raise TargetError(f"torchvision publishes no weights for {name!r}: give a file")

    def make(**settings: Any) -> nn.Module:  # noqa: ANN401
        with quiet_construction():
            model: nn.Module = models.get_model(name, **settings)
        return model

    preset = entry.transforms() if entry is not None else None
    preprocessing = None
    if preset is not None and hasattr(preset, "crop_size"):
        crop, resized = int(preset.crop_size[0]), int(preset.resize_size[0])
        preprocessing = Preprocessing(
            size=(crop, crop),
            mean=tuple(preset.mean),
            std=tuple(preset.std),
            resize="crop",
            crop_pct=min(1.0, crop / resized),
            interpolation="bicubic" if preset.interpolation.value == "bicubic" else "bilinear",
        )
    if weights == "pretrained":
        model = download(spec, lambda: make(weights=entry))
        return Built(model, preprocessing, clean_names(entry.meta.get("categories", ())))
    model = make(weights=None, weights_backbone=None) if _has_backbone(models, name) else make(weights=None)
    head = next((n for n, m in reversed(list(model.named_modules())) if isinstance(m, nn.Linear)), "")
    model, notes = fill(model, head, weights, spec, lambda n, _: make(weights=None, num_classes=n))
    return Built(model, preprocessing, (), (*notes, *assumed(spec, preprocessing)))


def _has_backbone(models: Any, name: str) -> bool:  # noqa: ANN401 - the torchvision.models module
    """Tell whether a torchvision builder would download a backbone unless told not to (segmentation, detection)."""
    return "weights_backbone" in inspect.signature(models.get_model_builder(name)).parameters
