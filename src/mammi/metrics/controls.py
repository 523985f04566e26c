"""What a method must beat: its own names dealt out by chance, and one name for all units.

Every control is judged by the same function as the method itself, so that the rows of a table can be compared. The
fourth control, a network that has learned nothing, is `mammi.targets.randomised`: annotate it like the real one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mammi.errors import InputError

__all__ = ["ControlRow", "Names", "constant_label", "control_table", "frequency_matched", "shuffled_concepts"]

#: The kept concepts of each unit, best first; empty without a name.
Names = list[list[str]]
#: Judges the names of all units: one number or more, higher is better.
Judge = Callable[[Names], dict[str, float]]


@dataclass(frozen=True)
class ControlRow:
    """One row of a table of controls.

    Attributes:
        name: ``"method"``, ``"shuffled concepts"``, ``"constant label"`` or ``"frequency-matched"``.
        values: the judge's numbers; the mean over draws for a control by chance.
        spread: population standard deviation over draws of each; 0 without draws.
        detail: what was done, in words.
    """

    name: str
    values: dict[str, float]
    spread: dict[str, float]
    detail: str


def shuffled_concepts(names: Sequence[Sequence[str]], concepts: Sequence[str], seed: int) -> Names:
    """Give every concept embedding the name of a random one: how units are grouped stays, what they are called goes.

    Methods treat concepts alike, so that renaming the embeddings is renaming the answer.

    Args:
        names: the kept concepts of each unit.
        concepts: the concept set, each name once.
        seed: of the permutation.

    Raises:
        InputError: if a name is not in the concept set, or a concept is there twice.
    """
    place = {concept: i for i, concept in enumerate(concepts)}
    if len(place) != len(concepts):
        raise InputError(f"the concept set holds {len(concepts) - len(place)} names twice")
    strange = next((name for unit in names for name in unit if name not in place), None)
    if strange is not None:
        raise InputError(f"the name {strange!r} is not among the {len(concepts)} concepts")
    order = np.random.default_rng(seed).permutation(len(concepts))
    return [[concepts[order[place[name]]] for name in unit] for unit in names]


def frequency_matched(names: Sequence[Sequence[str]], seed: int) -> Names:
    """Give every unit the names of a unit drawn at random, with replacement.

    Keeps how often each label, each number of labels and "no concept" occur, and nothing of which unit has them.

    Args:
        names: the kept concepts of each unit.
        seed: of the draw.
    """
    if not names:
        return []
    return [list(names[i]) for i in np.random.default_rng(seed).integers(len(names), size=len(names))]


def constant_label(concepts: Sequence[str], n_units: int, judge: Judge, by: str) -> str:
    """Return the one name that, given to every unit, does best; the first of equals.

    Args:
        concepts: the candidates.
        n_units: how many units.
        judge: judges names.
        by: the judge's number to be as high as possible.

    Raises:
        InputError: if there is no candidate, or the judge gives no such number.
    """
    if not concepts:
        raise InputError("'concepts' holds no candidate for a constant label")
    scores = [_number(judge([[concept]] * n_units), by) for concept in concepts]
    return concepts[int(np.argmax(np.nan_to_num(scores, nan=-np.inf)))]


def control_table(
    names: Sequence[Sequence[str]],
    concepts: Sequence[str],
    judge: Judge,
    by: str,
    *,
    seed: int,
    draws: int = 100,
) -> list[ControlRow]:
    """Judge a method and its three controls.

    Args:
        names: the method's kept concepts of each unit, best first.
        concepts: the concept set.
        judge: judges names; called once per concept and twice per draw.
        by: the number by which the constant label is chosen: chosen with the truth in hand, it is the hardest
            constant to beat.
        seed: of the draws.
        draws: how many shuffles and how many random labels, at least 1.

    Returns:
        Rows in the order of `ControlRow.name`.

    Raises:
        InputError: if an argument is wrong or the judge gives no number ``by``.

    Example:
        >>> truth = ["mass", "effusion", "mass"]
        >>> judge = lambda names: {"right": sum(n[:1] == [t] for n, t in zip(names, truth)) / 3}
        >>> rows = control_table([["mass"], ["effusion"], []], ["effusion", "mass"], judge, "right", seed=0)
        >>> [(row.name, round(row.values["right"], 1), row.detail) for row in rows[::2]]
        [('method', 0.7, ''), ('constant label', 0.7, "'mass' for every unit")]
    """
    if draws < 1:
        raise InputError(f"'draws' must be at least 1, got {draws}")
    own = [list(unit) for unit in names]
    values = judge(own)
    _number(values, by)
    label = constant_label(concepts, len(own), judge, by)
    seeds = [int(s) for s in np.random.SeedSequence(seed).generate_state(draws)]
    return [
        ControlRow("method", values, dict.fromkeys(values, 0.0), ""),
        _drawn("shuffled concepts", [judge(shuffled_concepts(own, concepts, s)) for s in seeds]),
        ControlRow(
            "constant label",
            constant := judge([[label]] * len(own)),
            dict.fromkeys(constant, 0.0),
            f"{label!r} for every unit",
        ),
        _drawn("frequency-matched", [judge(frequency_matched(own, s)) for s in seeds]),
    ]


def _drawn(name: str, found: list[dict[str, float]]) -> ControlRow:
    tables = {key: np.array([values[key] for values in found]) for key in found[0]}
    return ControlRow(
        name,
        {key: float(table.mean()) for key, table in tables.items()},
        {key: float(table.std()) for key, table in tables.items()},
        f"mean of {len(found)} draws",
    )


def _number(values: dict[str, float], by: str) -> float:
    if by not in values:
        raise InputError(f"the judge gives no number {by!r}: it gives {', '.join(values)}")
    return values[by]
