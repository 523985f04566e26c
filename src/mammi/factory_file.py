"""A user's own network or vision-language model: ``path/file.py:NAME``, imported by path and called.

Running the file is the point: it is the user's own code, and it runs with the user's rights. Weights files are
another matter and never run code (see `mammi.targets.weights`).
"""

import hashlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from mammi.errors import InputError, MammiError

__all__ = ["call_factory", "is_factory_spec", "load_factory", "split_factory_spec"]

_SPEC = re.compile(r"^(?P<path>.+\.py)(?::(?P<name>[^:/\\]*))?$", re.DOTALL)


def is_factory_spec(spec: str) -> bool:
    """Return whether ``spec`` reads as ``path/file.py`` or ``path/file.py:NAME``.

    >>> is_factory_spec("nets/mine.py:create"), is_factory_spec("torchvision:resnet18")
    (True, False)
    """
    return _SPEC.match(spec) is not None


def split_factory_spec(spec: str) -> tuple[Path, str]:
    """Return the file and the name in it; the name is empty when ``spec`` gives none."""
    match = _SPEC.match(spec)
    if match is None:
        raise InputError(f"{spec!r} is not 'path/file.py:NAME'")
    return Path(match["path"]).expanduser(), match["name"] or ""


def load_factory(spec: str, *, error: type[MammiError] = InputError) -> tuple[Callable[..., Any], ModuleType]:
    """Import a user's file and return one callable of it.

    The file gets a private module name, so it can be called ``model.py`` or ``torch_net.py`` without hiding
    anything. Its own folder is on ``sys.path`` only while it is being imported; what the file itself adds stays.

    Args:
        spec: ``path/file.py:NAME``; ``NAME`` is a function or a class.
        error: the error class to raise, so that a target speaks as a target and a VLM as a VLM.

    Returns:
        The callable and the module it came from.

    Raises:
        MammiError: (as ``error``) if the file is missing, has no such name, or fails while it is imported.
    """
    path, name = split_factory_spec(spec)
    if not path.is_file():
        raise error(f"There is no file {str(path)!r}: give 'path/file.py:NAME', from the folder you are in")
    module = _import(path, error)
    offered = sorted(key for key, value in vars(module).items() if _is_own_callable(value, module))
    if not name:
        raise error(f"{str(path)!r} needs a name: '{path}:NAME'. It defines: {', '.join(offered) or 'no callable'}")
    factory = getattr(module, name, None)
    if factory is None:
        near = get_close_matches(name, offered, n=1, cutoff=0.5)
        guess = f" Did you mean {near[0]!r}?" if near else ""
        raise error(f"{str(path)!r} has no {name!r}.{guess} It defines: {', '.join(offered) or 'no callable'}")
    if not callable(factory):
        raise error(f"{name!r} in {str(path)!r} is a {type(factory).__name__}: expected a function or a class")
    return factory, module


def call_factory(factory: Callable[..., Any], spec: str, *, error: type[MammiError] = InputError) -> Any:  # noqa: ANN401
    """Call a user's factory without arguments; whatever it raises becomes one line that names the file.

    Raises:
        MammiError: (as ``error``) with the exception and the line of the user's file it came from.
    """
    path, name = split_factory_spec(spec)
    with _folder_on_path(path):
        try:
            inspect.signature(factory).bind()
        except ValueError:  # a callable without a readable signature: let the call speak
            pass
        except TypeError as cause:
            raise error(f"{name!r} in {str(path)!r} must be callable without arguments: {cause}") from cause
        try:
            return factory()
        except MammiError:
            raise
        except Exception as cause:
            raise error(f"{spec} failed: {explain(cause, path)}") from cause


def explain(cause: BaseException, path: Path) -> str:
    """Return an exception in one line, with the last line of ``path`` on its way."""
    text = " ".join(str(cause).split()) or "no message"
    lines = [f.lineno for f in traceback.extract_tb(cause.__traceback__) if Path(f.filename) == path.resolve()]
    if isinstance(cause, SyntaxError):
        lines = [cause.lineno]
    where = f" (line {lines[-1]} of {path.name})" if lines and lines[-1] else ""
    return f"{type(cause).__name__}: {text[:400]}{where}"


def _import(path: Path, error: type[MammiError]) -> ModuleType:
    """Execute ``path`` as a module whose name no other file can have."""
    resolved = path.resolve()
    digest = hashlib.sha256(str(resolved).encode()).hexdigest()[:12]
    name = f"_mammi_user_{digest}_{re.sub(r'[^0-9A-Za-z_]', '_', path.stem)}"
    spec = importlib.util.spec_from_file_location(name, resolved)
    if spec is None or spec.loader is None:
        raise error(f"{str(path)!r} cannot be imported as Python")
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module  # dataclasses and typing look their own module up while it is executed
    try:
        with _folder_on_path(path):
            spec.loader.exec_module(module)
    except Exception as cause:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
        raise error(f"{str(path)!r} failed while it was imported: {explain(cause, path)}") from cause
    return module


@contextmanager
def _folder_on_path(path: Path) -> Iterator[None]:
    """Let the file import its neighbours, then take our entry (and only ours) off ``sys.path``."""
    folder = str(path.resolve().parent)
    known = folder in sys.path
    if not known:
        sys.path.insert(0, folder)
    try:
        yield
    finally:
        # A file that puts its own folder there leaves two entries; one of them stays.
        if not known and folder in sys.path:
            sys.path.remove(folder)


def _is_own_callable(value: object, module: ModuleType) -> bool:
    return callable(value) and getattr(value, "__module__", None) == module.__name__
