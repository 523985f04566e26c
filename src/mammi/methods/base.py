"""What a method is, and the registry that the command line, the docs and the tests read."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any, Protocol

from torch import Tensor

from mammi.errors import InputError
from mammi.functional.selection import Selection
from mammi.registry import Registry

__all__ = ["METHODS", "Match", "Method", "create_method", "list_methods", "method_options"]


@dataclass(frozen=True)
class Match:
    """What a method says of a block of units.

    Attributes:
        scores: float64, shape ``(n_units, n_concepts)``; NaN rows for units without an example.
        concepts: one int64 tensor of kept concept indices per unit, best first.
    """

    scores: Tensor
    concepts: list[Tensor]


class Method(Protocol):
    """A recipe in two steps, so that only chosen images need be encoded between them.

    Implementations are frozen dataclasses: their fields are the method's options, with the published defaults.
    """

    def select(self, activations: Tensor) -> Selection:
        """Choose the examples of units from their activations, ``(n_images, n_units)``."""
        ...

    def match(self, selection: Selection, images: Tensor, concepts: Tensor, template: Tensor | None = None) -> Match:
        """Score and keep concepts from rows of unit length: images, concepts, and the bare template if one is used."""
        ...


METHODS: Registry[Callable[..., Method]] = Registry("Method", "mammi methods")


def method_options(name: str) -> dict[str, Any]:
    """Return the options of a method with their defaults, in order."""
    return {field.name: field.default for field in fields(METHODS.get(name).make)}  # type: ignore[arg-type]


def create_method(name: str, **options: Any) -> Method:  # noqa: ANN401 - each method has options of its own
    """Build a method by name.

    Args:
        name: one of :func:`list_methods`.
        **options: the method's own options; what is left out has its published value.

    Raises:
        UnknownNameError: if there is no such method.
        InputError: if an option is unknown or its value is out of range.
    """
    entry = METHODS.get(name)
    known = method_options(name)
    for option in options:
        if option not in known:
            near = get_close_matches(option, known, n=1, cutoff=0.5)
            guess = f" Did you mean {near[0]!r}?" if near else ""
            raise InputError(f"Method {name!r} has no option {option!r}.{guess} It has: {', '.join(known)}.")
    return entry.make(**options)


def list_methods() -> list[tuple[str, str]]:
    """Return every method as (name, one sentence)."""
    return [(entry.name, entry.summary) for entry in METHODS]
