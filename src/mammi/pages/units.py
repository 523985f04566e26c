"""The units of one layer: a table to sort and to search."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from mammi.errors import InputError
from mammi.pages.galleries import one_a_patient, withheld_because
from mammi.pages.maps import concept_map
from mammi.pages.site import Page
from mammi.pages.unit import SHOWN
from mammi.pages.view import RunView, finite

__all__ = ["ORDERS", "PICTURES", "ROWS", "example_films", "units_page"]

#: Rows of one page.
ROWS = 200
#: How a table can be sorted, with the column and whether the largest comes first.
ORDERS = {
    "unit": ("unit", False),
    "name": ("name", False),
    "effect": ("effect", True),
    "score": ("score", True),
    "examples": ("n_examples", True),
}
#: Example films shown in a row, of as many patients.
PICTURES = 3


def units_page(
    view: RunView,
    layer: str,
    page: int = 1,
    *,
    query: str = "",
    sort: str = "unit",
    only: str = "all",
    size: int = ROWS,
) -> Page:
    """Return one page of the units of a layer.

    Args:
        view: the run.
        layer: name of the layer.
        page: which page, from 1; beyond the last, the last.
        query: words that must all be in a unit's kept concepts, its name or its output, in any case.
        sort: one of ``ORDERS``; equal units stay in their order, those without a number come last.
        only: ``"all"``, ``"named"`` or ``"none"`` (without a concept).
        size: rows of a page.

    Raises:
        UnknownNameError: if the run holds no such layer.
        InputError: if an argument is none of those.
    """
    if sort not in ORDERS:
        raise InputError(f"'sort' must be one of {', '.join(ORDERS)}, got {sort!r}")
    if only not in ("all", "named", "none"):
        raise InputError(f"'only' must be all, named or none, got {only!r}")
    units = view.units(layer)
    found = _ordered(_filtered(units, query, only), sort)
    pages = max(1, -(-len(found) // size))
    page = min(max(page, 1), pages)
    shown = found.iloc[(page - 1) * size : page * size]
    effects = units["effect"].notna().any()
    data = {
        "layer": layer,
        "layers": view.run.layers,
        "n_units": len(units),
        "named": int((units["n_concepts"] > 0).sum()),
        "found": len(found),
        "page": page,
        "pages": pages,
        "size": size,
        "query": query,
        "sort": sort,
        "only": only,
        "has_effects": bool(effects),
        "has_outputs": bool((units["output"] != "").any()),
        "strongest": finite(np.nanmax(np.abs(units["effect"]))) if effects else None,
        "rows": _rows(view, layer, shown),
        "map": view.once(f"map of {layer}", lambda: concept_map(view, layer)),
    }
    return Page(f"Units of {layer}", "units.html", ("units", layer, page), data)


def _filtered(units: pd.DataFrame, query: str, only: str) -> pd.DataFrame:
    if only != "all":
        units = units[(units["n_concepts"] > 0) == (only == "named")]
    wanted = query.lower().split()
    if not wanted:
        return units
    lines = (_words(row) for row in units.to_dict("records"))
    return units[[all(word in line for word in wanted) for line in lines]]


def _words(row: Mapping[Any, Any]) -> str:
    """Return what a unit is found by: its kept concepts, its name, its output."""
    return " ".join([*row["kept"], str(row["name"]), str(row["output"])]).lower()


def _ordered(units: pd.DataFrame, sort: str) -> pd.DataFrame:
    column, largest_first = ORDERS[sort]
    if sort == "name":
        key = units["name"].str.lower().where(units["n_concepts"] > 0)
    elif sort == "effect":
        key = units["effect"].abs()
    else:
        key = units[column]
    order = key.sort_values(ascending=not largest_first, kind="stable", na_position="last").index
    return units.loc[order]


def _rows(view: RunView, layer: str, shown: pd.DataFrame) -> list[dict[str, Any]]:
    examples = example_films(view, layer, [int(unit) for unit in shown["unit"]])
    rows = []
    for row in shown.to_dict("records"):
        films = examples.get(int(row["unit"]), [])
        withheld = withheld_because(len({int(view.patients[film]) for film in films})) if films else ""
        rows.append(
            {
                "unit": int(row["unit"]),
                "output": str(row["output"]),
                "name": str(row["name"]),
                "named": bool(row["n_concepts"]),
                "more": list(row["kept"][1:4]),
                "n_concepts": int(row["n_concepts"]),
                "effect": finite(row["effect"]),
                "q_value": finite(row["q_value"]),
                "stability": finite(row["stability"]),
                "score": finite(row["score"]),
                "n_examples": int(row["n_examples"]),
                "reason": str(row["reason"]),
                "words": _words(row),
                "films": [view.films[film] for film in one_a_patient(view, films, PICTURES)],
                "withheld": withheld,
            }
        )
    return rows


def example_films(view: RunView, layer: str, units: list[int]) -> dict[int, list[int]]:
    """Return the films that a unit's own page shows as its examples, by unit."""
    marks = ", ".join("?" * len(units))
    sql = f"SELECT unit, film FROM examples WHERE layer = ? AND unit IN ({marks}) AND rank <= {SHOWN} ORDER BY rowid"  # noqa: S608 - question marks, values bound
    films: dict[int, list[int]] = {}
    for row in view.query(sql, [layer, *units]) if units else []:
        films.setdefault(int(row["unit"]), []).append(int(row["film"]))
    return films
