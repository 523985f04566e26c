"""`Target`: the network under study, ready to look at films; and `create_target`, which makes one from a spec."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from mammi.errors import ImageError, InputError, TargetError
from mammi.factory_file import is_factory_spec, split_factory_spec
from mammi.functional.fingerprint import fingerprint_module, fingerprint_value
from mammi.functional.precision import check_precision, lowered
from mammi.targets.built import Built, clean_names, declared, declared_corpora, undeclared
from mammi.targets.preprocessing import PilPreprocessing, Preprocessing, TargetPreprocessing
from mammi.targets.sources import targets
from mammi.targets.sparse_autoencoder import attached
from mammi.types import Film
from mammi.weights_file import load_weights, read_weights

__all__ = ["Target", "create_target", "list_targets"]

#: How many times longer one side of a film may be than the other. Resized along one side first, or by the shorter side,
#: a strip of a pixel's width asks for a thousand times its own memory.
LONGEST = 50


@dataclass(frozen=True, eq=False)
class Target:
    """The network under study.

    Attributes:
        name: the spec that made it.
        model: in ``eval()`` mode, on ``device``.
        preprocessing: how a film becomes its input.
        output_names: lower case, one per output, empty if unknown.
        n_outputs: length of its output vector, 0 if its output is not one vector per image.
        fingerprint: SHA-256 of structure, weights and preprocessing, 64 hex digits.
        device: where the model is.
        notes: what had to be assumed, in words.
        source: the arguments of `create_target` that make it again, paths absolute; None if it was made from a module.
        precision: in which numbers ``model`` computes, one of `mammi.functional.precision.PRECISIONS`.
        base: of a copy with other weights, the ``source`` of what it is a copy of.
        training_corpora: data sets it was trained on, as far as its source or the user's file says.
    """

    name: str
    model: nn.Module
    preprocessing: TargetPreprocessing
    output_names: tuple[str, ...]
    n_outputs: int
    fingerprint: str
    device: str = "cpu"
    notes: tuple[str, ...] = ()
    source: Mapping[str, Any] | None = None
    precision: str = "float32"
    base: Mapping[str, Any] | None = None
    training_corpora: tuple[str, ...] = ()

    def at(self, precision: str) -> "Target":
        """Return this target with a copy of its network that computes in another precision, for recording films.

        Everything else stays, the fingerprint too: it is of what was given, and a run says itself how it was recorded.

        Args:
            precision: ``"float32"``, ``"float32-channels-last"`` or ``"bfloat16"``; the present one returns ``self``.

        Raises:
            InputError: if there is no such precision, or this target is itself such a copy.
            TargetError: if the network cannot be copied or cast.
        """
        wanted = check_precision(precision)
        if wanted == self.precision:
            return self
        if self.precision != "float32":
            raise InputError(f"{self.name} is a copy in {self.precision}: ask the target it was made from")
        try:
            return replace(self, model=lowered(self.model, wanted).eval(), precision=wanted)
        except Exception as error:
            raise TargetError(f"{self.name} cannot compute in {wanted} ({_first_line(error)})") from error

    def __reduce_ex__(self, protocol: Any) -> Any:  # noqa: ANN401 - as object declares it
        """Send what makes the network again, and not the network, to another process; one given as a module goes whole.

        There it is made, and must have the same fingerprint (`TargetError` if not).
        """
        if self.source is not None:
            return _again, (self.name, self.source, self.device, self.fingerprint, self.precision)
        if self.base is not None:
            weights = {name: value.cpu() for name, value in self.model.state_dict().items()}
            sent = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "model"}
            return _again_with_weights, (sent, weights)
        return super().__reduce_ex__(protocol)

    def view(self, film: Film) -> Tensor:
        """Return the network's own view of a film, float32 ``(channels, height, width)`` on the CPU.

        Raises:
            ImageError: if one side of the film is more than 50 times the other.
        """
        height, width = film.pixels.shape[:2]
        if max(height, width) > LONGEST * min(height, width):
            raise ImageError(f"The film is {width} x {height} pixels, a strip and no film: leave it out")
        return self.preprocessing.apply(film)


def list_targets() -> list[tuple[str, str]]:
    """Return every kind of target as (name, one sentence)."""
    return [(entry.name, entry.summary) for entry in targets]


def create_target(
    spec: str | nn.Module,
    weights: str | Path | None = None,
    *,
    device: str = "cpu",
    channels: int | None = None,
    size: int | tuple[int, int] | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    resize: str | None = None,
    output_names: Sequence[str] | None = None,
    sae: Mapping[str, str | Path] | None = None,
) -> Target:
    """Make the network under study.

    Args:
        spec: ``"phantom"``, ``"phantom:shortcut"``, ``"torchvision:NAME"``, ``"timm:NAME"``, ``"xrv:NAME"``,
            ``"monai:NAME"``, ``"transformers:FOLDER"`` or ``"transformers:organisation/name"``,
            ``"path/file.py:NAME"`` or an ``nn.Module``.
        weights: a ``.safetensors`` or torch file; for the libraries' networks also ``"pretrained"`` (downloads) or
            ``"random"``; a model of transformers brings its own.
        device: where to run, for example ``"cpu"`` or ``"cuda"``.
        channels: 1 or 3; this and the four below replace what the network declares about its input.
        size: height and width, or one number for both.
        mean: subtracted from pixels in [0, 1]; one number or one a channel.
        std: divided by after that.
        resize: ``"squash"``, ``"crop"`` or ``"pad"``, see `Preprocessing`.
        output_names: one name per output, replaces what the network declares.
        sae: files of sparse autoencoders by the layer that they read; the latents become the layers ``sae.LAYER``.

    Returns:
        The target, in ``eval()`` mode. A module given as ``spec`` is used itself, not copied.

    Raises:
        TargetError: if the network cannot be built, its weights do not fit, or it refuses one film of this size.
        UnknownNameError: if no such scheme or network exists.
        MissingExtraError: if the library it comes from is not installed.
        InputError: if an option has a wrong value.
    """
    name = "module" if isinstance(spec, nn.Module) else spec
    # A network that starts at random starts the same each time, or its run could never be resumed or repeated.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = _build(spec, None if weights is None else str(weights))
    model, notes = built.model, list(built.notes)
    base = built.preprocessing or undeclared(model, name)
    preprocessing = _override(base, name, channels=channels, size=size, mean=mean, std=std, resize=resize)
    if built.preprocessing is None and any(value is None for value in (size, mean, std, resize)):
        notes.append(f"{name} declares no preprocessing: assumed {preprocessing}")
    try:
        model = model.to(device).eval()
    except (RuntimeError, AssertionError, ValueError) as error:
        raise TargetError(f"{name} cannot run on {device!r} ({_first_line(error)}): try device='cpu'") from error
    n_outputs = _dry_run(model, preprocessing, name, device)
    if sae is not None:
        model, told = attached(model, preprocessing, name, sae)
        notes += told
    names = _names(output_names, built.output_names, n_outputs, name, notes)
    fingerprint = fingerprint_value([fingerprint_module(model), preprocessing.to_dict()])
    source: dict[str, Any] | None = None
    if not isinstance(spec, nn.Module):
        settings = {"channels": channels, "size": size, "mean": mean, "std": std, "resize": resize}
        source = {
            "spec": _absolute(spec),
            "weights": _absolute_weights(weights),
            "output_names": output_names,
        } | settings
        if sae is not None:  # only then: the runs of older versions know no such setting
            source["sae"] = {layer: str(Path(file).expanduser().resolve()) for layer, file in sae.items()}
    target = Target(name, model, preprocessing, names, n_outputs, fingerprint, device, tuple(notes), source)
    return replace(target, training_corpora=built.training_corpora)


def _again(name: str, source: Mapping[str, Any], device: str, fingerprint: str, precision: str) -> Target:
    """Make a target in another process."""
    target = create_target(**source, device=device)
    if target.fingerprint != fingerprint:
        raise TargetError(
            f"{name} is another network where a worker made it again (its structure, weights or preprocessing differ): "
            "give all workers the same files and the same versions of the libraries"
        )
    return replace(target, name=name).at(precision)


def _again_with_weights(sent: dict[str, Any], weights: dict[str, Tensor]) -> Target:
    """Make a copy with other weights in another process."""
    target = create_target(**sent["base"], device=sent["device"]).at(sent["precision"])
    target.model.load_state_dict(weights)
    content = fingerprint_value([fingerprint_module(target.model), target.preprocessing.to_dict()])
    # The fingerprint is of the weights before they were lowered.
    if content != sent["fingerprint"] and target.precision == "float32":
        raise TargetError(f"{sent['name']} cannot be made again in a worker: use one process")
    return Target(model=target.model, **sent)


def _absolute(spec: str) -> str:
    if not is_factory_spec(spec):
        scheme, colon, rest = spec.partition(":")
        folder = Path(rest).expanduser()
        return f"{scheme}{colon}{folder.resolve()}" if rest and folder.is_dir() and scheme == "transformers" else spec
    path, name = split_factory_spec(spec)
    return f"{path.resolve()}:{name}"


def _absolute_weights(weights: str | Path | None) -> str | None:
    if weights is None:
        return None
    path = Path(weights).expanduser()
    return str(path.resolve()) if path.is_file() else str(weights)  # "pretrained" and "random" are no files


def _build(spec: str | nn.Module, weights: str | None) -> Built:
    if isinstance(spec, nn.Module):
        notes = () if weights is None else load_weights(spec, read_weights(Path(weights).expanduser()), repr(weights))
        corpora = declared_corpora(spec, None, "module")
        return Built(spec, *declared(spec, None, "module"), notes, corpora)
    if is_factory_spec(spec):
        return targets.get("file.py").make(spec, weights)
    scheme, _, rest = spec.partition(":")
    entry = targets.get(scheme)
    if not rest and scheme != "phantom":
        raise TargetError(f"{spec!r} names no network: give '{scheme}:NAME', for example '{scheme}:resnet18'")
    return entry.make(rest, weights)


def _override(
    base: TargetPreprocessing,
    name: str,
    *,
    channels: int | None,
    size: int | tuple[int, int] | None,
    mean: float | Sequence[float] | None,
    std: float | Sequence[float] | None,
    resize: str | None,
) -> TargetPreprocessing:
    """Return ``base`` with the user's own settings in place of its own."""
    options = {"channels": channels, "size": size, "mean": mean, "std": std, "resize": resize}
    given: dict[str, Any] = {key: value for key, value in options.items() if value is not None}
    if not given:
        return base
    if isinstance(base, PilPreprocessing):
        raise InputError(f"{name} brings its own preprocess(): leave out {', '.join(given)}, or change the function")
    settings = cast("Preprocessing", base).to_dict()
    if channels is not None and channels != settings["channels"]:
        # Three means say nothing about one channel, nor one about three: fall back to the usual ones.
        settings = {key: value for key, value in settings.items() if key not in ("mean", "std")}
    return Preprocessing.from_dict(settings | given)


def _dry_run(model: nn.Module, preprocessing: TargetPreprocessing, name: str, device: str) -> int:
    """Show the network one black film: what it refuses now it would refuse in the middle of a run."""
    shape = (1, preprocessing.channels, *preprocessing.size)
    try:
        with torch.no_grad():
            output = model(torch.zeros(shape, device=device))
    except Exception as error:
        raise TargetError(
            f"{name} refuses one film as a {shape} batch ({_first_line(error)}): give the channels and size it takes"
        ) from error
    return int(output.shape[1]) if isinstance(output, Tensor) and output.ndim == 2 else 0


def _names(
    asked: Sequence[str] | None, found: tuple[str, ...], n_outputs: int, name: str, notes: list[str]
) -> tuple[str, ...]:
    if asked is not None:
        names = clean_names(asked)
        if len(names) != n_outputs:
            raise TargetError(
                f"{len(names)} output names were given, but {name} has {n_outputs or 'no vector of'} outputs"
            )
        return names
    if found and len(found) != n_outputs:
        notes.append(f"{name} declares {len(found)} output names for {n_outputs} outputs: they were left out")
        return ()
    return found


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:200]}" if text else type(error).__name__
