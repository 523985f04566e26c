"""A layer as a map, on which units that fire for the same films lie together: where they lie, and how it is drawn."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from markupsafe import Markup, escape
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, eigsh

from mammi.pages.charts import at, chart
from mammi.pages.view import RunView, finite
from mammi.pages.words import percent, plural

__all__ = ["concept_map", "mark", "unit_map"]

#: Films from which the map is made, in stretches of so many, spread evenly; and units on it, at most.
MAP_FILMS, STRETCH, MAP_UNITS = 2048, 128, 2000
#: Units up to which all axes are found, beyond which only the first two.
SMALL = 64
#: Names with a mark of their own on the map.
MARKED = 6

#: How far a name may be moved, in units of the drawing, the nearest first.
SHIFTS = (0, 18, -18, 36, -36, 54, -54)
#: Paths of the marks of a map, 12 units wide around the origin: told apart by shape as well as by colour.
MARKS = (
    "M-6 0a6 6 0 1 0 12 0a6 6 0 1 0 -12 0",
    "M-5.5 -5.5h11v11h-11z",
    "M0 -6.8L6.4 5H-6.4z",
    "M0 -7.4L7.4 0L0 7.4L-7.4 0z",
    "M-2.3 -7h4.6v4.7h4.7v4.6h-4.7v4.7h-4.6v-4.7h-4.7v-4.6h4.7z",
    "M0 7L6.4 -5H-6.4z",
)


def concept_map(view: RunView, layer: str) -> dict[str, Any]:
    """Place the units of a layer in a plane, so that units that fire for the same films lie near each other.

    The first two principal components of the units' standardised activations over at most 2,048 films, both axes on
    one scale, within [-1, 1]; of a layer of more than 2,000 units, every so-many-th is placed. A unit that never varies has no place.

    Returns:
        ``points``: ``unit``, ``name``, ``x``, ``y``, ``mark`` (place of its name among ``names``, -1 for another name,
        None for no concept); ``names``: the commonest, with ``name``, ``units``, and ``x``, ``y`` of the one in the middle of their
        units; ``explained``: share of the variance on the two axes; ``films``: how many.
    """
    units = view.units(layer)
    wanted = np.unique(np.linspace(0, len(units) - 1, min(len(units), MAP_UNITS)).astype(np.int64))
    activations = view.run.activations(layer)
    stretches = _stretches(activations.shape[1])
    values = np.concatenate([activations[wanted, films] for films in stretches], axis=1).astype(np.float64)
    n_films = values.shape[1]
    spread = values.std(axis=1, keepdims=True) if n_films else np.zeros((len(values), 1))
    usable = np.isfinite(values).all(axis=1) & (spread[:, 0] > 1e-12)
    values, wanted = (values[usable] - values[usable].mean(axis=1, keepdims=True)) / spread[usable], wanted[usable]
    if not len(values):
        return {"points": [], "names": [], "explained": None, "films": n_films}
    places, explained = _plane(values)
    rows = units.iloc[wanted]
    common = [str(name) for name in rows["name"][rows["n_concepts"] > 0].value_counts().head(MARKED).index]
    marks = [
        None if not named else common.index(name) if name in common else -1
        for name, named in zip(rows["name"], rows["n_concepts"] > 0, strict=True)
    ]
    points = [
        {"unit": int(unit), "name": str(name), "x": finite(round(x, 4)), "y": finite(round(y, 4)), "mark": mark}
        for unit, name, (x, y), mark in zip(wanted, rows["name"], places, marks, strict=True)
    ]
    names = []
    for mark, name in enumerate(common):
        mine = places[[place for place, found in enumerate(marks) if found == mark]]
        # The unit in the middle of them, not a point between: a name stands beside a mark of its own.
        middle = mine[((mine - np.median(mine, axis=0)) ** 2).sum(axis=1).argmin()]
        names.append({"name": name, "units": len(mine), "x": finite(middle[0]), "y": finite(middle[1])})
    return {"points": points, "names": names, "explained": finite(explained), "films": n_films}


def _stretches(n_films: int) -> list[slice]:
    """Return films in stretches, spread evenly: neighbours on disk are read together."""
    if n_films <= MAP_FILMS:
        return [slice(0, n_films)]
    starts = np.linspace(0, n_films - STRETCH, MAP_FILMS // STRETCH).astype(np.int64)
    return [slice(int(start), int(start) + STRETCH) for start in starts]


def _plane(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Return the first two principal components of rows, within [-1, 1], and the share of variance they hold."""
    rows = torch.from_numpy(values - values.mean(axis=0))
    # The products of the rows: units x units, however many films there are.
    products = rows @ rows.T
    total = float(products.trace())
    if len(products) > SMALL:
        # Any start will do that is not at right angles to the answer; a fixed one gives the same picture again.
        start = np.random.default_rng(0).standard_normal(len(products))
        product = LinearOperator(
            tuple(products.shape), lambda v: (products @ torch.from_numpy(v.ravel())).numpy(), dtype=np.float64
        )
        powers, axes = eigsh(product, k=2, v0=start)
    else:
        powers, axes = np.linalg.eigh(products.numpy())
    order = np.argsort(-powers)[:2]
    powers = np.maximum(powers[order], 0.0)
    places = np.zeros((len(values), 2))
    places[:, : len(order)] = axes[:, order] * np.sqrt(powers)
    # The sign of an axis is free: the longer side points right and up, so that the same run gives the same picture.
    for axis in range(2):
        if -places[:, axis].min() > places[:, axis].max():
            places[:, axis] *= -1
    places -= (places.max(axis=0) + places.min(axis=0)) / 2
    return places / (places.max() or 1.0), float(powers.sum()) / total if total > 0 else np.nan


def unit_map(found: Mapping[str, Any], layer: str, links: Any) -> Markup:  # noqa: ANN401 - the Links of a face
    """Draw the map of a layer: one mark a unit, each a link, the commonest names written where their units lie.

    The links are left out of the order of the tab key: the table below lists the same units.
    """
    width, height, edge = 640, 440, 26
    widest, highest = (max((abs(point[axis]) for point in found["points"]), default=1) or 1 for axis in "xy")
    scale = min((width / 2 - edge) / widest, (height / 2 - edge) / highest)

    def across(x: float) -> float:
        return width / 2 + scale * x

    def down(y: float) -> float:
        return height / 2 - scale * y

    order = {None: 0, -1: 1}
    parts = []
    for point in sorted(found["points"], key=lambda point: order.get(point["mark"], 2)):
        mark, title = point["mark"], escape(f"{layer}:{point['unit']} {point['name']}")
        place = f"{at(across(point['x']))},{at(down(point['y']))}"
        if mark is None or mark < 0:
            kind, shape = ("none" if mark is None else "other"), f'<circle r="{4 if mark is None else 3.4}"/>'
        else:
            kind, shape = f"m{mark}", f'<path d="{MARKS[mark]}"/>'
        href = escape(links.page("unit", layer, point["unit"]))
        parts.append(
            f'<a href="{href}" tabindex="-1" class="{kind}"><g transform="translate({place})">{shape}'
            f"<title>{title}</title></g></a>"
        )
    taken: list[tuple[float, float, float]] = []
    for name in found["names"]:
        text = name["name"] if len(name["name"]) < 30 else name["name"][:28] + "…"
        wide, x, y = 8.2 * len(text), across(name["x"]), down(name["y"])
        # Beside its mark, on the side with more room; moved up or down where another name stands.
        side = -1 if x > width / 2 else 1
        left = x + 11 if side > 0 else x - 11 - wide
        y += next((by for by in SHIFTS if not _meets(taken, left, y + by, wide)), 0) + 5
        taken.append((left, y - 5, wide))
        anchor = "start" if side > 0 else "end"
        parts.append(
            f'<text class="name" x="{at(x + 11 * side)}" y="{at(y)}" text-anchor="{anchor}">{escape(text)}</text>'
        )
    description = (
        f"{plural(len(found['points']), 'unit')}, near each other where they fire for the same films; the two axes hold "
        f"{percent(found['explained'])} of what the units differ in. The table below lists them."
    )
    return chart("map", width, height, f"Map of the units of {layer}", description, parts)


def _meets(taken: list[tuple[float, float, float]], left: float, y: float, wide: float) -> bool:
    """Tell whether a name would stand over another one: each with its left end, middle and width."""
    return any(abs(y - other) < 18 and left < end + size and end < left + wide for end, other, size in taken)


def mark(place: int | None) -> Markup:
    """Draw one mark of a map for its legend."""
    if place is None or place < 0:
        kind, shape = ("none" if place is None else "other"), f'<circle r="{4 if place is None else 3.4}"/>'
    else:
        kind, shape = f"m{place}", f'<path d="{MARKS[place]}"/>'
    return Markup(  # noqa: S704 - numbers only
        f'<svg class="mark" viewBox="-8 -8 16 16" aria-hidden="true" focusable="false"><g class="{kind}">{shape}</g></svg>'
    )
