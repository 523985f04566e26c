"""What every source of targets gives: a network, and what it declares about its input, its outputs and its training."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from mammi.errors import InputError, TargetError
from mammi.registry import Registry
from mammi.targets.preprocessing import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    PilPreprocessing,
    Preprocessing,
    TargetPreprocessing,
)

__all__ = ["Built", "clean_names", "declared", "declared_corpora", "input_channels", "targets", "undeclared"]

_OUTPUT_NAMES = ("output_names", "OUTPUT_NAMES", "CLASSES", "pathologies")


@dataclass(frozen=True)
class Built:
    """A network as its source gives it.

    Attributes:
        model: the network, weights loaded, wherever it was made.
        preprocessing: what the source declares, ``None`` where it declares nothing.
        output_names: names of its outputs, empty if unknown.
        notes: what was assumed, in words.
        training_corpora: data sets it was trained on, as far as known: an annotator that saw them too is no stranger.
    """

    model: nn.Module
    preprocessing: TargetPreprocessing | None = None
    output_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    training_corpora: tuple[str, ...] = ()


#: Builders by scheme: ``make(name, weights) -> Built``, with ``name`` what follows the colon.
targets: Registry[Callable[[str, str | None], Built]] = Registry("Target", "'mammi targets'")


def clean_names(names: Any) -> tuple[str, ...]:  # noqa: ANN401 - whatever a user's file declares
    """Return output names in lower case, with blanks for underscores.

    >>> clean_names(["Pleural_Thickening", " Mass "])
    ('pleural thickening', 'mass')
    """
    if isinstance(names, str):
        raise InputError(f"'output_names' must be a sequence of names, got the string {names!r}")
    return tuple(" ".join(str(name).replace("_", " ").lower().split()) for name in names)


def declared(
    model: nn.Module, module: object | None, source: str
) -> tuple[TargetPreprocessing | None, tuple[str, ...]]:
    """Read what a network, or else the file it came from, declares about its input and outputs.

    A ``preprocessing`` mapping or `Preprocessing` (the network's own first), else a ``preprocess`` callable; and
    ``output_names``, ``OUTPUT_NAMES``, ``CLASSES`` or ``pathologies``.

    Raises:
        TargetError: if a declaration cannot be used.
    """
    places = [place for place in (model, module) if place is not None]
    preprocessing: TargetPreprocessing | None = None
    for value in (getattr(place, "preprocessing", None) for place in places):
        if isinstance(value, Preprocessing):
            preprocessing = value
            break
        if isinstance(value, dict):
            try:
                preprocessing = Preprocessing.from_dict(_with_channels(value, model))
            except (InputError, TypeError, ValueError) as error:
                raise TargetError(f"'preprocessing' of {source}: {error}") from error
            break
    if preprocessing is None:
        function = next((f for f in (getattr(p, "preprocess", None) for p in places) if callable(f)), None)
        preprocessing = PilPreprocessing(function, source) if function is not None else None
    for place in places:
        for key in _OUTPUT_NAMES:
            value = getattr(place, key, None)
            if isinstance(value, list | tuple) and value:
                return preprocessing, clean_names(value)
    return preprocessing, ()


def declared_corpora(model: nn.Module, module: object | None, source: str) -> tuple[str, ...]:
    """Read the data sets that a network, or else the file it came from, says it was trained on.

    Raises:
        TargetError: if ``training_corpora`` is no sequence of names.
    """
    for place in (model, module):
        value = getattr(place, "training_corpora", None) if place is not None else None
        if value is None:
            continue
        if not isinstance(value, list | tuple) or not all(isinstance(name, str) and name.strip() for name in value):
            raise TargetError(f"'training_corpora' of {source} must be a sequence of names, got {value!r}")
        return tuple(" ".join(name.split()) for name in value)
    return ()


def undeclared(model: nn.Module, spec: str) -> Preprocessing:
    """Return the preprocessing assumed for a network that declares none: 224x224, ImageNet's mean and deviation."""
    channels = input_channels(model)
    if channels not in (1, 3):
        raise TargetError(f"{spec} takes {channels} channels: expected 1 (grey) or 3 (RGB)")
    return Preprocessing(channels=channels, mean=IMAGENET_MEAN[:channels], std=IMAGENET_STD[:channels])


def input_channels(model: nn.Module) -> int:
    """Return the channels of a network's input by its first convolution, 3 without one."""
    return next((m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d)), 3)


def _with_channels(settings: dict[str, Any], model: nn.Module) -> dict[str, Any]:
    """Add the channels to a declaration whose numbers leave them open."""
    told = "channels" in settings or any(isinstance(settings.get(key), list | tuple) for key in ("mean", "std"))
    return settings if told else settings | {"channels": input_channels(model)}
