"""What is kept of a layer's scores: the head of every unit's ranking, so that no table of units by concepts is needed."""

from collections.abc import Iterable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from mammi.functional.strongest import strongest
from mammi.functional.tiles import unit_tiles
from mammi.methods.base import Match, Verdict

__all__ = ["RANKING", "LayerMatch"]

#: Concepts listed per unit at least, whether kept or not: a reader wants to see what came next.
RANKING = 10


@dataclass(frozen=True)
class LayerMatch:
    """What a method says of the units of a layer, as one ragged table.

    Attributes:
        ranked: int64, shape ``(n_ranked,)``: concept indices, unit after unit. The kept concepts of a unit come first,
            in the method's own order; the best of the others follow by falling score, ties by lower index, until there
            are ``RANKING``. What has no score is listed only if it is kept.
        ranked_scores: float64, shape ``(n_ranked,)``: their scores, NaN for a kept concept without one.
        offsets: int64, shape ``(n_units + 1,)``: unit ``u`` owns ``ranked[offsets[u]:offsets[u + 1]]``.
        n_kept: int64, shape ``(n_units,)``: how many of them are kept.
        formulas: one text per unit, as in `Match`; None for methods that never combine concepts.
        verdict: how sure the method is; None for methods that do not say.
    """

    ranked: Tensor
    ranked_scores: Tensor
    offsets: Tensor
    n_kept: Tensor
    formulas: list[str] | None = None
    verdict: Verdict | None = None

    @property
    def n_units(self) -> int:
        """Number of units, those of which nothing is said included."""
        return len(self.n_kept)

    @property
    def concepts(self) -> list[Tensor]:
        """The kept concepts, one int64 tensor per unit, best first."""
        parts = torch.split(self.ranked, self.offsets.diff().tolist())
        return [part[:count] for part, count in zip(parts, self.n_kept.tolist(), strict=True)]

    @classmethod
    def of(cls, match: Match) -> "LayerMatch":
        """Keep the head of the rankings of a block of units."""
        n_units, n_concepts = match.scores.shape
        tiles = list(unit_tiles(n_units, n_concepts))
        heads = [strongest(match.scores[tile], RANKING) for tile in tiles]
        n_kept = torch.tensor([len(kept) for kept in match.concepts], dtype=torch.int64)
        kept = torch.cat(match.concepts) if match.concepts else torch.empty(0, dtype=torch.int64)
        kept_units = torch.repeat_interleave(torch.arange(n_units), n_kept)
        empty = torch.empty(0, dtype=torch.int64)
        units = torch.cat([empty, *(rows + tile.start for (rows, _), tile in zip(heads, tiles, strict=True))])
        head = torch.cat([empty, *(columns for _, columns in heads)])
        others = ~torch.isin(units * n_concepts + head, kept_units * n_concepts + kept)
        units, ranked = torch.cat([kept_units, units[others]]), torch.cat([kept, head[others]])
        order = units.argsort(stable=True)
        units, ranked = units[order], ranked[order]
        counts = torch.bincount(units, minlength=n_units)
        places = torch.arange(len(units)) - (counts.cumsum(0) - counts)[units]
        listed = places < n_kept.clamp(min=RANKING)[units]
        units, ranked = units[listed], ranked[listed]
        return cls(
            ranked=ranked,
            ranked_scores=match.scores[units, ranked],
            offsets=_offsets(torch.bincount(units, minlength=n_units)),
            n_kept=n_kept,
            formulas=match.formulas,
            verdict=match.verdict,
        )

    @classmethod
    def of_live(cls, matches: Iterable[Match], live: Tensor, n_units: int) -> "LayerMatch":
        """Join the matches of consecutive blocks of a layer's live units; of the other units nothing is said.

        Args:
            matches: blocks of the live units, in order; each is let go before the next is asked for.
            live: int64: which units these are, rising.
            n_units: number of units of the layer.
        """
        parts = [cls.of(match) for match in matches]
        empty = torch.empty(0, dtype=torch.int64)
        counts, n_kept = torch.zeros(n_units, dtype=torch.int64), torch.zeros(n_units, dtype=torch.int64)
        counts[live] = torch.cat([empty, *(part.offsets.diff() for part in parts)])
        n_kept[live] = torch.cat([empty, *(part.n_kept for part in parts)])
        formulas: list[str] | None = None
        verdict: Verdict | None = None
        if parts and parts[0].formulas is not None:
            formulas = [""] * n_units
            for unit, text in zip(live.tolist(), (text for part in parts for text in part.formulas or []), strict=True):
                formulas[unit] = text
        if parts and parts[0].verdict is not None:
            verdict = _silent(n_units)
            for field in fields(Verdict):
                entries = (entry for part in parts for entry in getattr(part.verdict, field.name))
                column = getattr(verdict, field.name)
                for unit, entry in zip(live.tolist(), entries, strict=True):
                    column[unit] = entry
        return cls(
            ranked=torch.cat([empty, *(part.ranked for part in parts)]),
            ranked_scores=torch.cat([empty.double(), *(part.ranked_scores for part in parts)]),
            offsets=_offsets(counts),
            n_kept=n_kept,
            formulas=formulas,
            verdict=verdict,
        )


def _offsets(counts: Tensor) -> Tensor:
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def _silent(n_units: int) -> Verdict:
    """Return a verdict that says nothing of any unit."""
    numbers = [torch.empty(0, dtype=torch.float64)] * n_units
    senses = [torch.empty(0, dtype=torch.int64)] * n_units
    return Verdict(list(numbers), list(numbers), list(numbers), senses, list(numbers), [""] * n_units)
