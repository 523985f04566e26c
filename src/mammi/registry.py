"""Named entries that the command line, the docs and the tests all read from one place.

A registry refuses duplicates, suggests near names, and remembers what an entry needs that is not installed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Generic, TypeVar

from mammi.errors import InputError, MissingExtraError, UnknownNameError

__all__ = ["Entry", "Registry", "import_extra"]

T = TypeVar("T", bound=Callable[..., Any])


def import_extra(module: str, extra: str) -> ModuleType:
    """Import an optional dependency, or say which line installs it.

    Args:
        module: dotted module name, for example ``"pydicom"``.
        extra: the extra of this package that brings it, for example ``"dicom"``.

    Raises:
        MissingExtraError: if the module is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise MissingExtraError(f"{module!r} is not installed: pip install 'mammi[{extra}]'") from error


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One registered thing: what to call, a sentence about it, and the modules it needs."""

    name: str
    make: T
    summary: str
    needs: tuple[str, ...] = ()
    extra: str = ""

    @property
    def missing(self) -> tuple[str, ...]:
        """The needed modules that are not installed."""
        return tuple(module for module in self.needs if find_spec(module) is None)


class Registry(Generic[T]):
    """An ordered set of entries of one kind.

    Args:
        kind: what the entries are, for messages, for example ``"Method"``.
        command: the command that lists them, for messages.
    """

    def __init__(self, kind: str, command: str) -> None:
        self.kind = kind
        self.command = command
        self._entries: dict[str, Entry[T]] = {}

    def register(self, name: str, summary: str, *, needs: tuple[str, ...] = (), extra: str = "") -> Callable[[T], T]:
        """Return a decorator that adds its function under ``name``; a name can be taken once."""

        def add(make: T) -> T:
            if name in self._entries:
                raise InputError(f"{self.kind} {name!r} is registered already, by {self._entries[name].make!r}")
            self._entries[name] = Entry(name, make, summary, needs, extra)
            return make

        return add

    def __iter__(self) -> Iterator[Entry[T]]:
        return iter(self._entries.values())

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def names(self) -> list[str]:
        """Return every name, in order of registration."""
        return list(self._entries)

    def get(self, name: str) -> Entry[T]:
        """Return the entry ``name``.

        Raises:
            UnknownNameError: if there is none; the message suggests the nearest.
            MissingExtraError: if the entry needs a module that is not installed.
        """
        if name not in self._entries:
            raise UnknownNameError.among(
                self.kind, name, self._entries, f"Known: {', '.join(self._entries)} ({self.command} lists them)."
            )
        entry = self._entries[name]
        if entry.missing:
            missing = ", ".join(entry.missing)
            raise MissingExtraError(f"{self.kind} {name!r} needs {missing}: pip install 'mammi[{entry.extra}]'")
        return entry
