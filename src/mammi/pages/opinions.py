"""What other annotators and other wordings say of the units: who agrees, by how much more than chance, and who does not."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from mammi.pages.site import NAV, NavEntry, Page
from mammi.pages.view import RunView, finite
from mammi.store.opinions import Opinions, UnitOpinion
from mammi.store.run import Run

__all__ = ["nav_of", "opinions_page", "unit_opinions"]

#: Units listed whose opinions differ.
LISTED = 500


def nav_of(run: Run) -> tuple[NavEntry, ...]:
    """Return the bar on top for a run: with its second opinions, if it has any."""
    return NAV if run.opinions is None else (*NAV[:2], NavEntry("Opinions", ("opinions",)), *NAV[2:])


def opinions_page(view: RunView) -> Page:
    """Return the page of second opinions: agreement by layer beside chance, consensus, and the units that divide them."""
    found = view.run.opinions
    data: dict[str, Any] = {"made": found is not None}
    if found is not None:
        data |= view.once("opinions", lambda: _said(view, found))
    return Page("Second opinions", "opinions.html", ("opinions",), data)


def _said(view: RunView, found: Opinions) -> dict[str, Any]:
    differ = found.disagreements()
    rows = [
        {
            "layer": str(row["layer"]),
            "unit": int(row["unit"]),
            "votes": int(row["votes"]),
            "firsts": _firsts(found, _of_layer(view, found, str(row["layer"])).get(int(row["unit"]), [])),
            "consensus": str(row["consensus"]),
            "jaccard": finite(row["jaccard"]),
        }
        for row in differ.head(LISTED).to_dict("records")
    ]
    note = found.note
    vlms = [{name: one[name] for name in ("label", "licence", "shared_corpora", "content")} for one in note["vlms"]]
    return {
        "vlms": vlms,
        "wordings": list(dict.fromkeys(one["template"] for one in note["asked"] if one["template"] is not None)),
        "n_voters": note["n_voters"],
        "agreement": [_finite(row) for row in note["agreement"]],
        "consensus": note["consensus"],
        "scored": [_finite(row) for row in note["scored"]],
        "n_differ": len(differ),
        "rows": rows,
    }


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    return {name: finite(value) if isinstance(value, float) else value for name, value in row.items()}


def _of_layer(view: RunView, found: Opinions, layer: str) -> dict[int, list[UnitOpinion]]:
    return view.once(f"opinions on {layer}", lambda: found.by_unit(layer))


def _firsts(found: Opinions, said: Sequence[UnitOpinion]) -> list[dict[str, Any]]:
    """Count the first names that the votes give, the commonest first; ``""`` for no concept."""
    votes = [one for one, asked in zip(said, found.note["asked"], strict=True) if asked["template"] is not None]
    counts = Counter(one.names[0] if one.names else "" for one in votes)
    return [{"name": name, "votes": votes} for name, votes in counts.most_common()]


def unit_opinions(view: RunView, layer: str, index: int) -> dict[str, Any] | None:
    """Return what each opinion says of one unit; None where none was asked."""
    found = view.run.opinions
    if found is None:
        return None
    units = view.once(
        f"agreement on {layer}",
        lambda: found.units[found.units["layer"] == layer].set_index("unit").to_dict("index"),
    )
    said = _of_layer(view, found, layer).get(index, [])
    row = units[index]
    return {
        "rows": [{"label": one.label, "names": list(one.names), "agrees": one.agrees} for one in said],
        "votes": int(row["votes"]),
        "n_voters": int(found.note["n_voters"]),
        "consensus": str(row["consensus"]),
        "differs": bool(row["differs"]),
    }
