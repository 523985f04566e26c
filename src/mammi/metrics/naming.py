"""Whether units whose truth is known, such as a network's outputs, got the right name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

__all__ = ["NamingAccuracy"]


@dataclass
class NamingAccuracy:
    """Share of units whose truth is named first, or at all among the kept concepts.

    A unit without a concept counts as named wrong: coverage is part of the score.

    Attributes:
        names: tells whether a concept names a truth, for example by a table of synonyms.
        first: one entry a unit: whether its first concept names the truth.
        kept: one entry a unit: whether any kept concept does.

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

    def update(self, truth: str, concepts: Sequence[str]) -> None:
        """Add one unit: what it is known to stand for, and its kept concepts, best first."""
        right = [self.names(truth, concept) for concept in concepts]
        self.first.append(bool(right) and right[0])
        self.kept.append(any(right))

    def merge(self, other: "NamingAccuracy") -> None:
        """Add the units of another, as when several processes each counted their own."""
        self.first += other.first
        self.kept += other.kept

    def compute(self) -> dict[str, float]:
        """Return the number of units, and the shares named right first and at all; NaN without a unit."""
        n_units = len(self.first)
        share = [sum(hits) / n_units if n_units else float("nan") for hits in (self.first, self.kept)]
        return {"units": n_units, "first": share[0], "kept": share[1]}
