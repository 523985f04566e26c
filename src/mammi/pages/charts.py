"""Charts as SVG: attributes and classes only, no style, no script, so that a strict content security policy lets them be.

A chart that stands alone has a role, a title and a description. A bar in a table is hidden from a screen reader: the
number stands in the cell beside it. Colour never says anything alone: sign is also side, kind is also shape.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from mammi.pages.words import count, decimals, number, percent, plural

__all__ = ["at", "bar", "chart", "coverage", "curve", "histogram", "interval", "spoken", "step", "steps"]


def chart(name: str, width: int, height: int, title: str, description: str, parts: Sequence[str]) -> Markup:
    """Put parts into a frame that a screen reader announces by its title and description."""
    return Markup(  # noqa: S704 - numbers, and words that are escaped
        f'<svg class="chart {escape(name)}" viewBox="0 0 {width} {height}" role="img" '
        f'aria-labelledby="{escape(name)}-t {escape(name)}-d"><title id="{escape(name)}-t">{escape(title)}</title>'
        f'<desc id="{escape(name)}-d">{escape(description)}</desc>{"".join(parts)}</svg>'
    )


def at(value: float) -> str:
    """Write a place in a chart, to a hundredth."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _row(parts: Sequence[str], name: str = "") -> Markup:
    """Put parts into a bar that fills its cell: 100 wide, 10 high, stretched."""
    return Markup(  # noqa: S704 - numbers only
        f'<svg class="bar {name}" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true" focusable="false">'
        f"{''.join(parts)}</svg>"
    )


def bar(value: float | None, largest: float | None, *, signed: bool = False, kind: str = "") -> Markup:
    """Draw one bar of a table.

    Args:
        value: how long.
        largest: the value that fills the cell, above 0.
        signed: whether zero lies in the middle, so that the side tells the sign.
        kind: one more class.
    """
    zero = 50.0 if signed else 0.0
    parts = [f'<line class="zero" x1="{at(zero)}" x2="{at(zero)}" y1="0" y2="10"/>'] if signed else []
    if value is not None and largest:
        reach = max(-1.0, min(1.0, value / largest)) * (50 if signed else 100)
        reach = reach if signed else max(reach, 0.0)
        side = ("minus" if reach < 0 else "plus") if signed else "amount"
        parts.append(
            f'<rect class="{side} {escape(kind)}" x="{at(min(zero, zero + reach))}" y="1" width="{at(abs(reach))}" '
            'height="8"/>'
        )
    return _row(parts)


def interval(
    value: float | None, low: float | None, high: float | None, least: float, most: float, *, mark: float | None = None
) -> Markup:
    """Draw a number with its interval on a scale, and where chance or zero lies.

    Args:
        value: the number.
        low: lower bound.
        high: upper bound; None draws the number alone.
        least: left end of the scale.
        most: right end.
        mark: where a line is drawn; None for zero, if it is on the scale.
    """

    def place(number: float) -> str:
        return at(100 * max(0.0, min(1.0, (number - least) / (most - least))))

    mark = 0.0 if mark is None else mark
    parts = []
    if least <= mark <= most:
        parts.append(f'<line class="zero" x1="{place(mark)}" x2="{place(mark)}" y1="0" y2="10"/>')
    if value is not None:
        side = "minus" if value < mark else "plus"
        if low is not None and high is not None:
            parts.append(f'<line class="{side} whisker" x1="{place(low)}" x2="{place(high)}" y1="5" y2="5"/>')
        parts.append(f'<line class="{side} dot" x1="{place(value)}" x2="{place(value)}" y1="5" y2="5"/>')
    return _row(parts, "interval")


def coverage(named: int, units: int) -> Markup:
    """Draw how many of the units have a name: filled from the left, an outline where there is none."""
    share = 100 * named / units if units else 0.0
    return _row(
        [
            '<rect class="rest" x="0" y="1" width="100" height="8"/>',
            f'<rect class="amount" x="0" y="1" width="{at(share)}" height="8"/>',
        ]
    )


def steps(parts: Sequence[Mapping[str, Any]], total: float | None = None) -> dict[str, Any]:
    """Lay out parts that add up: each starts where the one before ended, and the sum stands from zero.

    Args:
        parts: each with ``label`` and ``value``, in the order of adding (the bias first); anything else is passed on.
        total: what the parts should add up to; None for their sum.

    Returns:
        ``rows``: the parts with ``start`` and ``end``; ``total``; ``left`` is what the parts leave of it; ``low`` and
        ``high``: the ends of the scale.
    """
    reached, rows = 0.0, []
    for part in parts:
        rows.append({**part, "start": reached, "end": reached + float(part["value"])})
        reached += float(part["value"])
    total = reached if total is None else float(total)
    ends = [0.0, total, *(row["end"] for row in rows)]
    return {"rows": rows, "total": total, "left": total - reached, "low": min(ends), "high": max(ends)}


def step(start: float, end: float, low: float, high: float, *, whole: bool = False) -> Markup:
    """Draw one part of `steps`: from where the parts before it ended to where it ends."""
    width = (high - low) or 1.0
    a, b, zero = (100 * (value - low) / width for value in (start, end, 0.0))
    kind = "whole" if whole else "minus" if b < a else "plus"
    return _row(
        [
            f'<line class="zero" x1="{at(zero)}" x2="{at(zero)}" y1="0" y2="10"/>',
            f'<rect class="{kind}" x="{at(min(a, b))}" y="1" width="{at(max(abs(b - a), 0.4))}" height="8"/>',
        ]
    )


def histogram(found: Mapping[str, Any]) -> Markup:
    """Draw how many films excite a unit how much, with the examples marked.

    Args:
        found: ``counts`` of equal bins from ``low`` to ``high``, ``median``, and the activations of the ``examples``.
    """
    counts, low, high = found["counts"], found["low"], found["high"]
    films = sum(counts)
    left, right, top, bottom = 44, 632, 26, 190
    # Most films excite a unit little: on a linear scale the few that matter would not be seen.
    most = math.log10(1 + max(counts, default=1))

    def across(value: float) -> float:
        return left + (right - left) * ((value - low) / (high - low) if high > low else 0.5)

    def up(films: float) -> float:
        return bottom - (bottom - top) * math.log10(1 + films) / most

    parts = []
    for power in range(int(math.log10(max(counts, default=1))) + 1):
        level = at(up(10**power))
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{level}" y2="{level}"/>')
        parts.append(f'<text x="{left - 6}" y="{level}" dy=".35em" text-anchor="end">{count(10**power)}</text>')
    width = (right - left) / len(counts)
    for place, films_in in enumerate(counts):
        if films_in:
            y = up(films_in)
            parts.append(
                f'<rect class="count" x="{at(left + place * width + 0.5)}" y="{at(y)}" width="{at(max(width - 1, 1))}" '
                f'height="{at(bottom - y)}"/>'
            )
    parts.append(f'<line class="axis" x1="{left}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    shown = [value for value in found["examples"] if value is not None]
    parts += [f'<path class="example" d="M{at(across(value))} {bottom + 3}l5 9h-10z"/>' for value in shown]
    for value, anchor in ((low, "start"), (high, "end")):
        parts.append(f'<text x="{at(across(value))}" y="{bottom + 30}" text-anchor="{anchor}">{number(value)}</text>')
    middle = across(found["median"])
    parts.append(f'<line class="median" x1="{at(middle)}" x2="{at(middle)}" y1="{top - 6}" y2="{bottom}"/>')
    anchor = "start" if middle < (left + right) / 2 else "end"
    shift = 5 if anchor == "start" else -5
    parts.append(
        f'<text x="{at(middle + shift)}" y="{top}" text-anchor="{anchor}">median {number(found["median"])}</text>'
    )
    description = (
        f"{plural(films, 'film')} from {number(low)} to {number(high)}, median {number(found['median'])}; "
        f"the examples lie from {number(min(shown, default=None))} on. Heights on a logarithmic scale."
    )
    return chart("histogram", 640, 226, "How many films excite the unit how much", description, parts)


def curve(xs: Sequence[float], ys: Sequence[float]) -> Markup:
    """Draw the risk-coverage curve: the share of wrong names among the surest ones, the further right the less sure."""
    left, right, top, bottom = 52, 632, 14, 230
    points = [(left + (right - left) * x, bottom - (bottom - top) * y) for x, y in zip(xs, ys, strict=True)]
    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = at(bottom - (bottom - top) * share)
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{left - 6}" y="{y}" dy=".35em" text-anchor="end">{percent(share)}</text>')
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        x = at(left + (right - left) * share)
        parts.append(f'<text x="{x}" y="{bottom + 22}" text-anchor="{anchor}">{percent(share)}</text>')
    line = " ".join(f"{at(x)},{at(y)}" for x, y in points)
    parts.append(f'<polyline class="curve" points="{line}"/>')
    parts += [f'<circle class="at" cx="{at(x)}" cy="{at(y)}" r="3"/>' for x, y in points[-1:]]
    description = (
        f"Of the surest name {percent(ys[0])} are wrong, of the surest half {percent(ys[(len(ys) - 1) // 2])}, "
        f"of all {percent(ys[-1])}."
    )
    return chart("risk", 640, 262, "Share of wrong names among the surest", description, parts)


def spoken(value: float | None, low: float | None, high: float | None, places: int = 2) -> str:
    """Write a number with its interval: ``0.71 (0.60 to 0.80)``."""
    if low is None or high is None:
        return decimals(value, places)
    return f"{decimals(value, places)} ({decimals(low, places)} to {decimals(high, places)})"
