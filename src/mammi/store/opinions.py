"""Second opinions as a run keeps them: tables under ``opinions/``, and a note in the manifest written last.

::

    RUN/opinions/
      opinions.parquet    one row per unit, opinion and rank: layer, unit, opinion, rank, concept, score, kept, effect
      units.parquet       one row per unit: who agrees on it, and what most opinions say
      scored.parquet      one row per concept that one annotator kept and another scored; only with several annotators
      FINGERPRINT/        embeddings of one annotator, under its own content
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from mammi.store.tables import read_parquet

__all__ = ["Opinions", "UnitOpinion"]


@dataclass(frozen=True)
class UnitOpinion:
    """What one opinion says of one unit.

    Attributes:
        label: whose it is, and in which wording.
        names: of the kept concepts, best first; ``"NOT ..."`` where it is their absence.
        agrees: whether the first is what the units were named with, one thing under two names being the same; None
            where either has no concept.
    """

    label: str
    names: tuple[str, ...]
    agrees: bool | None

    def __str__(self) -> str:
        """Return one line."""
        mark = {True: "=", False: "x", None: " "}[self.agrees]
        return f"{mark} {self.label}: {'; '.join(self.names) or 'no concept'}"


@dataclass(frozen=True)
class Opinions:
    """The second opinions of a run.

    Attributes:
        folder: ``opinions/`` of the run.
        note: what the manifest says of them: ``vlms``, the annotators, the one that named the units first; ``asked``: one
            entry an opinion with ``vlm``, ``template`` (None for the run's, averaged) and ``label``; ``n_voters``;
            ``agreement``, ``consensus`` and ``scored``: by layer.
    """

    folder: Path
    note: Mapping[str, Any] = field(repr=False)

    @property
    def labels(self) -> list[str]:
        """Whose each opinion is, and in which wording."""
        return [str(one["label"]) for one in self.note["asked"]]

    @property
    def annotators(self) -> list[str]:
        """The annotators, the one that named the units first."""
        return [str(one["label"]) for one in self.note["vlms"]]

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per unit, opinion and rank: ``layer, unit, opinion`` (its place in ``note["asked"]``), ``rank, concept, score, kept, effect``."""
        return read_parquet(self.folder / "opinions.parquet")

    @cached_property
    def units(self) -> pd.DataFrame:
        """One row per unit.

        ``layer, unit``; ``naming``: opinions that name it; ``votes``: those that give the commonest first name;
        ``same``: share of pairs of opinions with the same first name, among those that name it; ``jaccard`` of what they
        keep; ``over_annotators`` and ``over_wordings``: as ``same``, over the annotators asked as the units were named,
        and over the wordings put to the one that named them; ``consensus``: what more than half of the opinions keep,
        joined by ``"; "``; ``differs``: whether they do not all give the same first name.
        """
        return read_parquet(self.folder / "units.parquet")

    @cached_property
    def scored(self) -> pd.DataFrame:
        """One row per concept that one annotator kept and another scored.

        ``layer, unit, namer, scorer`` (numbers of annotators), ``name_rank`` and ``name`` with the namer; with the scorer
        ``rank`` among all things that can be named, ``z``: its score in standard deviations from the mean of all, and
        ``place``: share of the others that score less. Empty where there is one annotator.
        """
        path = self.folder / "scored.parquet"
        columns = ["layer", "unit", "namer", "scorer", "name_rank", "name", "rank", "z", "place"]
        return read_parquet(path) if path.is_file() else pd.DataFrame(columns=columns)

    def of_unit(self, layer: str, index: int) -> list[UnitOpinion]:
        """Return every opinion on one unit, in the order of ``note["asked"]``."""
        rows = read_parquet(self.folder / "opinions.parquet", "layer = ? AND unit = ? AND kept", (layer, index))
        return self._said(rows).get(index) or self._said_of({})

    def by_unit(self, layer: str) -> dict[int, list[UnitOpinion]]:
        """Return every opinion on the units of one layer; without units of which no opinion says anything."""
        rows = self.table
        return self._said(rows[(rows["layer"] == layer) & rows["kept"].to_numpy(dtype=bool)])

    def _said(self, rows: pd.DataFrame) -> dict[int, list[UnitOpinion]]:
        """Put kept rows in words, unit by unit."""
        names: dict[int, dict[int, list[str]]] = {}
        columns = (rows[name].tolist() for name in ("unit", "opinion", "concept", "effect"))
        for unit, opinion, concept, effect in zip(*columns, strict=True):
            of_unit = names.setdefault(unit, {})
            of_unit.setdefault(opinion, []).append(("NOT " if effect < 0 else "") + concept)
        return {unit: self._said_of(of_unit) for unit, of_unit in names.items()}

    def _said_of(self, names: Mapping[int, list[str]]) -> list[UnitOpinion]:
        own = self._thing(names[0][0]) if 0 in names else ""
        return [
            UnitOpinion(
                label,
                tuple(names.get(number, ())),
                self._thing(names[number][0]) == own if own and number in names else None,
            )
            for number, label in enumerate(self.labels)
        ]

    def _thing(self, name: str) -> str:
        absent = name.startswith("NOT ")
        concept = name.removeprefix("NOT ")
        return ("NOT " if absent else "") + str(self.note["same"].get(concept, concept))

    def disagreements(self) -> pd.DataFrame:
        """Return the rows of `units` whose opinions differ, the fewest votes for one name first.

        Equal votes: the less of the kept concepts in common first, then by layer and unit.
        """
        differ = self.units[self.units["differs"].to_numpy(dtype=bool)]
        order = {layer: place for place, layer in enumerate(dict.fromkeys(self.units["layer"]))}
        sure = differ.assign(place=differ["layer"].map(order), common=differ["jaccard"].fillna(2.0))
        return (
            sure.sort_values(["votes", "common", "place", "unit"])
            .drop(columns=["place", "common"])
            .reset_index(drop=True)
        )
