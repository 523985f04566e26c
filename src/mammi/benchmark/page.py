"""The results of a contest as a page: tables in Markdown, pictures, and every number as JSON."""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest

from mammi.benchmark.material import BAR
from mammi.benchmark.pictures import draw_hits, draw_risk, draw_trade_off
from mammi.benchmark.planting import KINDS, MEANINGLESS
from mammi.functional.truth_ranks import risk_coverage
from mammi.store.files import write_atomic, write_json

__all__ = ["summary", "write_page"]

#: Two shares that differ by less are the same but for rounding.
_TIE = 1e-9
#: A method is level with the best if chance explains their difference on the same units this often.
_LEVEL = 0.05
#: Shares of all units at which the risk is stated.
RISK_AT = (0.1, 0.2, 0.3, 0.5)


def summary(results: pd.DataFrame) -> pd.DataFrame:
    """Return shares per quality, method and kind: ``units, hit1, hit5, named, right``; means over all their units."""
    groups = results.groupby(["quality", "method", "kind"], sort=False)
    table = groups[["hit1", "hit5", "named", "right"]].mean()
    return table.assign(units=groups.size()).reset_index()


def _grid(table: pd.DataFrame, kinds: list[str], methods: list[str], column: str) -> pd.DataFrame:
    return table.pivot(index="kind", columns="method", values=column).reindex(index=kinds, columns=methods)


def _markdown(
    grid: pd.DataFrame, units: "pd.Series[int]", *, best: str, level: pd.DataFrame | None = None
) -> list[str]:
    """Write a grid with the best of each row in bold, and what is level with it in italics.

    Args:
        grid: kinds down, methods across.
        units: number of units of each kind.
        best: ``high`` or ``low``.
        level: whether each is level with the best of its row.
    """
    lines = [
        "| | units | " + " | ".join(grid.columns) + " |",
        "|---|---|" + "---|" * len(grid.columns),
    ]
    for kind in map(str, grid.index):
        values = grid.loc[kind].to_numpy(dtype=float)
        wanted = np.nanmax(values) if best == "high" else np.nanmin(values)
        near = np.zeros(len(values), dtype=bool) if level is None else level.loc[kind].to_numpy(dtype=bool)
        cells = [
            f"**{value:.2f}**" if abs(value - wanted) < _TIE else f"*{value:.2f}*" if same else _share(float(value))
            for value, same in zip(values, near, strict=True)
        ]
        lines.append(f"| {kind} | {units[kind]} | " + " | ".join(cells) + " |")
    return lines


def _level(results: pd.DataFrame, hits: pd.DataFrame) -> pd.DataFrame:
    """Tell which methods are level with the best of their kind: exact sign test over the same units, p above 0.05."""
    level = pd.DataFrame(False, index=hits.index, columns=hits.columns)
    for kind in hits.index:
        rows = results[results["kind"] == kind]
        # Every method judges the same units of a seed in the same order.
        place = rows.groupby(["method", "seed"]).cumcount()
        by_unit = rows.assign(place=place).pivot(index=["seed", "place"], columns="method", values="hit1")
        best = by_unit[hits.loc[kind].astype(float).idxmax()]
        for method in by_unit.columns:
            won, lost = int((by_unit[method] > best).sum()), int((by_unit[method] < best).sum())
            level.loc[kind, method] = won + lost == 0 or binomtest(won, won + lost).pvalue > _LEVEL
    return level


def _share(value: float) -> str:
    """Write a share; a dash for what was not tried."""
    return "-" if np.isnan(value) else f"{value:.2f}"


def _kinds(table: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Return the kinds with a concept and those without, planted ones first."""
    seen = list(dict.fromkeys(table["kind"]))
    meaning = [kind for kind in KINDS if kind in seen]
    nothing = [kind for kind in MEANINGLESS if kind in seen]
    real = [kind for kind in seen if kind not in KINDS and kind not in MEANINGLESS]
    untrained = [kind for kind in real if kind.startswith("untrained")]
    return meaning + [kind for kind in real if kind not in untrained], nothing + untrained


def write_page(results: pd.DataFrame, folder: Path, settings: dict[str, Any]) -> Path:
    """Write ``benchmark.md``, ``benchmark.json`` and the pictures that the page shows.

    Args:
        results: what `run_contest` returned.
        folder: where to write; pictures go into ``pictures/`` below it.
        settings: what the contest was held on: ``films`` drawn a seed, ``kept`` of them, ``seeds``, ``concepts``,
            ``cores`` and ``seconds``.

    Returns:
        The path of the page.
    """
    table = summary(results)
    qualities = list(dict.fromkeys(table["quality"]))
    methods = list(dict.fromkeys(table["method"]))
    clear = table[table["quality"] == qualities[0]]
    meaning, nothing = _kinds(clear)
    units = clear.drop_duplicates("kind").set_index("kind")["units"]
    hits = _grid(clear, meaning, methods, "hit1")
    false = _grid(clear, nothing, methods, "named")
    zero_shot = results.groupby("quality", sort=False)["zero_shot"].mean()
    picture = folder / "pictures"
    picture.mkdir(parents=True, exist_ok=True)
    draw_hits(hits, false, picture / "benchmark-hits.png")
    # What was tried on a few kinds only has no mean over kinds.
    everywhere = [method for method in methods if not hits[method].isna().any()]
    curves = _risk(results[results["quality"] == qualities[0]], everywhere)
    draw_trade_off(
        table[table["method"].isin(everywhere)], meaning, nothing, qualities, picture / "benchmark-trade-off.png"
    )
    draw_risk(curves, picture / "benchmark-risk.png")
    lines = [
        _INTRODUCTION.format(
            films=f"{settings['films']:,}",
            bar=BAR,
            seeds=len(settings["seeds"]),
            kept=f"{settings['kept']:,}",
            concepts=settings["concepts"],
            machine=f"{platform.machine()}, {settings['cores']} cores",
            seconds=f"{settings['seconds']:,.0f}",
            version=version("mammi"),
            zero_shot="; ".join(f"{quality}: {float(zero_shot[quality]):.3f}" for quality in qualities),
        ),
        "## Named right first",
        "",
        *_markdown(hits, units, best="high", level=_level(results[results["quality"] == qualities[0]], hits)),
        "",
        _KINDS_TEXT,
        *[f"- **{kind}**: {KINDS[kind]}" for kind in meaning if kind in KINDS],
        "",
        "![Share named right first, and share of meaningless units named](pictures/benchmark-hits.png)",
        "",
        "## Named though they mean nothing",
        "",
        *_markdown(false, units, best="low"),
        "",
        _NOTHING_TEXT,
        *[f"- **{kind}**: {MEANINGLESS[kind]}" for kind in nothing if kind in MEANINGLESS],
        "- **untrained ...**: the layers of a network with random weights (another draw than the control's)",
        "",
        "## In the first five",
        "",
        *_markdown(_grid(clear, meaning, methods, "hit5"), units, best="high"),
        "",
        "## Named at all, and named right",
        "",
        _COVERAGE_TEXT,
        "",
        *_coverage(clear, meaning, methods),
        "",
        "## Risk and coverage",
        "",
        _RISK_TEXT.format(nothing=float(results["hit1"].isna().mean())),
        "",
        "| method | " + " | ".join(f"surest {share:.0%}" for share in RISK_AT) + " | all it names | of all units |",
        "|---|" + "---|" * (len(RISK_AT) + 2),
        *[f"| {method} | " + " | ".join(_risks(*curve)) + " |" for method, curve in curves.items()],
        "",
        "![Share of wrong names among the surest units](pictures/benchmark-risk.png)",
        "",
        "## Worse annotators",
        "",
        _QUALITY_TEXT,
        "",
        *_by_quality(table, meaning, nothing, everywhere, qualities),
        "",
        "![False names against right names](pictures/benchmark-trade-off.png)",
        "",
        "## Time",
        "",
        "| method | milliseconds a unit |",
        "|---|---|",
        *[
            f"| {method} | {1000 * float(results.loc[results['method'] == method, 'seconds'].mean()):.2f} |"
            for method in methods
        ],
    ]
    page = folder / "benchmark.md"
    write_atomic(page, lambda file: file.write(("\n".join(lines) + "\n").encode()))
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    write_json(folder / "benchmark.json", {**settings, "results": rows})
    return page


def _risk(results: pd.DataFrame, methods: list[str]) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return coverage and risk of each method over the units that it names, those that mean nothing among them."""
    curves = {}
    for method in methods:
        rows = results[results["method"] == method]
        named = rows[rows["named"] == 1]
        sure = torch.from_numpy(named["confidence"].to_numpy(dtype=np.float64, copy=True))
        right = torch.from_numpy((named["right"] == 1).to_numpy(copy=True))
        coverage, risk = risk_coverage(sure, right)
        curves[method] = (coverage.numpy() * len(named) / len(rows), risk.numpy())
    return curves


def _risks(coverage: NDArray[np.float64], risk: NDArray[np.float64]) -> list[str]:
    """Return the risk at each share of units, at all that are named, and what share they are."""
    if not len(risk):
        return ["-"] * len(RISK_AT) + ["-", "0.00"]
    at = [f"{risk[np.searchsorted(coverage, share)]:.2f}" if coverage[-1] >= share else "-" for share in RISK_AT]
    return [*at, f"{risk[-1]:.2f}", f"{coverage[-1]:.2f}"]


def _coverage(table: pd.DataFrame, kinds: list[str], methods: list[str]) -> list[str]:
    named, right = (_grid(table, kinds, methods, column) for column in ("named", "right"))
    lines = ["| | " + " | ".join(methods) + " |", "|---|" + "---|" * len(methods)]
    for kind in kinds:
        cells = [f"{_share(n)} / {_share(r)}" for n, r in zip(named.loc[kind], right.loc[kind], strict=True)]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return lines


def _by_quality(
    table: pd.DataFrame, meaning: list[str], nothing: list[str], methods: list[str], qualities: list[str]
) -> list[str]:
    lines = ["| annotator | " + " | ".join(methods) + " |", "|---|" + "---|" * len(methods)]
    for quality in qualities:
        part = table[table["quality"] == quality]
        hits = _grid(part, meaning, methods, "hit1").mean()
        false = _grid(part, nothing, methods, "named").mean()
        lines.append(
            f"| {quality} | " + " | ".join(f"{hits[method]:.2f} / {false[method]:.2f}" for method in methods) + " |"
        )
    return lines


_INTRODUCTION = """# Benchmark: planted truth

Written by `mammi benchmark`: every method names units whose concept is known because we made them. Drawn films
({films} a seed, {kept} after four labels were made rare, {seeds} seeds), {concepts} concepts built from the films' reports,
the [embedded annotator](phantoms.md) (mean area under the ROC curve over the labels: {zero_shot}).
mammi {version}, {machine}, {seconds} s in all.

A method's first name is the first concept it keeps, or, where it keeps none, the one it scores highest: so a method that
abstains is measured on what it would have said. For units that fire when something is absent, only a name that says so
is right. Every real layer's truth is the label that explains the unit best on other films, if they correlate by {bar:g} or
more there. The best of each row is in bold; in italics what is level with it (exact sign test over the same units,
p > 0.05). Dead and constant units never reach a method: `mammi` leaves them out for all.
"""
_KINDS_TEXT = """What the units do (strengths vary from film to film by 0.6 to 1.4, noise of 0.25 unless said otherwise):
"""
_NOTHING_TEXT = """Every name here is false. Only `calibrated` states a rate (of the units of a layer that it names, 5 %
are named by chance); the others name what they are given, or nothing by the sign of a score.
"""
_COVERAGE_TEXT = """Share of units named / share of units named right. A method that abstains trades one for the other;
`calibrated` asks more of a name than the null: more effect than any unit of an untrained network shows."""
_RISK_TEXT = """Units of every kind together, the surest first: the share of wrong names among the names given, where a name of a
unit that means nothing is wrong. A method's confidence is its effect where it states one, else its score. A curve ends where
the method has named all that it names; {nothing:.0%} of the units mean nothing."""
_QUALITY_TEXT = """The films' embeddings blurred by noise of so many times their length. Mean over kinds of: named right first
/ named though they mean nothing."""
