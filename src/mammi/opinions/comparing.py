"""Opinions side by side: who agrees on what, what chance would give, and what most of them say."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from mammi.functional.raters import alpha, alpha_interval, chance_agreement, pair_agreement, pair_jaccard
from mammi.functional.standing import merged, standing

__all__ = ["Names", "Said", "agreement", "scored_table", "unit_table"]

#: How often units are dealt anew, for what chance gives, and drawn anew, for intervals.
SHUFFLES, RESAMPLES = 100, 500
#: How often names are dealt to other units, for the place that chance gives them.
DEALS = 20


@dataclass(frozen=True)
class Names:
    """What a concept may be called: names of one thing count as one, and its absence as another.

    Attributes:
        terms: the concepts.
        group: int64 ``(n_concepts,)``: the thing each is a name of, from 0 by first mention.
        first: the first concept of each group, ``(n_groups,)``.
    """

    terms: Sequence[str]
    group: NDArray[np.int64]
    first: NDArray[np.int64]

    @classmethod
    def of(cls, terms: Sequence[str], same: Sequence[int]) -> "Names":
        """Take what `mammi.concepts.same.same_concepts` found."""
        first, group = np.unique(np.array(same, dtype=np.int64), return_inverse=True)
        return cls(terms, group.astype(np.int64), first.astype(np.int64))

    @property
    def n_names(self) -> int:
        """Number of names: each thing, and the absence of it."""
        return 2 * len(self.first)

    def code(self, annotations: pd.DataFrame) -> NDArray[np.int64]:
        """Return the number of the name that each row of annotations stands for: its thing doubled, one more if absent."""
        rows = {term: row for row, term in enumerate(self.terms)}
        groups = self.group[annotations["concept"].map(rows).to_numpy(dtype=np.int64)]
        return 2 * groups + (annotations["effect"].to_numpy(dtype=np.float64) < 0)

    def word(self, code: int) -> str:
        """Return a name in words."""
        return ("NOT " if code % 2 else "") + str(self.terms[self.first[code // 2]])


@dataclass(frozen=True)
class Said:
    """What one opinion says of the units of one layer.

    Attributes:
        rows: its kept annotations: ``unit``, ``rank``, ``code``, best first.
        name: int64 ``(n_units,)``: the first of them; 0 where nothing is kept.
        named: bool ``(n_units,)``: whether anything is kept.
        kept: sparse ``(n_units, n_names)``.
    """

    rows: pd.DataFrame
    name: Tensor
    named: Tensor
    kept: sparse.csr_array

    @classmethod
    def of(cls, annotations: pd.DataFrame, n_units: int, names: Names) -> "Said":
        """Take the annotations of one layer."""
        kept = annotations[annotations["kept"].to_numpy(dtype=bool)].sort_values(["unit", "rank"])
        rows = kept[["unit", "rank"]].assign(code=names.code(kept)).drop_duplicates(["unit", "code"])
        units, codes = rows["unit"].to_numpy(dtype=np.int64), rows["code"].to_numpy(dtype=np.int64)
        first = rows.drop_duplicates("unit")
        name, named = torch.zeros(n_units, dtype=torch.int64), torch.zeros(n_units, dtype=torch.bool)
        at = torch.tensor(first["unit"].to_numpy(dtype=np.int64))
        name[at], named[at] = torch.tensor(first["code"].to_numpy(dtype=np.int64)), True
        table = sparse.csr_array((np.ones(len(rows)), (units, codes)), shape=(n_units, names.n_names))
        return cls(rows, name, named, table)


def _together(opinions: Sequence[Said]) -> tuple[Tensor, Tensor, list[sparse.csr_array]]:
    return (
        torch.stack([said.name for said in opinions], dim=1),
        torch.stack([said.named for said in opinions], dim=1),
        [said.kept for said in opinions],
    )


def agreement(opinions: Sequence[Said], seed: int = 0) -> dict[str, Any]:
    """Measure how far some opinions agree on the units of a layer.

    Args:
        opinions: two or more.
        seed: of the deals and the draws.

    Returns:
        ``units`` named by two or more of them; ``same``: mean share of pairs with the same first name; ``same_chance`` and
        ``same_chance_high``: its mean and its 95th percentile with units dealt anew; ``jaccard`` of kept concepts and
        ``jaccard_chance``; ``alpha`` with ``low`` and ``high``. None for what there is none of.
    """
    names, said, kept = _together(opinions)
    pairs = pair_agreement(names, said)
    dealt_same, dealt_jaccard = chance_agreement(names, said, kept, SHUFFLES, seed)
    low, high = alpha_interval(names, said, RESAMPLES, seed)
    found = {
        "same": float(pairs.nanmean()),
        "same_chance": float(dealt_same.nanmean()),
        "same_chance_high": float(dealt_same.nanquantile(0.95)),
        "jaccard": float(pair_jaccard(kept, said).nanmean()),
        "jaccard_chance": float(dealt_jaccard.nanmean()),
        "alpha": alpha(names, said),
        "low": low,
        "high": high,
    }
    units = int((~pairs.isnan()).sum())
    return {"units": units} | {name: None if math.isnan(value) else value for name, value in found.items()}


def unit_table(
    layer: str, voters: Sequence[Said], annotators: Sequence[Said], wordings: Sequence[Said], names: Names
) -> pd.DataFrame:
    """Tabulate the units of a layer: who agrees, and what most opinions say.

    Args:
        layer: its name.
        voters: every annotator in every wording.
        annotators: every annotator, asked as the units were named.
        wordings: the annotator that named the units, in every wording.
        names: of the concepts.

    Returns:
        One row a unit, as `mammi.store.opinions.Opinions.units` describes it.
    """
    first, said, kept = _together(voters)
    n_units, n_voters = first.shape
    every = pd.concat([opinion.rows for opinion in voters], ignore_index=True)
    votes = every.groupby(["unit", "code"]).agg(votes=("rank", "size"), rank=("rank", "mean")).reset_index()
    wide = votes[2 * votes["votes"] > n_voters].sort_values(
        ["unit", "votes", "rank", "code"], ascending=[True, False, True, True]
    )
    consensus = np.full(n_units, "", dtype=object)
    for unit, code in zip(wide["unit"].tolist(), wide["code"].tolist(), strict=True):
        consensus[unit] += ("; " if consensus[unit] else "") + names.word(code)
    commonest = torch.stack(
        [((first == first[:, [voter]]) & said & said[:, [voter]]).sum(dim=1) for voter in range(n_voters)]
    ).amax(dim=0)
    silent = ~said
    differ = ~((commonest == n_voters) | silent.all(dim=1))
    nothing = torch.full((n_units,), torch.nan, dtype=torch.float64)
    table = {
        "layer": [layer] * n_units,
        "unit": np.arange(n_units),
        "naming": said.sum(dim=1).numpy(),
        "votes": commonest.numpy(),
        "same": pair_agreement(first, said).numpy(),
        "jaccard": pair_jaccard(kept, said).numpy(),
        "over_annotators": (pair_agreement(*_together(annotators)[:2]) if len(annotators) > 1 else nothing).numpy(),
        "over_wordings": (pair_agreement(*_together(wordings)[:2]) if len(wordings) > 1 else nothing).numpy(),
        "consensus": consensus,
        "differs": differ.numpy(),
    }
    return pd.DataFrame(table)


def scored_table(layer: str, annotators: Sequence[Said], scores: Sequence[Tensor], names: Names) -> pd.DataFrame:
    """Look up what each annotator kept in the scores of each other one.

    Args:
        layer: name of the layer.
        annotators: what each says, asked as the units were named.
        scores: of each, ``(n_units, n_concepts)``.
        names: of the concepts.

    Returns:
        One row a concept kept by one annotator and scored by another, as `mammi.store.opinions.Opinions.scored`
        describes it. Left out where the scorer has no score, or takes the unit to fire for the absence of what it
        names and the namer for presence, or the other way round: their scores then point opposite ways.
    """
    group = torch.from_numpy(names.group)
    parts = []
    for scorer, table in enumerate(scores):
        best = merged(table, group)
        absent = (annotators[scorer].name % 2 == 1).numpy()  # a scorer that keeps nothing looks for presence
        for namer, said in enumerate(annotators):
            if namer == scorer:
                continue
            rows = said.rows[(said.rows["code"] % 2 == 1).to_numpy() == absent[said.rows["unit"]]]
            units, codes = (torch.tensor(rows[name].to_numpy(dtype=np.int64)) for name in ("unit", "code"))
            found = standing(best, units, codes // 2)
            parts.append(
                pd.DataFrame(
                    {
                        "layer": layer,
                        "unit": units.numpy(),
                        "namer": namer,
                        "scorer": scorer,
                        "name_rank": rows["rank"].to_numpy(dtype=np.int64),
                        "name": [names.word(code) for code in codes.tolist()],
                        "rank": found.rank.numpy(),
                        "z": found.z.numpy(),
                        "place": found.place.numpy(),
                    }
                )[found.known.numpy()]
            )
    return pd.concat(parts, ignore_index=True).sort_values(["unit", "namer", "scorer", "name_rank"], ignore_index=True)


def scored_summary(layer: str, scored: pd.DataFrame, scores: Sequence[Tensor], names: Names) -> list[dict[str, Any]]:
    """Sum up by namer and scorer how well the first concepts of one stand with another.

    Args:
        layer: name of the layer.
        scored: what `scored_table` found of it.
        scores: as there.
        names: likewise.

    Returns:
        For each pair ``units``; ``first``: share of units whose first concept the scorer ranks first; ``median_rank``;
        ``mean_z``; ``mean_place``, and ``place_chance``: the same with the first concepts dealt to other units, presences
        and absences apart, which is above 0.5 where both favour the same ones. None for what there is none of.
    """
    codes = {names.word(code): code for code in range(names.n_names)}
    found = []
    firsts = scored[scored["name_rank"] == 1]
    for namer, scorer in sorted(set(zip(firsts["namer"].tolist(), firsts["scorer"].tolist(), strict=True))):
        rows = firsts[(firsts["namer"] == namer) & (firsts["scorer"] == scorer)]
        units = torch.tensor(rows["unit"].to_numpy(dtype=np.int64))
        code = torch.tensor([codes[name] for name in rows["name"]])
        dealt = _dealt_place(merged(scores[scorer], torch.from_numpy(names.group)), units, code)
        numbers = {
            "first": float((rows["rank"] == 1).mean()),
            "median_rank": float(rows["rank"].median()),
            "mean_z": float(rows["z"].mean()),
            "mean_place": float(rows["place"].mean()),
            "place_chance": dealt,
        }
        known = {name: None if math.isnan(value) else value for name, value in numbers.items()}
        found.append({"layer": layer, "namer": namer, "scorer": scorer, "units": len(rows), **known})
    return found


def _dealt_place(scores: Tensor, units: Tensor, codes: Tensor, seed: int = 0) -> float:
    generator = torch.Generator().manual_seed(seed)
    places = []
    for _ in range(DEALS):
        for side in (0, 1):
            own = codes % 2 == side
            dealt = codes[own][torch.randperm(int(own.sum()), generator=generator)]
            places.append(standing(scores, units[own], dealt // 2).place)
    return float(torch.cat(places).nanmean())
