"""Where a target comes from: one builder per spec scheme, in one registry.

``torchvision:NAME``, ``timm:NAME``, ``phantom``, ``phantom:shortcut`` and ``path/file.py:NAME`` each become a `Built`:
a network, what it declares about its input and outputs, and notes on what had to be assumed.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mammi.errors import InputError, TargetError, UnknownNameError
from mammi.factory_file import call_factory, load_factory, split_factory_spec
from mammi.registry import Registry, import_extra
from mammi.targets.preprocessing import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    PilPreprocessing,
    Preprocessing,
    TargetPreprocessing,
)
from mammi.weights_file import load_weights, match_prefix, read_weights

__all__ = ["Built", "clean_names", "declared", "targets", "undeclared"]

_OUTPUT_NAMES = ("output_names", "OUTPUT_NAMES", "CLASSES", "pathologies")


@dataclass(frozen=True)
class Built:
    """A network as its source gives it.

    Attributes:
        model: the network, weights loaded, wherever it was made.
        preprocessing: what the source declares, ``None`` where it declares nothing.
        output_names: names of its outputs, empty if unknown.
        notes: what was assumed, in words.
    """

    model: nn.Module
    preprocessing: TargetPreprocessing | None = None
    output_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


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


@targets.register(
    "phantom",
    "the small network of the demo, trained on drawn chest films; nothing to download; "
    "'phantom:shortcut' has learned a planted shortcut",
)
def _phantom(name: str, weights: str | None) -> Built:
    if name not in ("", "shortcut") or weights:
        raise TargetError("'phantom' brings its own weights: give 'phantom' alone, or 'phantom:shortcut'")
    spec = "'phantom:shortcut'" if name else "'phantom'"
    try:
        home = import_module("mammi.phantoms.target")
        model = home.create_shortcut() if name else home.create()
    except (ModuleNotFoundError, OSError) as error:
        raise TargetError(f"{spec} is not part of this installation ({error}): give another target") from error
    return Built(model, *declared(model, None, spec))


@targets.register("file.py", "your own network: 'path/file.py:NAME', a class or function that returns an nn.Module")
def _file(spec: str, weights: str | None) -> Built:
    factory, module = load_factory(spec, error=TargetError)
    model = call_factory(factory, spec, error=TargetError)
    if not isinstance(model, nn.Module):
        raise TargetError(f"{spec} returned a {type(model).__name__}: expected a torch.nn.Module")
    path, name = split_factory_spec(spec)
    notes: tuple[str, ...]
    if weights is None or weights == "random":
        notes = (f"no weights file given: the network is as {name} of {path.name} returns it",)
    elif weights == "pretrained":
        raise TargetError(f"{spec} has no pretrained weights to download: give a file, or load them inside {name}")
    else:
        notes = load_weights(model, read_weights(Path(weights).expanduser()), repr(weights))
    return Built(model, *declared(model, module, spec), notes)


@targets.register(
    "torchvision",
    "a network of torchvision by name: 'torchvision:densenet121'",
    needs=("torchvision",),
    extra="torchvision",
)
def _torchvision(name: str, weights: str | None) -> Built:
    models = import_extra("torchvision.models", "torchvision")
    known = models.list_models()
    if name not in known:
        raise UnknownNameError.among("torchvision network", name, known, "'torchvision.models.list_models()' has all.")
    spec = f"torchvision:{name}"
    _need_weights(spec, weights)
    try:
        entry = models.get_model_weights(name).DEFAULT
    except (AttributeError, ValueError):  # a few networks have no published weights
        entry = None
    if weights == "pretrained" and entry is None:
        raise TargetError(f"torchvision publishes no weights for {name!r}: give a file")

    def make(**settings: Any) -> nn.Module:  # noqa: ANN401
        with _quiet_construction():
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
        model = _download(spec, lambda: make(weights=entry))
        return Built(model, preprocessing, clean_names(entry.meta.get("categories", ())))
    model = make(weights=None, weights_backbone=None) if _has_backbone(models, name) else make(weights=None)
    head = next((n for n, m in reversed(list(model.named_modules())) if isinstance(m, nn.Linear)), "")
    model, notes = _fill(model, head, weights, spec, lambda n, _: make(weights=None, num_classes=n))
    return Built(model, preprocessing, (), (*notes, *_assumed(spec, preprocessing)))


@targets.register(
    "timm", "a network of timm by name: 'timm:vit_base_patch16_224'", needs=("timm", "torchvision"), extra="timm"
)
def _timm(name: str, weights: str | None) -> Built:
    timm = import_extra("timm", "timm")
    data = import_extra("timm.data", "timm")
    if not timm.is_model(name):
        raise UnknownNameError.among("timm network", name, timm.list_models(), "'timm.list_models()' has all.")
    spec = f"timm:{name}"
    _need_weights(spec, weights)

    def make(**settings: Any) -> nn.Module:  # noqa: ANN401
        with _quiet_construction():
            model: nn.Module = timm.create_model(name, **settings)
        return model

    notes: tuple[str, ...] = ()
    if weights == "pretrained":
        _check_hub(spec, getattr(timm.models.get_pretrained_cfg(name), "hf_hub_id", None))
        model = _download(spec, lambda: make(pretrained=True))
    else:
        model = make()
        named: Any = getattr(model, "pretrained_cfg", {}).get("classifier") or ""
        head = str(named) if isinstance(named, str) else str(named[0])

        def remake(n: int | None, channels: int | None) -> nn.Module:
            given = {"num_classes": n, "in_chans": channels}
            return make(**{key: value for key, value in given.items() if value is not None})

        first = next((n for n, m in model.named_modules() if isinstance(m, nn.Conv2d)), "")
        model, notes = _fill(model, head, weights, spec, remake, first)
    config = data.resolve_model_data_config(model)
    channels = _channels(model)
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
        notes = (*notes, *_assumed(spec, preprocessing))
    return Built(model, preprocessing, (), notes)


def undeclared(model: nn.Module, spec: str) -> Preprocessing:
    """Return the preprocessing assumed for a network that declares none: 224x224, ImageNet's mean and deviation."""
    channels = _channels(model)
    if channels not in (1, 3):
        raise TargetError(f"{spec} takes {channels} channels: expected 1 (grey) or 3 (RGB)")
    return Preprocessing(channels=channels, mean=IMAGENET_MEAN[:channels], std=IMAGENET_STD[:channels])


def _channels(model: nn.Module) -> int:
    """Return the channels of a network's input by its first convolution, 3 without one."""
    return next((m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d)), 3)


def _with_channels(settings: dict[str, Any], model: nn.Module) -> dict[str, Any]:
    """Add the channels to a declaration whose numbers leave them open."""
    told = "channels" in settings or any(isinstance(settings.get(key), list | tuple) for key in ("mean", "std"))
    return settings if told else settings | {"channels": _channels(model)}


def _need_weights(spec: str, weights: str | None) -> None:
    if weights is None:
        raise TargetError(
            f"{spec} needs weights: give a file, or weights='pretrained' (downloads the library's own), "
            "or weights='random' (a network that knows nothing)"
        )


def _assumed(spec: str, preprocessing: Preprocessing | None) -> tuple[str, ...]:
    if preprocessing is None:
        return ()
    note = f"{spec}: assumed the library's own preprocessing, {preprocessing}"
    return (f"{note}; give size, mean, std and resize if the weights were trained otherwise",)


def _fill(
    model: nn.Module,
    head: str,
    weights: str | None,
    spec: str,
    remake: Callable[[int | None, int | None], nn.Module],
    first: str = "",
) -> tuple[nn.Module, tuple[str, ...]]:
    """Load a weights file, with as many outputs (and input channels) as the file has."""
    if weights is None or weights == "random":
        return model, (f"RANDOM WEIGHTS: {spec} has learned nothing, and neither will its annotations mean anything",)
    state = read_weights(Path(weights).expanduser())
    prefix = match_prefix(set(state), set(model.state_dict()))
    n_outputs = _rows(model, state, head, prefix, axis=0)
    channels = _rows(model, state, first, prefix, axis=1)
    notes: tuple[str, ...] = ()
    if n_outputs is not None or channels is not None:
        model = remake(n_outputs, channels)
        sizes = ((n_outputs, "outputs"), (channels, "input channels"))
        told = " and ".join(f"{n} {what}" for n, what in sizes if n is not None)
        notes = (f"{spec} was built with {told}, as in {weights!r}",)
    return model, (*notes, *load_weights(model, state, repr(weights)))


def _rows(model: nn.Module, state: dict[str, Tensor], layer: str, prefix: str, axis: int) -> int | None:
    """Return the length of a layer's weight along ``axis`` in a file, if only that differs from the network's."""
    ours, theirs = model.state_dict().get(f"{layer}.weight"), state.get(f"{prefix}{layer}.weight")
    if not isinstance(ours, Tensor) or theirs is None or ours.ndim != theirs.ndim:
        return None
    differ = [i for i in range(ours.ndim) if ours.shape[i] != theirs.shape[i]]
    return int(theirs.shape[axis]) if differ == [axis] else None


def _has_backbone(models: Any, name: str) -> bool:  # noqa: ANN401 - the torchvision.models module
    """Tell whether a torchvision builder would download a backbone unless told not to (segmentation, detection)."""
    import inspect

    return "weights_backbone" in inspect.signature(models.get_model_builder(name)).parameters


def _check_hub(spec: str, repository: str | None) -> None:
    """Fail in seconds, not after a storm of retries, when weights are neither stored here nor within reach."""
    if not repository:
        return
    hub = import_extra("huggingface_hub", "timm")
    names = ("model.safetensors", "pytorch_model.bin")
    if any(isinstance(hub.try_to_load_from_cache(repository, name), str) for name in names):
        return
    _download(spec, lambda: hub.HfApi().model_info(repository, timeout=10))


def _download(spec: str, fetch: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever is fetched
    try:
        return fetch()
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise TargetError(
            f"The pretrained weights of {spec} could not be downloaded ({type(error).__name__}: {text}): "
            "download them elsewhere and give the file"
        ) from error


@contextmanager
def _quiet_construction() -> Iterator[None]:
    """Keep the libraries' remarks about their own future (initialisation, moved names) from the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
