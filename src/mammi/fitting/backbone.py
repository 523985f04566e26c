"""The locked image network of a fitted annotator: a target, some of its layers, and how it is found again."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from mammi.capture import LayerPlan, Recorder, plan_layers
from mammi.errors import MammiError, VlmError
from mammi.factory_file import is_factory_spec, split_factory_spec
from mammi.functional.fingerprint import fingerprint_file, fingerprint_tensors, fingerprint_value
from mammi.targets import Target, create_target
from mammi.types import Film

__all__ = ["Backbone", "record_features", "restore_backbone", "write_backbone"]

#: The copy of the weights in a fitted folder.
WEIGHTS = "backbone.safetensors"


@dataclass(frozen=True, eq=False)
class Backbone:
    """An image network and the layers that are read from it."""

    target: Target
    plans: list[LayerPlan]

    @classmethod
    def of(cls, target: Target, layers: Sequence[str], pooling: str | None = None) -> "Backbone":
        """Choose layers of a target, each pooled as `mammi.capture.plan_layers` does."""
        return cls(target, plan_layers(target, layers, pooling))

    @property
    def n_features(self) -> int:
        """How many numbers a film gives: the units of all layers."""
        return sum(plan.n_units for plan in self.plans)

    def fingerprint(self) -> str:
        """Return the SHA-256 of weights, layers and what the preprocessing does to a film, whatever their paths."""
        ramp = np.linspace(0, 1, 96 * 80, dtype=np.float32).reshape(96, 80)
        view = self.target.view(Film(ramp))
        plans = [plan.to_dict() for plan in self.plans]
        weights = {name: value for name, value in self.target.model.state_dict().items() if isinstance(value, Tensor)}
        return fingerprint_value([fingerprint_tensors(weights), fingerprint_tensors({"view": view}), plans])


def record_features(model: nn.Module, plans: Sequence[LayerPlan], views: Tensor) -> Tensor:
    """Read the chosen layers: ``(n, channels, height, width)`` to float32 ``(n, n_features)`` on the CPU."""
    with Recorder(model, plans) as recorder:
        recorded = recorder.record(views)
    return torch.cat([recorded[plan.name] for plan in plans], dim=1)


def write_backbone(backbone: Backbone, out: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Copy the weights into a folder; return what makes the network again, and the paths that are only true here.

    Raises:
        VlmError: if the target was given as a module, which nothing makes again, or cannot be made from its copy.
    """
    source = backbone.target.source
    if source is None:
        raise VlmError("the backbone was given as a module: make it with create_target('path/file.py:NAME', weights)")
    if source.get("sae") is not None:
        raise VlmError("the backbone has a sparse autoencoder put on it: give the network alone")
    state = {name: value.detach().cpu().clone() for name, value in backbone.target.model.state_dict().items()}
    (out / WEIGHTS).write_bytes(save({name: value.contiguous() for name, value in state.items()}))
    keys = ("channels", "size", "mean", "std", "resize")
    made: dict[str, Any] = {"settings": {key: source[key] for key in keys if source[key] is not None}}
    private = {}
    spec = str(source["spec"])
    if is_factory_spec(spec):
        path, name = split_factory_spec(spec)
        # Code is the user's own and stays where it is: a folder that is passed on must not bring code along.
        made |= {"code": path.name, "name": name, "sha256": fingerprint_file(path)}
        private["code"] = str(path.resolve())
    else:
        made["spec"] = spec
    made |= {
        "weights": None if spec.partition(":")[0] == "phantom" else WEIGHTS,
        "layers": [plan.name for plan in backbone.plans],
        "poolings": [plan.pooling for plan in backbone.plans],
        "fingerprint": backbone.fingerprint(),
    }
    restore_backbone(out, made, private)
    return made, private


def restore_backbone(folder: Path, made: dict[str, Any], private: dict[str, str]) -> Backbone:
    """Make the network again and see that it is the same.

    Args:
        folder: the fitted folder.
        made: what `write_backbone` returned.
        private: likewise; of a folder that came from elsewhere it may be empty.

    Raises:
        VlmError: if its code is not found, or it is another network.
    """
    spec = made.get("spec") or f"{_code(folder, made, private)}:{made['name']}"
    weights = None if made["weights"] is None else folder / made["weights"]
    try:
        target = create_target(spec, weights, **made["settings"])
        plans = [plan_layers(target, [name])[0] for name in made["layers"]]
        for row, (plan, pooling) in enumerate(zip(plans, made["poolings"], strict=True)):
            if plan.pooling != pooling:
                plans[row] = plan_layers(target, [plan.name], pooling)[0]
    except MammiError as error:
        raise VlmError(f"the backbone of {str(folder)!r} cannot be made: {error}") from error
    backbone = Backbone(target, plans)
    if backbone.fingerprint() != made["fingerprint"]:
        raise VlmError(
            f"the backbone of {str(folder)!r} is another than the one it was fitted with (structure, weights or "
            "preprocessing differ): use the versions of the libraries and the code it was fitted with, or fit again"
        )
    return backbone


def _code(folder: Path, made: dict[str, Any], private: dict[str, str]) -> Path:
    """Return the user's file that defines the network: where it was, or beside the fitted folder."""
    path = Path(private.get("code") or made["code"])
    if not path.is_file():
        raise VlmError(
            f"the backbone of {str(folder)!r} is defined in {made['code']!r}, which is not at {str(path)!r}: write where "
            f'it is into {str(folder / "private" / "backbone.json")!r}, as {{"code": "path/{made["code"]}"}}'
        )
    if fingerprint_file(path) != made["sha256"]:
        raise VlmError(
            f"{str(path)!r} has changed since {str(folder)!r} was fitted, and was not run: restore it, or fit again"
        )
    return path
