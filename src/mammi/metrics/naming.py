"""Whether units whose truth is known, such as a network's outputs, got the right name, or one near to it."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mammi.errors import InputError

__all__ = ["NamingAccuracy"]

#: How a name may stand to a truth, the closest first, and the unit without a name.
_GRADES = ("same", "synonym", "broader", "narrower", "related", "other", "no concept")


@dataclass
class NamingAccuracy:
    """Share of units whose truth is named first, or at all among the kept concepts.

    A unit without a concept counts as named wrong: coverage is part of the score. Near names are never counted as right
    ones: with ``relate`` they are reported beside them, one share for each way to stand to the truth.

    Attributes:
        names: tells whether a concept names a truth, for example by a table of synonyms (``Ontology.names``).
        relate: says how a concept stands to a truth (``Ontology.relate``): ``same``, ``synonym``, ``broader``,
            ``narrower``, ``related`` or ``other``.
        similarity: how near a concept is to a truth, in [0, 1] (``Ontology.similarity``).
        first: one entry a unit: whether its first concept names the truth.
        kept: one entry a unit: whether any kept concept does.
        grades: one entry a unit, if ``relate`` is given: how its first concept stands to the truth, or ``no concept``.
        near: one entry a unit, if ``similarity`` is given: that of its first concept; 0 without one.

    Example:
        >>> accuracy = NamingAccuracy(lambda truth, concept: truth in concept)
        >>> accuracy.update("effusion", ["pleural effusion", "fluid"])
        >>> accuracy.update("mass", ["nodule", "mass"])
        >>> accuracy.update("hernia", [])
        >>> accuracy.compute()
        {'units': 3, 'first': 0.3333333333333333, 'kept': 0.6666666666666666}
    """

    names: Callable[[str, str], bool]
    first: list[bool] = field(default_factory=list)
    kept: list[bool] = field(default_factory=list)
    relate: Callable[[str, str], str] | None = field(default=None, kw_only=True)
    similarity: Callable[[str, str], float] | None = field(default=None, kw_only=True)
    grades: list[str] = field(default_factory=list, kw_only=True)
    near: list[float] = field(default_factory=list, kw_only=True)

    def update(self, truth: str, concepts: Sequence[str]) -> None:
        """Add one unit: what it is known to stand for, and its kept concepts, best first.

        Raises:
            InputError: if ``relate`` answers with another word than those above.
        """
        right = [self.names(truth, concept) for concept in concepts]
        if self.relate is not None:
            grade = self.relate(truth, concepts[0]) if concepts else "no concept"
            if grade not in _GRADES:
                raise InputError(f"relate says {grade!r} of {truth!r}, expected one of {', '.join(_GRADES[:-1])}")
            self.grades.append(grade)
        if self.similarity is not None:
            self.near.append(self.similarity(truth, concepts[0]) if concepts else 0.0)
        self.first.append(bool(right) and right[0])
        self.kept.append(any(right))

    def merge(self, other: "NamingAccuracy") -> None:
        """Add the units of another, as when several processes each counted their own.

        Raises:
            InputError: if only one of the two was graded.
        """
        for graded in ("relate", "similarity"):
            if (getattr(self, graded) is None) != (getattr(other, graded) is None):
                raise InputError(f"units judged with {graded!r} cannot be merged with units judged without it")
        self.first += other.first
        self.kept += other.kept
        self.grades += other.grades
        self.near += other.near

    def compute(self) -> dict[str, float]:
        """Return the number of units, and the shares named right first and at all; NaN without a unit.

        With ``relate`` also ``first: same`` to ``first: no concept``, which add up to 1; with ``similarity`` also
        ``first: similarity``, the mean over all units.
        """
        n_units = len(self.first)
        found = {"units": n_units, "first": _share(sum(self.first), n_units), "kept": _share(sum(self.kept), n_units)}
        if self.relate is not None:
            counts = Counter(self.grades)
            found |= {f"first: {grade}": _share(counts[grade], n_units) for grade in _GRADES}
        if self.similarity is not None:
            found["first: similarity"] = _share(sum(self.near), n_units)
        return found


def _share(part: float, whole: int) -> float:
    return part / whole if whole else float("nan")
