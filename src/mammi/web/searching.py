"""The search page: units by any words, those named so and those that respond so in one list."""

import math
from typing import Any
from urllib.parse import urlencode

import numpy as np

from mammi.errors import InputError, VlmError
from mammi.explain.account import Account
from mammi.pages import Page, RunView
from mammi.pages.classes import output_names
from mammi.pages.view import finite
from mammi.web.models import Models

__all__ = ["MOST", "search_page"]

#: Units listed, at most; and how many of those that words do not find beyond chance follow the ones they do.
MOST, NEXT = 100, 20
#: Letters of a query that are read.
LONGEST = 200


def search_page(
    view: RunView,
    models: Models,
    *,
    q: str = "",
    layer: int | None = None,
    only: str = "all",
    below: float | None = None,
    feeds: int | None = None,
) -> Page:
    """Return the units that some words find.

    Two kinds of hit stand in one list, each said to be what it is: ``named``, a kept concept of the unit holds all the
    words; and ``r``, the correlation of the unit's activation with how alike films are to the words, by the run's
    vision-language model. Sorted by ``r``, units without one after that, named ones first.

    Args:
        view: the run.
        models: its models, as far as they are loaded.
        q: the words; blank to list the units that the filters leave.
        layer: number of a layer; None for all.
        only: ``"all"``, ``"named"`` (units with a concept) or ``"none"``.
        below: only units whose first concept has a q-value below this.
        feeds: only units that move this output more than any other.

    Raises:
        InputError: if a filter is none of those.
    """
    if only not in ("all", "named", "none"):
        raise InputError(f"'only' must be all, named or none, got {only!r}")
    if below is not None and not 0 < below <= 1:
        raise InputError(f"'below' must be above 0 and at most 1, got {below}")
    layers = view.run.layers
    if layer is not None and not 0 <= layer < len(layers):
        raise InputError(f"the run has layers 0 to {len(layers) - 1}, got {layer}")
    names = output_names(view)
    if feeds is not None and not 0 <= feeds < len(names):
        raise InputError(f"the network has outputs 0 to {len(names) - 1}, got {feeds}")
    words = " ".join("".join(c if c.isprintable() else " " for c in q[:LONGEST]).split())
    scores, scored = _scores(models, words)
    named = _named(view, words)
    moved = None if feeds is None else _moved_most(view, models.account, feeds)
    rows = []
    for number, name in enumerate(layers):
        if layer is not None and number != layer:
            continue
        rows += _rows(view, name, scores.get(name), named, only, below, moved)
    listed = [row for row in rows if not words or row["named_so"] or row["r"] is not None]
    listed.sort(key=lambda row: (-(row["r"] if row["r"] is not None else -2.0), not row["named_so"]))
    # Units named so are what was asked for: they are listed wherever their correlation puts them.
    most = min(MOST, sum(row["beyond_chance"] for row in listed) + NEXT) if words else MOST
    shown = [row for place, row in enumerate(listed) if place < most or (words and row["named_so"])]
    asked = {"q": words, "layer": layer, "only": only if only != "all" else None, "below": below, "feeds": feeds}
    data = {
        "asked": {**asked, "only": only},
        "layers": layers,
        "outputs": names,
        "feeding": models.account is not None,
        "scored": scored,
        "found": len(listed),
        "named": sum(row["named_so"] for row in listed) if words else 0,
        "passing": sum(row["beyond_chance"] for row in listed),
        "rows": shown,
    }
    query = urlencode({name: value for name, value in asked.items() if value not in (None, "")})
    return Page(f"Search: {words}" if words else "Search", "search.html", ("search", query), data)


def _scores(models: Models, words: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the scores of every layer, and what is to be said of them: over how many films, or why there are none."""
    said: dict[str, Any] = {"why_not": "", "films": 0, "patients": 0, "complete": True, "chance": None, "asked_as": []}
    if not words:
        return {}, said
    search = models.search
    if search is None:
        return {}, {**said, "why_not": models.missing.get("search", "")}
    template = search.run.manifest["identity"]["template"]
    templates = [template] if isinstance(template, str) else template
    try:
        with models.using:
            direction = search.direction(words)
        scores = {layer: search.scores(direction, layer) for layer in search.run.layers}
    except InputError as error:
        return {}, {**said, "why_not": str(error)}
    except VlmError:
        return {}, {**said, "why_not": "The vision-language model cannot read these words."}
    chance = next(iter(scores.values())).chance
    return scores, {
        "why_not": "",
        "films": len(search.films),
        "patients": search.n_patients,
        "complete": search.complete,
        "chance": finite(chance),
        "asked_as": [text.replace("{}", words) for text in templates],
    }


def _named(view: RunView, words: str) -> set[tuple[str, int]]:
    if not words:
        return set()
    found = view.run.search(words)
    return {(str(layer), int(unit)) for layer, unit in zip(found["layer"], found["unit"], strict=True)}


def _moved_most(view: RunView, account: Account | None, output: int) -> tuple[str, set[int]]:
    """Return the layer and those of its units that move one output more than any other."""
    if account is None:
        raise InputError("which unit feeds which class is known once the network is loaded: leave that filter out")
    most: np.ndarray[Any, Any] = view.once("moved most", lambda: _strongest_output(account))
    return account.layer, set(np.flatnonzero(most == output).tolist())


def _strongest_output(account: Account) -> np.ndarray[Any, Any]:
    if account.head is not None:  # a unit's spread is the same for all outputs: the weight decides
        return np.asarray(np.abs(account.head.weight).argmax(axis=0))
    spread = np.stack([account.contributions(output).std(axis=1) for output in range(len(account.outputs))])
    return np.asarray(spread.argmax(axis=0))


def _rows(
    view: RunView,
    layer: str,
    scores: Any,  # noqa: ANN401 - WordScores or None
    named: set[tuple[str, int]],
    only: str,
    below: float | None,
    moved: tuple[str, set[int]] | None,
) -> list[dict[str, Any]]:
    if moved is not None and moved[0] != layer:
        return []
    units = view.units(layer)
    rows = []
    for row in units.to_dict("records"):
        unit = int(row["unit"])
        has = bool(row["n_concepts"])
        if (only != "all" and has != (only == "named")) or (moved is not None and unit not in moved[1]):
            continue
        # A method that states no q-value has none below anything.
        if below is not None and not row["q_value"] < below:
            continue
        r = None if scores is None or math.isnan(scores.r[unit]) else float(scores.r[unit])
        rows.append(
            {
                "layer": layer,
                "unit": unit,
                "output": str(row["output"]),
                "name": str(row["name"]),
                "named": has,
                "named_so": (layer, unit) in named,
                "r": finite(r),
                "beyond_chance": r is not None and r > scores.chance,
                "effect": finite(row["effect"]),
                "q_value": finite(row["q_value"]),
                "reason": str(row["reason"]),
            }
        )
    return rows
