"""A user's own vision-language model: ``path/file.py:NAME`` returns an object with the three methods of `Vlm`."""

from mammi.errors import VlmError
from mammi.factory_file import call_factory, load_factory, split_factory_spec
from mammi.functional.fingerprint import fingerprint_file, fingerprint_module, fingerprint_value
from mammi.types import Vlm, VlmCard
from mammi.vlms.annotator import Annotator, settle

__all__ = ["annotator_of", "load_file_vlm", "require_protocol"]

_METHODS = ("preprocess", "encode_images", "encode_texts")


def require_protocol(model: object, source: str) -> Vlm:
    """Return ``model`` if it has the methods of `Vlm`.

    Raises:
        VlmError: naming the methods it lacks.
    """
    missing = [name for name in _METHODS if not callable(getattr(model, name, None))]
    if missing:
        raise VlmError(
            f"{source} gave a {type(model).__name__} without {' and '.join(f'{name}()' for name in missing)}: "
            f"a vision-language model needs {', '.join(f'{name}()' for name in _METHODS)}"
        )
    return model  # type: ignore[return-value]


def annotator_of(model: object, name: str, device: str, card: VlmCard, content: list[str]) -> Annotator:
    """Wrap a ready object; its fingerprint is of ``content`` and of the networks it is, or holds.

    Raises:
        VlmError: if it lacks a method, or cannot run on ``device``.
    """
    vlm = require_protocol(model, name)
    modules = settle(model)
    notes = []
    if not modules:
        notes.append(f"{name} is no torch.nn.Module and holds none: a change of its weights cannot be seen")
    try:
        for module in modules:
            module.to(device)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise VlmError(f"{name} cannot run on {device!r} ({str(error)[:200]}): try device='cpu'") from error
    fingerprint = fingerprint_value([*content, *map(fingerprint_module, modules)])
    return Annotator(name, vlm, card, fingerprint, device, notes=notes)


def load_file_vlm(spec: str, device: str, card: VlmCard) -> Annotator:
    """Run a user's factory and wrap what it returns; a ``card`` of its own (a `VlmCard`) is used.

    Raises:
        VlmError: naming the file, if it cannot be imported, fails, or returns something else.
    """
    factory, module = load_factory(spec, error=VlmError)
    model = call_factory(factory, spec, error=VlmError)
    own = getattr(model, "card", None) or getattr(module, "card", None)
    path, _ = split_factory_spec(spec)
    return annotator_of(model, spec, device, own if isinstance(own, VlmCard) else card, [fingerprint_file(path)])
