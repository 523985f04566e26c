"""What a method is, and the registry that the command line, the docs and the tests read."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from mammi.errors import InputError
from mammi.functional.selection import Selection
from mammi.registry import Registry

if TYPE_CHECKING:
    from mammi.functional.dissection import Areas

__all__ = [
    "METHODS",
    "Evidence",
    "LayerMethod",
    "Match",
    "Method",
    "Needs",
    "Verdict",
    "create_method",
    "list_methods",
    "wants_control",
]

#: What must be known of the films: those that any unit chose, all of them, which concepts they show (a label table),
#: or where they show them (masks or boxes).
Needs = Literal["examples", "films", "labels", "areas"]


@dataclass(frozen=True)
class Evidence:
    """All that a method may look at: the units of one layer, the films that were encoded, the concepts.

    Attributes:
        activations: float32 or float64, shape ``(n_films, n_units)``, finite: pooled activations on these films.
            Without a row where the method needs none, or asks for them in blocks.
        films: float64, shape ``(n_films, d_embed)``, rows of unit length. Without a row where the method needs none.
        concepts: float64, shape ``(n_concepts, d_embed)``, rows of unit length; several templates are averaged.
        template: float64, shape ``(d_embed,)``: the bare template at unit length; None for plain cosines.
        patients: int64, shape ``(n_films,)``: films with the same number are of one patient.
        labels: float32, shape ``(n_films, n_concepts)``: 1 present, 0 absent, NaN unknown; None without a label table.
        areas: how units and concepts overlap on the films with masks; None without masks.
        control: activations of an untrained copy of the network, ``(n_control_films, n_control_units)``, none of them
            constant; None where there is no such copy.
        control_films: int64, ``(n_control_films,)``: rows of the films that the copy was shown; None for all.
    """

    activations: Tensor
    films: Tensor
    concepts: Tensor
    template: Tensor | None
    patients: Tensor
    labels: Tensor | None = None
    areas: "Areas | None" = None
    control: Tensor | None = None
    control_films: Tensor | None = None


@dataclass(frozen=True)
class Verdict:
    """How sure a method is of the concepts it kept, one entry a unit; tensors follow the order of the kept concepts.

    Numbers that a method does not give are NaN.

    Attributes:
        effect: float64: the method's own effect size, on its own scale; negative where the unit fires when the concept
            is absent.
        q_value: float64, in [0, 1]: the false discovery rate at which the unit still has this concept.
        stability: float64, in [0, 1]: share of resamples of the patients that keep it.
        sense: int64: number of the group of examples it names; 0 for a unit with one sense.
        purity: float64, in [0, 1]: share of that group's films that are more like this concept than like the other
            sense's; 1 for a unit with one sense.
        reasons: why a unit has no concept, in words; ``""`` where it has one.
    """

    effect: list[Tensor]
    q_value: list[Tensor]
    stability: list[Tensor]
    sense: list[Tensor]
    purity: list[Tensor]
    reasons: list[str]

    @classmethod
    def only(cls, concepts: list[Tensor], reasons: list[str], effect: list[Tensor] | None = None) -> "Verdict":
        """Say why units have no concept and, if it is known, the effect; nothing else: NaN, and sense 0.

        Args:
            concepts: the kept concepts per unit.
            reasons: one a unit, ``""`` where it has a concept.
            effect: one tensor a unit in the order of its kept concepts.
        """
        unsaid = [torch.full(kept.shape, torch.nan, dtype=torch.float64) for kept in concepts]
        senses = [torch.zeros(kept.shape, dtype=torch.int64) for kept in concepts]
        return cls(effect or list(unsaid), list(unsaid), list(unsaid), senses, list(unsaid), reasons)

    @classmethod
    def only_reasons(cls, concepts: list[Tensor], reason: Callable[[int], str]) -> "Verdict":
        """Say why units have no concept, and nothing of those that have one; ``reason`` gives it for a unit."""
        return cls.only(concepts, ["" if len(kept) else reason(unit) for unit, kept in enumerate(concepts)])


@dataclass(frozen=True)
class Match:
    """What a method says of a block of units.

    Attributes:
        scores: float64, shape ``(n_units, n_concepts)``, higher is better; NaN for what has no score.
        concepts: one int64 tensor of kept concept indices per unit, best first.
        formulas: one text per unit in which ``{m}`` stands for concept ``m``, for example ``"{3} AND NOT {7}"``;
            ``""`` where the kept concepts say all. None for methods that never combine concepts.
        verdict: how sure the method is; None for methods that do not say.
    """

    scores: Tensor
    concepts: list[Tensor]
    formulas: list[str] | None = None
    verdict: Verdict | None = None


class Method(Protocol):
    """A recipe in two steps, so that only chosen films need be encoded between them.

    Implementations are frozen dataclasses: their fields are the method's options, with the published defaults.
    """

    @property
    def needs(self) -> Needs:
        """What must be known of the films."""
        ...

    @property
    def whole_layer(self) -> bool:
        """Whether what is said of a unit depends on the other units of its layer."""
        ...

    def select(self, activations: Tensor) -> Selection:
        """Choose the examples of units from their activations, ``(n_films, n_units)``."""
        ...

    def match(self, evidence: Evidence, selection: Selection) -> Match:
        """Score and keep concepts; the film indices of ``selection`` are rows of ``evidence.films``."""
        ...


@runtime_checkable
class LayerMethod(Method, Protocol):
    """A method that looks at a whole layer, but at blocks of its units in turn, so that no layer need fit in memory.

    Its `select` is given blocks of units too: what it chooses for a unit depends on that unit alone.
    """

    def match_layer(
        self, evidence: Evidence, selection: Selection, columns: Callable[[slice], Tensor]
    ) -> Iterator[Match]:
        """Score and keep concepts, block by block.

        Args:
            evidence: of the layer; its ``activations`` hold nothing.
            selection: the examples of the layer's live units; film indices are rows of ``evidence.films``.
            columns: gives the activations ``(n_films, n_units_of_the_slice)`` of a slice of those units, finite, float32
                or float64. May be asked for any slice, as often as wanted; the answer is the caller's to change.

        Yields:
            Matches of consecutive blocks of the live units, in order, all units once.
        """
        ...


METHODS: Registry[Callable[..., Method]] = Registry("Method", "mammi methods")


def wants_control(recipe: Method) -> bool:
    """Tell whether a method compares with an untrained copy of the network: whether its option ``control`` is on."""
    return bool(getattr(recipe, "control", False))


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
