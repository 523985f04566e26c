"""The network of the demo, and a user's own from a Python file."""

from importlib import import_module
from pathlib import Path

from torch import nn

from mammi.errors import TargetError
from mammi.factory_file import call_factory, load_factory, split_factory_spec
from mammi.targets.built import Built, declared, declared_corpora
from mammi.weights_file import load_weights, read_weights

__all__ = ["from_file", "from_phantoms"]


def from_phantoms(name: str, weights: str | None) -> Built:
    """Build ``phantom`` or ``phantom:shortcut``."""
    if name not in ("", "shortcut") or weights:
        raise TargetError("'phantom' brings its own weights: give 'phantom' alone, or 'phantom:shortcut'")
    spec = "'phantom:shortcut'" if name else "'phantom'"
    try:
        home = import_module("mammi.phantoms.target")
        model = home.create_shortcut() if name else home.create()
    except (ModuleNotFoundError, OSError) as error:
        raise TargetError(f"{spec} is not part of this installation ({error}): give another target") from error
    return Built(model, *declared(model, None, spec), training_corpora=declared_corpora(model, None, spec))


def from_file(spec: str, weights: str | None) -> Built:
    """Build what ``path/file.py:NAME`` returns."""
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
    return Built(model, *declared(model, module, spec), notes, declared_corpora(model, module, spec))
