"""Units made to respond to something known: one finding, a rare one, a side, two at once, an absence, or nothing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mammi.errors import InputError

__all__ = ["KINDS", "MEANINGLESS", "Label", "Planted", "plant"]

#: Kinds that have a concept, in the order of tables, and what each is.
KINDS: dict[str, str] = {
    "single": "fires for one finding",
    "device": "fires for one device, or the side marker",
    "rare": "fires for one finding that a few films in thousands show",
    "side": "fires for one finding on one side",
    "and": "fires where two findings meet",
    "or": "fires for either of two findings",
    "and-not": "fires for one finding unless another is there",
    "negative": "fires when a finding is absent",
    "polysemantic": "fires for one finding, and more weakly for an unlike one",
    "weak 0.5": "one finding, noise of half its strength",
    "weak 1": "one finding, noise of its strength",
    "weak 2": "one finding, noise of twice its strength",
}
#: Kinds that mean nothing: every name is false.
MEANINGLESS: dict[str, str] = {
    "dead": "always 0",
    "constant": "always the same value, not 0",
    "noise": "Gaussian noise",
    "noise, heavy tails": "squares of exponential noise: a few films stand far out",
    "noise by patient": "the same for all films of a patient, and a little noise",
}
#: Units per combination (and, or, ...) and per kind of noise.
PAIRS, NOISES = 16, 20
#: Films that a combination must have at least.
LEAST = 6


@dataclass(frozen=True)
class Label:
    """What is known of the films about one finding.

    Attributes:
        name: the finding.
        present: bool, ``(n_films,)``.
        concepts: rows of the concept set that name it.
        device: whether it is a device or a marker rather than a finding.
        rare: whether it was made rare.
        sides: for findings with a side: side to (present there, concepts that name finding and side).
    """

    name: str
    present: NDArray[np.bool_]
    concepts: frozenset[int]
    device: bool = False
    rare: bool = False
    sides: tuple[tuple[str, NDArray[np.bool_], frozenset[int]], ...] = ()

    @property
    def is_usable(self) -> bool:
        """Whether a concept names it and it tells films apart."""
        return bool(self.concepts) and bool(self.present.any()) and not bool(self.present.all())


@dataclass(frozen=True)
class Planted:
    """One unit and the truth about it.

    Attributes:
        kind: a key of ``KINDS`` or ``MEANINGLESS``, or the name of a real layer; ``""`` where nothing is known.
        activation: float64, ``(n_films,)``.
        truths: rows of the concept set, any of which names it right; empty for a unit that means nothing.
        absent: whether it fires when those are absent; a name is right only if it says so.
        says: what it was made to do, in words.
        index: of a unit of a real layer, its place there; -1 for one that was made.
    """

    kind: str
    activation: NDArray[np.float64]
    truths: frozenset[int]
    absent: bool = False
    says: str = ""
    index: int = -1


def plant(labels: Sequence[Label], patients: NDArray[np.int64], seed: int) -> list[Planted]:
    """Make units of every kind that the labels allow.

    A unit that fires does so with a strength drawn anew for every film from [0.6, 1.4], over Gaussian noise of standard
    deviation 0.25 (unless its kind says otherwise). Labels that no concept names, or that tell no film apart, are left
    out.

    Args:
        labels: what is known of the films.
        patients: number of each film's patient, ``(n_films,)``.
        seed: of strengths, noise and pairs.

    Raises:
        InputError: if the lengths of the labels differ, or none of them can be used.
    """
    n_films = len(patients)
    if any(len(label.present) != n_films for label in labels):
        raise InputError(f"labels must have one entry a film, {n_films}")
    labels = [label for label in labels if label.is_usable]
    if not labels:
        raise InputError(
            "no label to plant units from: labels must be named by a concept, and be on some films and not on others"
        )
    rng = np.random.default_rng([seed, 77])

    def fire(present: NDArray[np.bool_], noise: float = 0.25) -> NDArray[np.float64]:
        strength: NDArray[np.float64] = rng.uniform(0.6, 1.4, n_films) * present
        return strength + noise * rng.standard_normal(n_films)

    units: list[Planted] = []
    for label in labels:
        kind = "rare" if label.rare else "device" if label.device else "single"
        units.append(Planted(kind, fire(label.present), label.concepts, says=label.name))
        units += [
            Planted("side", fire(there), named, says=f"{side} {label.name}")
            for side, there, named in label.sides
            if named and there.any() and not label.rare
        ]
    common = [label for label in labels if not label.rare]
    for label in common:
        units.append(Planted("negative", fire(~label.present), label.concepts, True, f"not {label.name}"))
        for noise in (0.5, 1, 2):
            units.append(Planted(f"weak {noise}", fire(label.present, noise), label.concepts, says=label.name))
    for one, other in _pairs(common, rng):
        a, b = one.present, other.present
        either = one.concepts | other.concepts
        units += [
            Planted("and", fire(a & b), either, says=f"{one.name} and {other.name}"),
            Planted("or", fire(a | b), either, says=f"{one.name} or {other.name}"),
            Planted("and-not", fire(a & ~b), one.concepts, says=f"{one.name} and not {other.name}"),
            Planted(
                "polysemantic", np.maximum(fire(a), 0.8 * fire(b)), either, says=f"{one.name}; weaker {other.name}"
            ),
        ]
    return units + list(_nothing(patients, rng))


def _pairs(labels: Sequence[Label], rng: np.random.Generator) -> list[tuple[Label, Label]]:
    """Draw ordered pairs of unlike labels that meet on some films, none twice."""
    able = [
        (one, other)
        for one in labels
        for other in labels
        if one is not other
        and not one.concepts & other.concepts
        and (one.present & other.present).sum() >= LEAST
        and (one.present & ~other.present).sum() >= LEAST
    ]
    return [able[place] for place in rng.permutation(len(able))[:PAIRS]]


def _nothing(patients: NDArray[np.int64], rng: np.random.Generator) -> Iterator[Planted]:
    n_films = len(patients)
    numbers = np.unique(patients, return_inverse=True)[1]
    nobody: frozenset[int] = frozenset()
    for _ in range(NOISES):
        yield Planted("dead", np.zeros(n_films), nobody)
        yield Planted("constant", np.full(n_films, rng.uniform(0.1, 5)), nobody)
        yield Planted("noise", rng.standard_normal(n_films), nobody)
        yield Planted("noise, heavy tails", rng.exponential(size=n_films) ** 2, nobody)
        own = rng.standard_normal(int(numbers.max()) + 1)[numbers]
        yield Planted("noise by patient", own + 0.3 * rng.standard_normal(n_films), nobody)
