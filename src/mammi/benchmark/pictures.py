"""The contest in pictures."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mammi.registry import import_extra

__all__ = ["draw_hits", "draw_risk", "draw_trade_off"]

#: Colours that stay apart for the colour-blind (Okabe and Ito, 2008), and shapes that stay apart in grey.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
_SHAPES = "osD^vP*XhH<>dp8"


def _figure(width: float, height: float) -> Any:  # noqa: ANN401 - matplotlib's figure
    """Return a figure that touches no global state of the plotting library."""
    figures = import_extra("matplotlib.figure", "plots")
    import_extra("matplotlib.backends.backend_agg", "plots")
    return figures.Figure(figsize=(width, height), layout="constrained", dpi=130)


def draw_hits(hits: pd.DataFrame, false: pd.DataFrame, path: Path) -> None:
    """Draw two heat maps: share named right first, and share of meaningless units named; kinds down, methods across."""
    rows = len(hits) + len(false)
    figure = _figure(1.8 + 0.75 * len(hits.columns), 1.6 + 0.3 * rows)
    axes = figure.subplots(2, 1, height_ratios=[len(hits), len(false)])
    for axis, table, title, colours in (
        (axes[0], hits, "Named right first (more is better)", "Blues"),
        (axes[1], false, "Named though they mean nothing (less is better)", "Oranges"),
    ):
        values = table.to_numpy(dtype=float)
        axis.imshow(values, cmap=colours, vmin=0, vmax=1, aspect="auto")
        for row, column in np.ndindex(values.shape):
            dark = values[row, column] > 0.55
            axis.text(
                *(column, row, "" if np.isnan(values[row, column]) else f"{values[row, column]:.2f}"),
                ha="center",
                va="center",
                fontsize=8,
                color="white" if dark else "black",
            )
        axis.set_yticks(range(len(table)), table.index, fontsize=8)
        axis.set_title(title, loc="left", fontsize=10)
        names = [name.replace(" (", "\n(") for name in table.columns]
        axis.set_xticks(range(len(names)), names if axis is axes[1] else [""] * len(names), fontsize=8, rotation=40)
        for label in axis.get_xticklabels():
            label.set_ha("right")
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
    figure.savefig(path)


def draw_trade_off(
    table: pd.DataFrame, meaning: list[str], nothing: list[str], qualities: list[str], path: Path
) -> None:
    """Draw, for each annotator, share of meaningful units named right against share of meaningless units named."""
    figure = _figure(3.3 * len(qualities) + 1.6, 3.6)
    axes = np.atleast_1d(figure.subplots(1, len(qualities), sharey=True))
    methods = list(dict.fromkeys(table["method"]))
    for axis, quality in zip(axes, qualities, strict=True):
        part = table[table["quality"] == quality].set_index(["method", "kind"])
        for place, method in enumerate(methods):
            right = part.loc[method].loc[meaning, "right"].mean()
            false = part.loc[method].loc[nothing, "named"].mean()
            axis.scatter(
                *(false, right),
                s=46,
                color=_COLOURS[place % len(_COLOURS)],
                marker=_SHAPES[place % len(_SHAPES)],
                label=method if axis is axes[0] else None,
                zorder=3,
            )
        axis.axvline(0.05, color="#999999", linewidth=0.8, linestyle="--")
        axis.set_title(quality, fontsize=10)
        axis.set_xlabel("meaningless units named", fontsize=9)
        axis.set_xlim(-0.04, 1.04)
        axis.set_ylim(-0.02, 1.02)
        axis.grid(color="#dddddd", linewidth=0.6)
        axis.tick_params(labelsize=8)
    axes[0].set_ylabel("meaningful units named right", fontsize=9)
    figure.legend(loc="outside right center", fontsize=8, frameon=False)
    figure.savefig(path)


def draw_risk(curves: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]], path: Path) -> None:
    """Draw the share of wrong names among the surest units, method by method."""
    figure = _figure(7.4, 4.2)
    axis = figure.subplots()
    for place, (method, (coverage, risk)) in enumerate(curves.items()):
        axis.plot(
            coverage,
            risk,
            color=_COLOURS[place % len(_COLOURS)],
            linestyle=("-", "--", ":")[place // len(_COLOURS) % 3],
            linewidth=2.4 if place == 0 else 1.2,
            label=method,
        )
    axis.set_xlabel("share of units, the surest first", fontsize=9)
    axis.set_ylabel("share of wrong names", fontsize=9)
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1)
    axis.grid(color="#dddddd", linewidth=0.6)
    axis.tick_params(labelsize=8)
    figure.legend(loc="outside right center", fontsize=8, frameon=False)
    figure.savefig(path)
