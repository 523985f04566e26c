"""What the pages of one run read, each thing once: a face makes one view per run and asks it for every page."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mammi.data import normalise_label
from mammi.errors import InputError, RunError
from mammi.functional.quick_agreement import KnownConcepts
from mammi.store.run import CERTAINTY, Run

if TYPE_CHECKING:
    from mammi.explain.account import Account

__all__ = ["RunView", "finite"]

T = TypeVar("T")


def finite(value: Any) -> float | None:  # noqa: ANN401 - a number of any kind, or nothing
    """Return a number as JSON takes it, to 7 digits; None for NaN, infinity or nothing."""
    if value is None or not np.isfinite(value):
        return None
    return float(f"{float(value):.7g}")


@dataclass(eq=False)
class RunView:
    """A run as the pages see it. Safe to be read by several threads.

    Attributes:
        run: a complete run.
        account: how the outputs follow from the units of one layer; None where no network was loaded.
        decide: tells what decides an output, given its number (see `class_page`); asked once an output.
        audit: what was found about attributes of films and patients (see `audit_page`).
        places: per unit, by layer and index, how well its maps agree with boxes or masks (see `unit_page`).
        unseen: concepts that the annotator could not tell in its self-test.
    """

    run: Run
    account: "Account | None" = field(default=None, repr=False)
    decide: Callable[[int], Mapping[str, Any] | None] | None = field(default=None, repr=False)
    audit: Mapping[str, Any] | None = field(default=None, repr=False)
    places: Mapping[tuple[str, int], Sequence[Mapping[str, Any]]] | None = field(default=None, repr=False)
    unseen: frozenset[str] = field(default=frozenset(), repr=False)

    _kept: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def once(self, what: str, make: Callable[[], T]) -> T:
        """Return what ``make`` gives, made the first time it is asked for under this name."""
        if what not in self._kept:
            self._kept[what] = make()
        kept: T = self._kept[what]
        return kept

    @cached_property
    def name(self) -> str:
        """Name of the network under study."""
        return str(self.run.manifest["target"]["name"])

    @cached_property
    def films(self) -> list[str]:
        """Salted id of every film."""
        return [str(film) for film in self.run.images["id"]]

    @cached_property
    def film_rows(self) -> dict[str, int]:
        """Row of every film, by its salted id."""
        return {film: row for row, film in enumerate(self.films)}

    @cached_property
    def patients(self) -> NDArray[np.int64]:
        """Number of the patient of every film, int64 ``(n_films,)``; where patients are not known, one a film."""
        return pd.factorize(self.run.images["patient"])[0].astype(np.int64)

    @property
    def patients_known(self) -> bool:
        """Whether it is known who is on each film."""
        return self.run.manifest["counts"].get("patients") is not None

    @cached_property
    def label_names(self) -> list[str]:
        """Names of the labels of the films."""
        return [str(name) for name in self.run.labels.columns]

    @cached_property
    def labels(self) -> NDArray[np.float64]:
        """Labels of the films, 1, 0 or NaN: ``(n_films, n_labels)``, one label after the other in memory."""
        return np.array(self.run.labels.to_numpy(dtype=np.float64, na_value=np.nan), order="F")

    @cached_property
    def known_labels(self) -> KnownConcepts:
        """The labels, made ready to be correlated with units."""
        return KnownConcepts.of(self.labels)

    def label_of(self, name: str) -> int | None:
        """Return the number of the label of that name, in any case; None if there is none."""
        known = [normalise_label(label) for label in self.label_names]
        return known.index(normalise_label(name)) if normalise_label(name) in known else None

    @cached_property
    def concepts(self) -> pd.DataFrame:
        """The concept set as used, by term: ``category`` and ``synonyms``; empty if its file is gone."""
        path = self.run.folder / "concepts.csv"
        columns = ["category", "synonyms"]
        if not path.is_file():
            return pd.DataFrame(columns=columns)
        table = pd.read_csv(path, encoding="utf-8-sig", dtype=str, keep_default_na=False).set_index("term")
        return table.reindex(columns=columns, fill_value="")

    def category(self, concept: str) -> str:
        """Return what kind of thing a concept is (finding, anatomy, device ...); ``""`` where that is not known."""
        return self._categories.get(concept, "")

    @cached_property
    def _categories(self) -> dict[str, str]:
        return {str(term): str(category) for term, category in self.concepts["category"].items()}

    def layer_number(self, layer: str) -> int:
        """Return the place of a layer among the run's, from 0.

        Raises:
            UnknownNameError: if the run holds no such layer.
        """
        self.run._check_layer(layer)
        return self.run.layers.index(layer)

    @cached_property
    def _units(self) -> dict[str, pd.DataFrame]:
        first = self.run.annotations[self.run.annotations["kept"].to_numpy(dtype=bool)]
        sure = first[first["rank"] == 1][["layer", "unit", "concept", *CERTAINTY]].rename(columns={"concept": "first"})
        kept = first.groupby(["layer", "unit"], sort=False)["concept"].agg(tuple).rename("kept").reset_index()
        joined = self.run.units.merge(sure, on=["layer", "unit"], how="left").merge(
            kept, on=["layer", "unit"], how="left"
        )
        joined["first"] = joined["first"].astype(object).where(joined["first"].notna(), "")
        joined["kept"] = [names if isinstance(names, tuple) else () for names in joined["kept"]]
        return {str(layer): rows.reset_index(drop=True) for layer, rows in joined.groupby("layer", sort=False)}

    def units(self, layer: str) -> pd.DataFrame:
        """Return one row per unit of a layer: those of ``run.units``, its ``first`` concept with its certainty, all ``kept``."""
        self.layer_number(layer)
        return self._units[layer]

    @cached_property
    def outputs(self) -> list[tuple[str, int, str]]:
        """Layer, index and name of every unit that is an output of the network."""
        units = self.run.units[self.run.units["output"] != ""]
        return [
            (str(layer), int(unit), str(name))
            for layer, unit, name in zip(units["layer"], units["unit"], units["output"], strict=True)
        ]

    def activation(self, layer: str, index: int) -> NDArray[np.float32]:
        """Return a unit's activation on every film, float32 ``(n_films,)``; reads that row only.

        Raises:
            UnknownNameError: if the run holds no such layer.
            InputError: if the layer has no unit of that index.
        """
        activations = self.run.activations(layer)
        if not 0 <= index < len(activations):
            raise InputError(f"layer {layer!r} has units 0 to {len(activations) - 1}, got {index}")
        return np.array(activations[index])

    def rows(self, table: str, layer: str, index: int, most: int | None = None) -> list[dict[str, Any]]:
        """Return a unit's rows of ``units``, ``examples`` or ``annotations``, from the index, in their order.

        Args:
            table: which.
            layer: name of the layer.
            index: number of the unit.
            most: the highest rank wanted; None for all.

        Raises:
            RunError: if the index cannot be read.
        """
        if table not in ("units", "examples", "annotations"):
            raise InputError(f"no table {table!r}")
        limit = "" if most is None else f" AND rank <= {int(most)}"
        return self.query(f"SELECT * FROM {table} WHERE layer = ? AND unit = ?{limit} ORDER BY rowid", (layer, index))  # noqa: S608 - one of three names, values bound

    def query(self, sql: str, values: Sequence[Any]) -> list[dict[str, Any]]:
        """Ask the run's index.

        Raises:
            RunError: if it cannot be read.
        """
        path = self.run.folder / "index.sqlite"
        try:
            with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
                connection.row_factory = sqlite3.Row
                return [dict(row) for row in connection.execute(sql, tuple(values))]
        except sqlite3.Error as error:
            raise RunError(f"{path} cannot be read ({error}): run the same command again to mend the run") from error
