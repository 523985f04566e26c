"""Where the truth stands among the concepts, what "no concept" and a confidence are worth, and which concepts are hubs.

Units are counted one by one, those without a name included: an average over named units only rewards silence.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mammi.errors import InputError
from mammi.functional.truth_ranks import risk_coverage, skewness, truth_ranks

__all__ = ["Abstention", "Hubness", "TruthRanking"]


@dataclass
class TruthRanking:
    """Rank of the truth in the scores of units whose truth is known.

    Attributes:
        ranks: one entry a unit, from 1; infinite where no truth has a score.

    Example:
        >>> ranking = TruthRanking()
        >>> ranking.update(torch.tensor([[0.9, 0.1, 0.2], [0.9, 0.1, 0.2]]), [{0}, {1, 2}])
        >>> ranking.compute()
        {'units': 2, 'hit@1': 0.5, 'hit@5': 1.0, 'median rank': 1.5, 'mean reciprocal rank': 0.75}
    """

    ranks: list[float] = field(default_factory=list)

    def update(self, scores: Tensor, truths: Sequence[Collection[int]]) -> None:
        """Add units: their scores ``(n_units, n_concepts)`` and, for each, the concepts that would be right."""
        self.ranks += truth_ranks(scores, truths).tolist()

    def merge(self, other: "TruthRanking") -> None:
        """Add the units of another."""
        self.ranks += other.ranks

    def compute(self, at: Sequence[int] = (1, 5)) -> dict[str, float]:
        """Return the share of units whose truth is among the first k for each k of ``at``, median and mean reciprocal.

        A truth without a score is no hit, and counts 0 in the mean and infinite in the median. NaN without a unit.
        """
        ranks = torch.tensor(self.ranks, dtype=torch.float64)
        hits = {f"hit@{k}": float((ranks <= k).double().mean()) for k in at}
        middle = ranks.sort().values[[(len(ranks) - 1) // 2, len(ranks) // 2]].mean() if len(ranks) else torch.nan
        return {
            "units": len(ranks),
            **hits,
            "median rank": float(middle),
            "mean reciprocal rank": float((1 / ranks).mean()),
        }


@dataclass
class Abstention:
    """Whether a method is silent where it should be, and sure where it is right.

    A unit that means nothing is right when it is given no name. Forced to speak, an unnamed unit would be wrong: on
    the risk-coverage curve it comes last, as an error.

    Attributes:
        named: one entry a unit: whether it was given a name.
        right: one entry a unit: whether its name is right; False without a name.
        meaningful: one entry a unit: False for a unit known to mean nothing.
        confidence: one entry a unit, higher is surer; NaN without a name.

    Example:
        >>> judge = Abstention()
        >>> judge.update(named=True, right=True, confidence=0.9)
        >>> judge.update(named=True, right=False, confidence=0.2, meaningful=False)
        >>> judge.update(named=False)
        >>> {name: round(value, 3) for name, value in judge.compute().items()}
        {'units': 3, 'coverage': 0.5, 'selective accuracy': 1.0, 'false-name rate': 1.0, 'aurc': 0.389}
    """

    named: list[bool] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)
    meaningful: list[bool] = field(default_factory=list)
    confidence: list[float] = field(default_factory=list)

    def update(
        self, *, named: bool, right: bool = False, confidence: float = float("nan"), meaningful: bool = True
    ) -> None:
        """Add one unit.

        Raises:
            InputError: if a unit without a name, or one that means nothing, is said to be named right.
        """
        if right and not (named and meaningful):
            raise InputError("a name can only be right on a unit that has one and that means something")
        self.named.append(named)
        self.right.append(right)
        self.meaningful.append(meaningful)
        self.confidence.append(confidence if named else float("nan"))

    def merge(self, other: "Abstention") -> None:
        """Add the units of another."""
        self.named += other.named
        self.right += other.right
        self.meaningful += other.meaningful
        self.confidence += other.confidence

    def curve(self) -> tuple[Tensor, Tensor]:
        """Return coverage and risk over all units, surest first; see `risk_coverage`."""
        return risk_coverage(torch.tensor(self.confidence, dtype=torch.float64), torch.tensor(self.right))

    def compute(self) -> dict[str, float]:
        """Return the numbers; NaN where there is no unit to count.

        ``coverage``: share of units with a meaning that have a name. ``selective accuracy``: share of their names that
        are right; never quote it without the coverage. ``false-name rate``: share of units without a meaning that have
        a name. ``aurc``: area under the risk-coverage curve, over all units.
        """
        named, right, meaningful = (
            torch.tensor(v, dtype=torch.bool) for v in (self.named, self.right, self.meaningful)
        )
        return {
            "units": len(named),
            "coverage": _share(named[meaningful]),
            "selective accuracy": _share(right[named & meaningful]),
            "false-name rate": _share(named[~meaningful]),
            "aurc": float(self.curve()[1].mean()) if len(named) else float("nan"),
        }


@dataclass
class Hubness:
    """Whether a few concepts name most units.

    Attributes:
        n_concepts: size of the concept set.
        first: names of a unit that count, best first.
        kept: one entry a unit: its first names, as concept indices; empty without a name.

    Example:
        >>> hubs = Hubness(4)
        >>> hubs.update([[2, 0], [2], [1], []])
        >>> {name: round(value, 3) for name, value in hubs.compute().items()}
        {'units': 4, 'named': 3, 'top-1 share': 0.667, 'top-5 share': 1.0, 'skewness': 0.493}
    """

    n_concepts: int
    first: int = 1
    kept: list[set[int]] = field(default_factory=list)

    def update(self, concepts: Sequence[Sequence[int]]) -> None:
        """Add units: the kept concept indices of each, best first.

        Raises:
            InputError: if an index is no concept.
        """
        firsts = [set(names[: self.first]) for names in concepts]
        wrong = {m for names in firsts for m in names if not 0 <= m < self.n_concepts}
        if wrong:
            raise InputError(f"concept {min(wrong)} is outside the {self.n_concepts} concepts")
        self.kept += firsts

    def merge(self, other: "Hubness") -> None:
        """Add the units of another over the same concepts.

        Raises:
            InputError: if the other counts otherwise.
        """
        if (self.n_concepts, self.first) != (other.n_concepts, other.first):
            raise InputError(
                f"the first {self.first} of {self.n_concepts} concepts cannot be merged with the first {other.first} "
                f"of {other.n_concepts}"
            )
        self.kept += other.kept

    def counts(self) -> Tensor:
        """Return N_k: how many units have each concept among their first names, int64 ``(n_concepts,)``."""
        names = [m for unit in self.kept for m in unit]
        return torch.bincount(torch.tensor(names, dtype=torch.int64), minlength=self.n_concepts)

    def compute(self) -> dict[str, float]:
        """Return the share of named units that the most frequent and the five most frequent concepts take, and skew.

        The skewness is that of N_k over all concepts, those that name nothing included.
        """
        counts = self.counts()
        order = counts.argsort(descending=True, stable=True).tolist()
        named = [unit for unit in self.kept if unit]
        taken = [_share(torch.tensor([bool(unit & set(order[:k])) for unit in named])) for k in (1, 5)]
        return {
            "units": len(self.kept),
            "named": len(named),
            "top-1 share": taken[0],
            "top-5 share": taken[1],
            "skewness": skewness(counts),
        }


def _share(hits: Tensor) -> float:
    return float(hits.double().mean()) if len(hits) else float("nan")
