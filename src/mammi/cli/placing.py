"""``mammi where``: whether units are strong where the concepts they are named with were marked on films."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from mammi.cli.app import app, command, table
from mammi.cli.console import err, out, progress_bars
from mammi.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["where"]


@app.command()
@command
def where(
    run: Annotated[Path, typer.Argument(help="A run folder that 'mammi annotate' wrote.")],
    masks: Annotated[Path, typer.Option(help="A CSV of masks, boxes or polygons, see docs/dissection.md.")],
    layer: Annotated[str | None, typer.Option(help="A layer with maps; all of the run's by default.")] = None,
    target: Annotated[str | None, typer.Option(help="The network, where the run does not tell.")] = None,
    weights: Annotated[str | None, typer.Option(help="Its weights, with --target.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="Rows to print; 0 for all.")] = 20,
) -> None:
    """Compare where units are strong with where their concepts are marked: pointing game, overlap and side."""
    from mammi.data import MaskSet
    from mammi.explain.account import run_plan
    from mammi.explain.agreement import unit_agreement
    from mammi.explain.kept import keep
    from mammi.explain.models import load_target
    from mammi.store import open_run

    opened = open_run(run)
    marked = MaskSet.read(masks)
    network = load_target(opened, target, weights)
    if layer is None:
        layers = [name for name in opened.layers if run_plan(opened, network, name).layout != "vector"]
        if not layers:
            raise InputError(f"no layer of the run has maps ({', '.join(opened.layers)}): annotate one that has")
    else:
        layers = [layer]
    with progress_bars() as progress:
        tables = [unit_agreement(opened, network, marked, name, progress=progress) for name in layers]
    rows = [_plain(row) for found in tables for row in found.to_dict("records")]
    keep(opened, "places", {"notice": "A research and audit tool, not a diagnostic device.", "rows": rows})
    _show(tables, limit)
    err.print("kept with the run: 'mammi report' and 'mammi serve' show it on the pages of units", soft_wrap=True)


def _plain(row: dict[Any, Any]) -> dict[str, Any]:
    """Return a row as JSON takes it: null for NaN."""
    plain = {str(name): value.item() if hasattr(value, "item") else value for name, value in row.items()}
    return {name: None if isinstance(value, float) and value != value else value for name, value in plain.items()}  # noqa: PLR0124 - NaN alone differs from itself


def _show(tables: "list[pd.DataFrame]", limit: int) -> None:
    import pandas as pd

    found = pd.concat(tables, ignore_index=True).sort_values(["pointing", "n"], ascending=False, kind="stable")
    rows = table(
        *("unit", "concept", "films", "pointing", "95 % interval", "centre", "IoU", "side"),
        right=("films", "pointing", "centre", "IoU", "side"),
    )
    for row in found.head(limit or len(found)).to_dict("records"):
        rows.add_row(
            f"{escape(str(row['layer']))}:{row['unit']}",
            escape(str(row["concept"])),
            f"{row['n']:,}",
            *(_share(row["pointing"]), f"{_share(row['pointing_low'])} to {_share(row['pointing_high'])}"),
            *(_share(row[name]) for name in ("centre", "iou", "side")),
        )
    out.print(rows)
    if limit and len(found) > limit:
        err.print(f"{limit:,} of {len(found):,} pairs of a unit and a concept; --limit 0 shows all")


def _share(value: float) -> str:
    return "-" if value != value else f"{value:.2f}"  # noqa: PLR0124 - NaN alone differs from itself
