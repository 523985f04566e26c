"""Networks of timm by name."""

from typing import Any

from torch import nn

from mammi.errors import UnknownNameError
from mammi.registry import import_extra
from mammi.targets.built import Built, input_channels
from mammi.targets.library_weights import assumed, check_hub, download, fill, need_weights, quiet_construction
from mammi.targets.preprocessing import Preprocessing

__all__ = ["from_timm"]


def from_timm(name: str, weights: str | None) -> Built:
    """Build ``timm:NAME``; its preprocessing is the one timm publishes with the name."""
    timm = import_extra("timm", "timm")
    data = import_extra("timm.data", "timm")
    if not timm.is_model(name):
        raise UnknownNameError.among("timm network", name, timm.list_models(), "'timm.list_models()' has all.")
    spec = f"timm:{name}"
    need_weights(spec, weights)

    def make(**settings: Any) -> nn.Module:  # noqa: ANN401
        with quiet_construction():
            model: nn.Module = timm.create_model(name, **settings)
        return model

    notes: tuple[str, ...] = ()
    if weights == "pretrained":
        check_hub(spec, getattr(timm.models.get_pretrained_cfg(name), "hf_hub_id", None))
        model = download(spec, lambda: make(pretrained=True))
    else:
        model = make()
        named: Any = getattr(model, "pretrained_cfg", {}).get("classifier") or ""
        head = str(named) if isinstance(named, str) else str(named[0])

        def remake(n: int | None, channels: int | None) -> nn.Module:
            given = {"num_classes": n, "in_chans": channels}
            return make(**{key: value for key, value in given.items() if value is not None})

        first = next((n for n, m in model.named_modules() if isinstance(m, nn.Conv2d)), "")
        model, notes = fill(model, head, weights, spec, remake, first)
    config = data.resolve_model_data_config(model)
    channels = input_channels(model)
    modes = {"center": "crop", "squash": "squash", "border": "pad"}
    preprocessing = Preprocessing.from_dict(
        {
            "channels": channels,
            "size": config["input_size"][1:],
            "mean": config["mean"][:channels],
            "std": config["std"][:channels],
            "resize": modes.get(config["crop_mode"], "crop"),
            "crop_pct": config["crop_pct"],
            "interpolation": "bilinear" if config["interpolation"] == "bilinear" else "bicubic",
        }
    )
    if weights != "pretrained":
        notes = (*notes, *assumed(spec, preprocessing))
    return Built(model, preprocessing, (), notes)
