"""Logical formulas of concepts that tell a unit's strong films from its weak ones (INVERT), by beam search."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mammi.functional.auroc import auroc, midranks, tie_bounds

__all__ = ["Formula", "Term", "evaluate", "search_formulas"]

#: Numbers held at once by one block of units: bounds memory, not results.
BLOCK = 2**22


@dataclass(frozen=True)
class Term:
    """A concept or its negation, and how it joins what stands before it (the first term's operator says nothing)."""

    operator: Literal["AND", "OR"]
    concept: int
    negated: bool

    def __str__(self) -> str:
        """Return ``{m}`` or ``NOT {m}``."""
        return f"NOT {{{self.concept}}}" if self.negated else f"{{{self.concept}}}"


@dataclass(frozen=True)
class Formula:
    """Terms joined from left to right, with what was measured on the films where the formula is known.

    Attributes:
        terms: at least one.
        auc: probability that a film that fulfils it excites the unit more than one that does not.
        n_present: number of films that fulfil it.
        n_absent: number of films that do not.
    """

    terms: tuple[Term, ...]
    auc: float
    n_present: int
    n_absent: int

    def __str__(self) -> str:
        """Return the text, such as ``({3} OR {5}) AND NOT {7}``; parentheses where the operator changes."""
        text = str(self.terms[0])
        for place, term in enumerate(self.terms[1:], start=1):
            if place > 1 and term.operator != self.terms[place - 1].operator:
                text = f"({text})"
            text = f"{text} {term.operator} {term}"
        return text


def evaluate(terms: tuple[Term, ...], labels: Tensor) -> tuple[Tensor, Tensor]:
    """Tell on which films a formula is known to hold, and on which it is known not to.

    Three-valued logic (Kleene): "a and b" is absent as soon as one of them is, whatever the other; "a or b" is present
    as soon as one is; what cannot be told is unknown.

    Args:
        terms: the formula, read from left to right.
        labels: shape ``(n_films, n_concepts)``: 1 present, 0 absent, NaN unknown.

    Returns:
        Two boolean tensors ``(n_films,)``: holds, does not hold. Films with neither are unknown.
    """
    present, absent = _atom(terms[0], labels)
    for term in terms[1:]:
        present, absent = _join(term.operator, (present, absent), _atom(term, labels))
    return present, absent


def search_formulas(
    activations: Tensor,
    labels: Tensor,
    length: int = 3,
    beam: int = 3,
    min_fraction: float = 0.0,
    max_fraction: float = 0.5,
    limit_search: int | None = None,
) -> list[Formula | None]:
    """Find for each unit the formula of at most ``length`` concepts or negations with the highest AUC.

    Beam search (Bykov et al., INVERT, NeurIPS 2023): the best formulas so far are joined with every concept and every
    negation by AND and by OR, and the best ``beam`` of old and new go on. What is returned is what was scored.

    Args:
        activations: shape ``(n_films, n_units)``, floating, finite.
        labels: shape ``(n_films, n_concepts)``, floating: 1 present, 0 absent, NaN unknown. Films where a formula is
            unknown are left out of its pairs and of its fraction.
        length: most terms, at least 1.
        beam: formulas that go on, at least 1.
        min_fraction: a formula holds on at least this share of its known films.
        max_fraction: and on at most this share.
        limit_search: join only with this many concepts (and their negations), those with the largest ``|2 AUC - 1|``;
            None for all.

    Returns:
        One formula per unit; None where none lies between the fractions. Of formulas that score the same, the shorter,
        then the one found first (AND before OR, a concept before its negation, lower index first); formulas that hold
        on the same films count once.

    Raises:
        InputError: if the numbers of films differ.

    Notes:
        With labels known on all films, every extension of every unit is two matrix products. With unknown labels each
        formula has films of its own and is counted by itself, ten times slower or more.
    """
    scores = auroc(activations, labels)
    atoms = (~scores.isnan().all(dim=0)).nonzero().flatten() if len(scores) else torch.empty(0, dtype=torch.int64)
    table = _Table(labels[:, atoms], atoms.tolist(), min_fraction, max_fraction)
    found: list[Formula | None] = []
    size = max(1, BLOCK // (beam * max(len(labels), 4 * len(atoms), 1)))
    for start in range(0, len(scores), size):
        units = slice(start, start + size)
        wins = table.wins(scores[units][:, atoms])
        strength = (2 * wins - table.pairs).abs() / table.pairs
        n_joined = len(atoms) if limit_search is None else min(limit_search, len(atoms))
        joined = torch.zeros(strength.shape, dtype=torch.bool)
        joined.scatter_(1, strength.argsort(dim=1, descending=True, stable=True)[:, :n_joined], value=True)
        beams = table.first(wins, beam)
        for _ in range(1, length):
            beams = table.extend(activations[:, units], beams, joined, beam)
        found += [nodes[0].formula if nodes else None for nodes in beams]
    return found


@dataclass(frozen=True)
class _Node:
    """A formula in the beam, with the films on which it holds and does not."""

    formula: Formula
    present: Tensor
    absent: Tensor

    def same_films(self, other: "_Node") -> bool:
        # Rank sums are exact, so that equal sets have equal scores and most pairs are told apart at once.
        return self.formula.auc == other.formula.auc and bool(
            (self.present == other.present).all() and (self.absent == other.absent).all()
        )


#: How each of the four ways to join a formula with concept ``m`` is written, in the order of the second axis below.
JOINS: tuple[tuple[Literal["AND", "OR"], bool], ...] = (("AND", False), ("AND", True), ("OR", False), ("OR", True))


class _Table:
    """The labels of the concepts that can stand in a formula, and the search's steps on them."""

    def __init__(self, labels: Tensor, concepts: list[int], low: float, high: float) -> None:
        self.concepts = concepts
        self.present, self.absent = labels == 1, labels == 0
        self.complete = bool((self.present | self.absent).all())
        self.low, self.high = low, high
        self.pairs = (self.present.sum(dim=0) * self.absent.sum(dim=0)).double()

    def wins(self, scores: Tensor) -> Tensor:
        """Return the pairs that each concept wins: whole or half numbers, so that equal scores compare as equal."""
        return (scores * self.pairs * 2).round() / 2

    def first(self, wins: Tensor, beam: int) -> list[list[_Node]]:
        """Start each unit's beam with its best single concepts and negations."""
        n_present, n_absent = self.present.sum(dim=0), self.absent.sum(dim=0)
        both_scores = torch.cat([wins / self.pairs, (self.pairs - wins) / self.pairs], dim=1)
        counts = torch.cat([n_present, n_absent]), torch.cat([n_absent, n_present])
        allowed = self._allowed(*counts).nonzero().flatten()
        order = allowed[both_scores[:, allowed].argsort(dim=1, descending=True, stable=True)]
        return [
            _best(
                (
                    self._node(None, place // len(self.concepts), place % len(self.concepts), float(row[place]))
                    for place in places
                ),
                beam,
            )
            for row, places in zip(both_scores, order.tolist(), strict=True)
        ]

    def extend(self, activations: Tensor, beams: list[list[_Node]], joined: Tensor, beam: int) -> list[list[_Node]]:
        """Join every formula of every beam with every concept, and keep each unit's best of old and new."""
        owners = [unit for unit, nodes in enumerate(beams) for _ in nodes]
        if not owners:
            return beams
        parents = [node for nodes in beams for node in nodes]
        present, absent = (torch.stack([getattr(node, name) for node in parents]) for name in ("present", "absent"))
        count = self._count_complete if self.complete else self._count_partial
        wins, n_present, n_absent = count(activations, owners, present, absent, joined)
        scores = wins / (n_present * n_absent)
        # A join that changes no film is its parent over again, which counts tell, as sets only shrink or only grow.
        # Films would tell too; this saves building such children, of which rare concepts make hundreds.
        unchanged = (n_present == present.sum(dim=1)[:, None, None]) & (n_absent == absent.sum(dim=1)[:, None, None])
        scores[unchanged | ~self._allowed(n_present, n_absent) | ~joined[owners][:, None, :]] = -torch.inf
        after, start = [], 0
        for nodes in beams:
            own = scores[start : start + len(nodes)].flatten()
            start += len(nodes)
            line = nodes[-1].formula.auc if len(nodes) == beam else -torch.inf
            better = (own > line).nonzero().flatten()
            better = better[own[better].argsort(descending=True, stable=True)]
            news = self._children(nodes, own[better].tolist(), better.tolist())
            after.append(_best(heapq.merge(nodes, news, key=lambda node: -node.formula.auc), beam))
        return after

    def _children(self, nodes: list[_Node], scores: list[float], places: list[int]) -> Iterator[_Node]:
        n_concepts = len(self.concepts)
        for score, place in zip(scores, places, strict=True):
            parent, join, concept = place // (4 * n_concepts), place // n_concepts % 4, place % n_concepts
            yield self._node(nodes[parent], join, concept, score)

    def _node(self, parent: _Node | None, join: int, concept: int, auc: float) -> _Node:
        operator, negated = JOINS[join]
        term = Term(operator, self.concepts[concept], negated)
        present, absent = self.present[:, concept], self.absent[:, concept]
        if negated:
            present, absent = absent, present
        terms: tuple[Term, ...] = (term,)
        if parent is not None:
            present, absent = _join(operator, (parent.present, parent.absent), (present, absent))
            terms = (*parent.formula.terms, term)
        return _Node(Formula(terms, auc, int(present.sum()), int(absent.sum())), present, absent)

    def _allowed(self, n_present: Tensor, n_absent: Tensor) -> Tensor:
        share = n_present / (n_present + n_absent)
        return (n_present > 0) & (n_absent > 0) & (share >= self.low) & (share <= self.high)

    def _count_complete(
        self, activations: Tensor, owners: list[int], present: Tensor, _absent: Tensor, _joined: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Count pairs won where every label is known: rank sums by inclusion and exclusion, two products for all."""
        ranks, atoms, n_films = midranks(activations).T, self.present.double(), len(self.present)
        held = present.double()
        weighted = held * ranks[owners]
        sums = _four_ways(weighted @ atoms, weighted.sum(dim=1), (ranks @ atoms)[owners], n_films * (n_films + 1) / 2)
        n_present = _four_ways(held @ atoms, held.sum(dim=1), atoms.sum(dim=0)[None], n_films)
        return sums - n_present * (n_present + 1) / 2, n_present, n_films - n_present

    def _count_partial(
        self, activations: Tensor, owners: list[int], present: Tensor, absent: Tensor, joined: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Count pairs won where labels are unknown: each new formula over its own known films."""
        shape = (len(owners), 4, len(self.concepts))
        wins, n_present, n_absent = (torch.zeros(shape, dtype=torch.float64) for _ in range(3))
        order = activations.argsort(dim=0)
        below, upto = tie_bounds(activations)
        for row, unit in enumerate(owners):
            films, columns = order[:, unit], joined[unit].nonzero().flatten()
            atom = self.present[films][:, columns].T, self.absent[films][:, columns].T
            mine = present[row, films], absent[row, films]
            ways = [_join(operator, mine, atom[::-1] if negated else atom) for operator, negated in JOINS]
            holds, fails = (torch.stack([way[side] for way in ways]) for side in (0, 1))
            passed = torch.nn.functional.pad(
                fails.cumsum(dim=2, dtype=torch.int32), (1, 0)
            )  # failing films among the first so many
            beaten = passed[..., below[films, unit]] + passed[..., upto[films, unit]]  # twice: ties count half
            wins[row][:, columns] = (holds * beaten).sum(dim=2).double() / 2
            n_present[row][:, columns] = holds.sum(dim=2).double()
            n_absent[row][:, columns] = fails.sum(dim=2).double()
        return wins, n_present, n_absent


def _atom(term: Term, labels: Tensor) -> tuple[Tensor, Tensor]:
    column = labels[:, term.concept]
    return (column == 0, column == 1) if term.negated else (column == 1, column == 0)


def _join(
    operator: Literal["AND", "OR"], left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    if operator == "AND":
        return left[0] & right[0], left[1] | right[1]
    return left[0] | right[0], left[1] & right[1]


def _four_ways(both: Tensor, formula: Tensor, concept: Tensor, total: float) -> Tensor:
    """Weigh the films of every join: with the concept, without it, either, or the formula or not the concept."""
    own = formula[:, None]
    return torch.stack([both, own - both, own + concept - both, total - concept + both], dim=1)


def _best(ranked: Iterator[_Node], beam: int) -> list[_Node]:
    """Take the first few nodes that hold on different films."""
    kept: list[_Node] = []
    for node in ranked:
        if len(kept) == beam:
            break
        if not any(node.same_films(other) for other in kept):
            kept.append(node)
    return kept
