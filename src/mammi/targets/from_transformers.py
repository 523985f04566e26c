"""Image classifiers in the Hugging Face format: a folder, or ``organisation/name`` from the cache or the hub."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mammi.errors import TargetError
from mammi.registry import import_extra
from mammi.targets.built import Built, clean_names
from mammi.targets.preprocessing import Preprocessing
from mammi.targets.shell import LogitsOnly

__all__ = ["from_transformers"]

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_FILES = ("*.json", "*.safetensors", "pytorch_model*.bin")
_BICUBIC = 3  # as PIL numbers its filters; 2 is bilinear


def from_transformers(name: str, weights: str | None) -> Built:
    """Build ``transformers:FOLDER`` or ``transformers:organisation/name``; its weights are its own.

    The class is the one its ``config.json`` names, of transformers itself: code that lies beside the weights is never
    run. Its output object is unwrapped to the logits; its layers keep their names.
    """
    spec = f"transformers:{name}"
    if weights not in (None, "pretrained"):
        raise TargetError(f"{spec} brings its own weights: leave --weights out, or give the folder that has them")
    transformers = import_extra("transformers", "transformers")
    folder = _find_folder(name, spec)
    has_code = _check_kind(folder, spec)
    try:
        with _quiet():
            model, info = transformers.AutoModelForImageClassification.from_pretrained(
                folder,
                local_files_only=True,
                output_loading_info=True,
                trust_remote_code=False,
                dtype="float32",
            )
            processor = transformers.AutoImageProcessor.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    except Exception as error:
        raise _explained(spec, folder, error, has_code) from error
    lost = sorted(map(str, [*info.get("missing_keys", ()), *info.get("mismatched_keys", ())]))
    if lost:
        raise TargetError(
            f"{spec}: the weights in {str(folder)!r} lack {len(lost)} tensors that the network has, {', '.join(lost[:3])}: "
            "take a checkpoint of a classifier, whole"
        )
    unused = sorted(map(str, info.get("unexpected_keys", ())))
    notes = (f"{spec}: {len(unused)} tensors of the file are not used: {', '.join(unused[:3])}",) if unused else ()
    preprocessing = _preprocessing(processor, int(getattr(model.config, "num_channels", 3)), spec)
    return Built(LogitsOnly(model), preprocessing, _names(model.config), notes)


def _find_folder(name: str, spec: str) -> Path:
    """Return the folder of a model: the one named, else of the local cache, else downloaded."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not any((folder / file).is_file() for file in _WEIGHTS):
            raise TargetError(f"{spec}: the folder holds none of {', '.join(_WEIGHTS[::2])}: download all of it again")
        return folder
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise TargetError(f"{spec}: there is no folder {name!r}; give a folder, or 'organisation/name' on the hub")
    hub = import_extra("huggingface_hub", "transformers")
    try:
        cached = Path(hub.snapshot_download(name, local_files_only=True))
        if any((cached / file).is_file() for file in _WEIGHTS):
            return cached
    except Exception as error:  # noqa: BLE001 - not in the cache: whatever the client calls that, the hub is asked next
        del error
    try:
        info = hub.HfApi().model_info(name, timeout=10)  # one quick question before the client's long retries
        return Path(hub.snapshot_download(name, revision=info.sha, allow_patterns=list(_FILES)))
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise TargetError(
            f"{spec} is not stored here and could not be downloaded ({type(error).__name__}: {text}): download it on "
            "another machine and give its folder; behind a licence, accept it on the model's page and run 'hf auth login'"
        ) from error


def _check_kind(folder: Path, spec: str) -> bool:
    """Refuse what is no classifier before its weights are read; return whether code of its own lies beside them."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        classes = [str(name) for name in config.get("architectures") or ()]
    except (OSError, ValueError, AttributeError) as error:
        raise TargetError(
            f"{spec}: it has no readable config.json ({type(error).__name__}): download it again"
        ) from error
    if classes and not any("ForImageClassification" in name for name in classes):
        raise TargetError(f"{spec} is a {classes[0]}: expected an image classifier, ...ForImageClassification")
    if not (folder / "preprocessor_config.json").is_file():
        raise TargetError(f"{spec}: without preprocessor_config.json its view of a film is unknown: download it too")
    return "auto_map" in config


def _explained(spec: str, folder: Path, error: BaseException, has_code: bool) -> TargetError:
    text = " ".join(str(error).split())
    if "trust_remote_code" in text or (has_code and "does not recognize" in text):
        return TargetError(f"{spec} needs code of its own, which is not run: write a 'file.py:create' that builds it")
    if "weights_only" in text or "Weights only" in text:
        return TargetError(
            f"{spec}: the weights in {str(folder)!r} hold more than tensors, which could run code, so they were not "
            "opened: where they were made, save them as safetensors"
        )
    if type(error).__name__ == "SafetensorError" or isinstance(error, EOFError) or "zip archive" in text:
        return TargetError(f"{spec}: the weights in {str(folder)!r} are truncated ({text[:150]}): download them again")
    return TargetError(f"{spec} cannot be loaded from {str(folder)!r}: {type(error).__name__}: {text[:200]}")


def _names(config: Any) -> tuple[str, ...]:  # noqa: ANN401 - any configuration class
    """Return the names of the outputs, none where the configuration only counts them."""
    table = getattr(config, "id2label", None) or {}
    names = [str(table[key]) for key in sorted(table)]
    return () if all(name == f"LABEL_{key}" for key, name in enumerate(names)) else clean_names(names)


def _preprocessing(processor: Any, channels: int, spec: str) -> Preprocessing:  # noqa: ANN401
    """Write an image processor as numbers: its steps on float pixels, without rounding to 8 bits on the way."""
    size = dict(getattr(processor, "size", None) or {})
    crop = dict(getattr(processor, "crop_size", None) or {}) if getattr(processor, "do_center_crop", False) else {}
    height, width, shortest = (int(size.get(key) or 0) for key in ("height", "width", "shortest_edge"))
    share = 1.0
    if height and width:
        sides, mode = (height, width), "squash"
        if crop:  # resized a little too large, and the margin cut off
            sides = (int(crop["height"]), int(crop["width"]))
            share = sides[0] / height
            if not math.isclose(share, sides[1] / width) or share > 1:
                raise TargetError(f"{spec}: its image processor crops {size} to {crop}: give a 'file.py:create'")
    elif shortest and crop:
        sides, mode = (int(crop["height"]), int(crop["width"])), "crop"
        share = min(1.0, max(sides) / shortest)
    elif shortest and getattr(processor, "crop_pct", None) is not None:  # ConvNeXT: cropped below 384, squashed above
        sides = (shortest, shortest)
        share, mode = (float(processor.crop_pct), "crop") if shortest < 384 else (1.0, "squash")
    else:
        raise TargetError(
            f"{spec}: its image processor makes pictures of no one size ({size}): give a 'file.py:create'"
        )
    factor = float(getattr(processor, "rescale_factor", 1 / 255)) if getattr(processor, "do_rescale", True) else 1.0
    normal = getattr(processor, "do_normalize", True)
    mean = _per_channel(processor.image_mean if normal else 0.0, channels)
    std = _per_channel(processor.image_std if normal else 1.0, channels)
    scale = factor * 255  # the processor starts from 0 to 255, a film from 0 to 1
    return Preprocessing(
        channels=channels,
        size=sides,
        mean=tuple(value / scale for value in mean),
        std=tuple(value / scale for value in std),
        resize="crop" if mode == "crop" else "squash",
        crop_pct=share,
        interpolation="bicubic" if int(getattr(processor, "resample", 2) or 2) == _BICUBIC else "bilinear",
    )


def _per_channel(values: Any, channels: int) -> tuple[float, ...]:  # noqa: ANN401 - a number or several
    listed = [float(value) for value in values] if isinstance(values, list | tuple) else [float(values)]
    return tuple(listed[:channels]) if len(listed) >= channels else (listed[0],) * channels


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library's progress bars and remarks from the user; what matters is said in a note."""
    logging = import_extra("transformers.utils.logging", "transformers")
    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
