"""Options that say which network is looked at, and the network that they say."""

from typing import Annotated, Any

import typer

from mammi.cli.console import err
from mammi.errors import InputError

__all__ = [
    "ChannelsOption",
    "DeviceOption",
    "MeanOption",
    "ResizeOption",
    "SaeOption",
    "SizeOption",
    "StdOption",
    "TargetOption",
    "WeightsOption",
    "open_network",
]

TargetOption = Annotated[
    str,
    typer.Option(
        help="phantom, torchvision:NAME, timm:NAME, xrv:NAME, monai:NAME, transformers:FOLDER or path/file.py:NAME."
    ),
]
WeightsOption = Annotated[
    str | None, typer.Option(help="Weights of the target: safetensors, or a torch file read with weights_only.")
]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda or cuda:1.")]
ChannelsOption = Annotated[int | None, typer.Option(help="Channels of the target's input, 1 or 3.")]
SizeOption = Annotated[str | None, typer.Option(help="Size of the target's input: 224 or 320x256 (height x width).")]
MeanOption = Annotated[str | None, typer.Option(help="Mean of the target's input, for pixels in 0 to 1: 0.5 or a,b,c.")]
StdOption = Annotated[str | None, typer.Option(help="Standard deviation of the target's input: 0.25 or a,b,c.")]
ResizeOption = Annotated[str | None, typer.Option(help="squash, crop or pad.")]
SaeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--sae",
        help="LAYER=FILE: a sparse autoencoder on a layer; its latents are the layer sae.LAYER. May be repeated.",
    ),
]


def _numbers(text: str | None, option: str) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.replace("x", ",").split(",")]
    except ValueError as error:
        raise InputError(f"{option} must be a number or several joined by commas, got {text!r}") from error


def _one_or_all(values: list[float] | None) -> float | list[float] | None:
    return values[0] if values is not None and len(values) == 1 else values


def open_network(
    spec: str,
    weights: str | None,
    device: str,
    channels: int | None,
    size: str | None,
    mean: str | None,
    std: str | None,
    resize: str | None,
    sae: list[str] | None,
) -> Any:  # noqa: ANN401 - a Target, whose room is not imported for --help
    """Make the target that the options say, and print its notes."""
    from mammi.targets import create_target

    sides = _numbers(size, "--size")
    if sides is not None and (len(sides) not in (1, 2) or not all(side.is_integer() for side in sides)):
        raise InputError(f"--size must be one whole number or heightxwidth, got {size!r}")
    target = create_target(
        spec,
        weights,
        device=device,
        channels=channels,
        size=None if sides is None else (int(sides[0]), int(sides[-1])),
        mean=_one_or_all(_numbers(mean, "--mean")),
        std=_one_or_all(_numbers(std, "--std")),
        resize=resize,
        sae=_sae_files(sae),
    )
    for note in target.notes:
        err.print(f"note: {note}", markup=False, soft_wrap=True)
    return target


def _sae_files(pairs: list[str] | None) -> dict[str, str] | None:
    """Read LAYER=FILE pairs."""
    if not pairs:
        return None
    files: dict[str, str] = {}
    for pair in pairs:
        layer, _, file = pair.partition("=")
        if not layer.strip() or not file.strip():
            raise InputError(f"--sae must be LAYER=FILE, got {pair!r}")
        if layer.strip() in files:
            raise InputError(f"--sae names layer {layer.strip()!r} twice")
        files[layer.strip()] = file.strip()
    return files
