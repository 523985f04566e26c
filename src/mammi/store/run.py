"""Reading a run folder: the object that users hold and that every face reads through."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mammi.errors import InputError, RunError, UnknownNameError
from mammi.store.files import read_json
from mammi.store.opinions import Opinions, UnitOpinion
from mammi.store.shards import ActivationStore
from mammi.store.tables import read_parquet
from mammi.types import Annotation, ConceptScore, Example, UnitId

__all__ = ["CERTAINTY", "SCHEMA", "Run", "UnitPage", "certainty", "open_run"]

#: Version of the folder's format; a reader refuses what is newer than itself.
SCHEMA = 1
#: How sure a method is of a concept it kept, with what stands where it does not say: effect size, false discovery rate,
#: share of draws of patients that keep it, share of its sense's films that are more like it, and number of the sense.
CERTAINTY = {"effect": np.nan, "q_value": np.nan, "stability": np.nan, "purity": np.nan, "sense": 0}


def _with_certainty(annotations: pd.DataFrame) -> pd.DataFrame:
    """Add the columns that runs of older versions lack."""
    return annotations.assign(**{name: value for name, value in CERTAINTY.items() if name not in annotations})


def certainty(row: Mapping[Any, Any]) -> list[str]:
    """Say in words what a row of the annotations states of how sure the method is; nothing that it does not state."""
    said = [f"effect {row['effect']:.2f}"] if not np.isnan(row["effect"]) else []
    if not np.isnan(row["q_value"]):
        said.append("q < 0.001" if row["q_value"] < 0.001 else f"q {row['q_value']:.3f}")
    if not np.isnan(row["stability"]):
        said.append(f"kept in {row['stability']:.0%} of draws")
    if row["sense"]:
        said.append(f"sense {row['sense']}" + (f", purity {row['purity']:.2f}" if not np.isnan(row["purity"]) else ""))
    return said


def _in_brackets(row: Mapping[Any, Any]) -> str:
    said = "; ".join(certainty(row))
    return f"  ({said})" if said else ""


@dataclass(frozen=True)
class UnitPage:
    """All a run knows of one unit.

    Attributes:
        annotation: kept concepts, examples, method, and the reason where there is no concept.
        ranking: the best concepts, kept or not: columns ``rank``, ``concept``, ``score``, ``kept`` and those of
            ``CERTAINTY``; NaN (sense 0) where the method or the version that wrote the run does not state them.
        activations: float32, shape ``(n_films,)``: the unit's activation on every film of the run.
        output: the network's own name for the unit if it is an output, else ``""``.
        film_ids: salted ids of the example films, in the order of the examples.
        opinions: what other annotators, or the same in other wordings, say of it; empty if none was asked.
    """

    annotation: Annotation
    ranking: pd.DataFrame = field(repr=False)
    activations: NDArray[np.float32] = field(repr=False)
    output: str = ""
    film_ids: tuple[str, ...] = ()
    opinions: tuple[UnitOpinion, ...] = ()

    def __str__(self) -> str:
        """Return the page as plain text."""
        unit = self.annotation.unit
        low, median, high = np.percentile(self.activations, [0, 50, 100])
        lines = [
            f"unit {unit}" + (f" (output {self.output!r})" if self.output else ""),
            f"  {self.annotation.name}" + (f": {self.annotation.reason}" if self.annotation.reason else ""),
            f"  activation over {len(self.activations)} films: {low:.4g} to {high:.4g}, median {median:.4g}",
        ]
        lines += [
            f"  {'*' if row['kept'] else ' '} {row['score']:+.4f}  {row['concept']}{_in_brackets(row)}"
            for row in self.ranking.to_dict("records")
        ]
        lines += [
            f"  film {film}  {example.activation:.4g}"
            for film, example in zip(self.film_ids, self.annotation.examples, strict=True)
        ]
        lines += [f"  {opinion}" for opinion in self.opinions]
        return "\n".join(lines)


@dataclass(frozen=True)
class Run:
    """A complete run folder.

    Attributes:
        folder: where it lies.
        manifest: what was computed from what.
    """

    folder: Path
    manifest: dict[str, Any] = field(repr=False)

    @property
    def layers(self) -> list[str]:
        """Names of the annotated layers, in the order asked for."""
        return [layer["name"] for layer in self.manifest["layers"]]

    @property
    def method(self) -> str:
        """Name of the method that annotated."""
        return str(self.manifest["identity"]["method"]["name"])

    @cached_property
    def images(self) -> pd.DataFrame:
        """One row per film: ``film``, salted ``id`` and ``patient``, ``warnings``."""
        return read_parquet(self.folder / "images.parquet")

    @cached_property
    def labels(self) -> pd.DataFrame:
        """One row per film, one column per label (1, 0 or NaN); no column where none were given."""
        path = self.folder / "labels.parquet"
        return read_parquet(path) if path.is_file() else pd.DataFrame(index=range(len(self.images)))

    @cached_property
    def units(self) -> pd.DataFrame:
        """One row per unit: layer, unit, output, name, score, n_concepts, n_examples, low, high, reason."""
        return read_parquet(self.folder / "units.parquet")

    @cached_property
    def examples(self) -> pd.DataFrame:
        """One row per example: layer, unit, rank, film, activation."""
        return read_parquet(self.folder / "examples.parquet")

    @cached_property
    def annotations(self) -> pd.DataFrame:
        """One row per unit and concept: layer, unit, rank, concept, score, kept, and the columns of ``CERTAINTY``."""
        return _with_certainty(read_parquet(self.folder / "annotations.parquet"))

    @cached_property
    def opinions(self) -> Opinions | None:
        """What other annotators, or the same in other wordings, say of the units; None if none was asked."""
        note = self.manifest.get("opinions")
        return None if note is None else Opinions(self.folder / "opinions", note)

    def _check_layer(self, layer: str) -> None:
        if layer not in self.layers:
            raise UnknownNameError.among("Layer", layer, self.layers, f"This run holds: {', '.join(self.layers)}.")

    def to_frame(self, layer: str | None = None) -> pd.DataFrame:
        """Return one row per unit, its kept concepts and their scores joined by ``"; "``.

        Args:
            layer: one layer, or all.

        Raises:
            UnknownNameError: if the run holds no such layer.
        """
        units = self.units
        if layer is not None:
            self._check_layer(layer)
            units = units[units["layer"] == layer]
        kept = self.annotations[self.annotations["kept"]]
        groups = kept.assign(scores=kept["score"].map("{:.3f}".format)).groupby(["layer", "unit"], sort=False)
        joined = groups.agg(concepts=("concept", "; ".join), scores=("scores", "; ".join)).reset_index()
        frame = units.merge(joined, on=["layer", "unit"], how="left")
        for column in ("concepts", "scores"):  # of no type at all where no unit has a concept
            frame[column] = frame[column].astype(object).where(frame[column].notna(), "")
        return frame

    def activations(self, layer: str) -> NDArray[np.float32]:
        """Return a layer's activations, memory-mapped: float32, shape ``(n_units, n_films)``."""
        self._check_layer(layer)
        return ActivationStore(self.folder, 0, 1).read(layer)

    def unit(self, layer: str, index: int) -> UnitPage:
        """Return all that is known of one unit.

        Raises:
            UnknownNameError: if the run holds no such layer.
            InputError: if the layer has no unit of that index.
        """
        activations = self.activations(layer)
        if not 0 <= index < len(activations):
            raise InputError(f"layer {layer!r} has units 0 to {len(activations) - 1}, got {index}")
        where, values = "layer = ? AND unit = ?", (layer, index)
        row = read_parquet(self.folder / "units.parquet", where, values).iloc[0]
        examples = read_parquet(self.folder / "examples.parquet", where, values)
        ranking = _with_certainty(read_parquet(self.folder / "annotations.parquet", where, values))
        kept = ranking[ranking["kept"]]
        annotation = Annotation(
            unit=UnitId(layer, index),
            concepts=tuple(ConceptScore(str(c), float(s)) for c, s in zip(kept["concept"], kept["score"], strict=True)),
            examples=tuple(
                Example(int(i), float(a)) for i, a in zip(examples["film"], examples["activation"], strict=True)
            ),
            method=self.method,
            reason=str(row["reason"]),
            formula=str(row["name"]) if len(kept) and row["name"] != kept["concept"].iloc[0] else "",
        )
        return UnitPage(
            annotation=annotation,
            ranking=ranking[["rank", "concept", "score", "kept", *CERTAINTY]],
            activations=np.array(activations[index]),
            output=str(row["output"]),
            film_ids=tuple(self.images["id"].iloc[examples["film"].to_numpy()]),
            opinions=tuple(self.opinions.of_unit(layer, index)) if self.opinions is not None else (),
        )

    def is_readable(self) -> bool:
        """Tell whether every table and the index can be read."""
        try:
            for name in ("images", "labels", "units", "examples", "annotations"):
                getattr(self, name)
            self.search("any")
        except RunError:
            return False
        return True

    def search(self, words: str) -> pd.DataFrame:
        """Return the units whose kept concepts hold all of ``words``: layer and unit, best match first."""
        # Quoted word by word, so that no character of the query is taken for the index's own syntax.
        query = " ".join('"' + word.replace('"', '""') + '"' for word in words.split())
        if not query:
            raise InputError("nothing to search for: give one or more words")
        path = self.folder / "index.sqlite"
        try:
            with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
                sql = "SELECT layer, unit FROM search WHERE search MATCH ? ORDER BY rank"
                return pd.read_sql_query(sql, connection, params=(query,))
        except (sqlite3.Error, pd.errors.DatabaseError) as error:
            raise RunError(f"{path} cannot be searched: {error}") from error


def open_run(folder: str | Path) -> Run:
    """Open a complete run folder.

    Args:
        folder: the folder that ``annotate`` wrote.

    Raises:
        RunError: if it is no run, was written by a newer version, or is not complete.
    """
    folder = Path(folder)
    path = folder / "manifest.json"
    if not path.is_file():
        raise RunError(f"{folder} holds no run (no manifest.json): give the folder that 'mammi annotate --out' wrote")
    manifest = read_json(path)
    schema = manifest.get("schema") if isinstance(manifest, dict) else None
    if not isinstance(schema, int):
        raise RunError(f"{path} is no manifest of a run: it states no schema")
    if schema > SCHEMA:
        raise RunError(f"{folder} has format {schema}, this version reads up to {SCHEMA}: install a newer mammi")
    if manifest.get("status") != "complete":
        raise RunError(f"{folder} is not complete (it stopped while it was {manifest.get('status')}): run it again")
    return Run(folder, manifest)
