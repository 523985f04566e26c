"""``mammi compare``: two runs over the same films, for a person and for CI."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from mammi.cli.app import app, command, table
from mammi.cli.console import err, out

if TYPE_CHECKING:
    from mammi.comparison import Comparison, Estimate, LayerComparison

__all__ = ["compare"]


@app.command()
@command
def compare(
    run_a: Annotated[Path, typer.Argument(help="The run before: a folder that 'mammi annotate' wrote.")],
    run_b: Annotated[Path, typer.Argument(help="The run after, over the same films.")],
    layer_a: Annotated[
        str | None, typer.Option(help="A layer of RUN_A; without a layer, all of one name in both.")
    ] = None,
    layer_b: Annotated[str | None, typer.Option(help="A layer of RUN_B; the one of the same name by default.")] = None,
    min_correlation: Annotated[
        float, typer.Option(help="Units less alike than this do not match, where they are not the same by index.")
    ] = 0.5,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write everything to this file as JSON.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="Rows to print of each list; 0 for all.")] = 20,
    min_matched: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Exit with 1 if a smaller share of RUN_A's units is matched in a layer."),
    ] = None,
    min_same_names: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Exit with 1 if a smaller share of matched units keeps its name in a layer."),
    ] = None,
    max_lost: Annotated[
        int | None, typer.Option(min=0, help="Exit with 1 if a layer loses more concepts than this.")
    ] = None,
) -> None:
    """Compare two methods, layers or checkpoints: units matched, concepts gained and lost, with 95 % intervals."""
    from mammi.comparison import compare as compare_runs
    from mammi.store.files import write_json

    found = compare_runs(run_a, run_b, layer_a=layer_a, layer_b=layer_b, min_correlation=min_correlation)
    if json_file is not None:
        write_json(json_file, found.to_dict())
    _show_head(found)
    for layer in found.layers:
        _show_layer(layer, found.min_correlation, limit)
    failed = [line for layer in found.layers for line in _gates(layer, min_matched, min_same_names, max_lost)]
    for line in failed:
        err.print(f"mammi: gate failed: {line}", markup=False, soft_wrap=True)
    if failed:
        raise typer.Exit(1)


def _show_head(found: "Comparison") -> None:
    differs = f"A and B differ in: {', '.join(found.differs)}" if found.differs else "A and B have the same inputs"
    out.print(f"{found.n_films:,} films of {found.n_patients:,} patients. {differs}.", markup=False, soft_wrap=True)
    for note in found.notes:
        err.print(f"note: {note}", markup=False, soft_wrap=True)


def _show_layer(layer: "LayerComparison", least: float, limit: int) -> None:
    how = "the same units, by index" if layer.paired_by == "index" else f"units matched by correlation >= {least:g}"
    out.print(f"\n{layer.title}: {how}", markup=False, soft_wrap=True)
    by_index = layer.paired_by == "index"
    rows = table("", "A", "B", "B to A", "95 % interval", right=("A", "B", "B to A"))
    rows.add_row("units", *(f"{n:,}" for n in layer.n_units))
    rows.add_row("units that vary", *(f"{n:,}" for n in layer.n_varying))
    rows.add_row("units matched", "", "", f"{layer.n_matched:,}")
    if not by_index:
        rows.add_row("share of A's that vary", "", "", *_share(layer.matched))
    rows.add_row("median correlation", "", "", *_number(layer.correlation))
    if not by_index and not math.isnan(layer.chance_matched):
        rows.add_row("matched by chance, at most", "", "", f"{layer.chance_matched:.0%}")
        rows.add_row("best correlation by chance", "", "", f"{layer.chance_correlation:.2f}", "95 % of units below")
    a, b = layer.coverage_a, layer.coverage_b
    rows.add_row("units with a concept", _percent(a.value), _percent(b.value), *_share(layer.coverage_difference, "+"))
    rows.add_row("same name", "", "", *_share(layer.same_name))
    rows.add_row("a concept in common", "", "", *_share(layer.any_shared))
    rows.add_row("concepts in common (Jaccard)", "", "", *_number(layer.jaccard))
    if layer.effect_difference is not None:
        rows.add_row("effect of the first concept", "", "", *_number(layer.effect_difference, "+"))
    before, after = ((layer.concepts[side] > 0).sum() for side in ("before", "after"))
    moved = f"+{len(layer.gained):,} -{len(layer.lost):,}"
    rows.add_row("concepts", f"{before:,}", f"{after:,}", moved)
    out.print(rows)
    _show_lists(layer, limit)


def _show_lists(layer: "LayerComparison", limit: int) -> None:
    """Print the concepts gained and lost, the units renamed, and those without a partner."""
    moved = layer.concepts[layer.concepts["change"] != ""]
    columns = ["concept", "units of A", "units of B", ""]
    _show_rows("concepts gained and lost", columns, [list(row) for row in moved.itertuples(index=False)], limit)
    changed = [
        [
            f"{layer.layer_a}:{row['unit_a']}",
            f"{layer.layer_b}:{row['unit_b']}",
            _decimal(row["correlation"]),
            *(
                f"{row[f'name_{side}']}: {why}" if (why := row[f"reason_{side}"]) else row[f"name_{side}"]
                for side in "ab"
            ),
        ]
        for row in layer.changed.to_dict("records")
    ]
    _show_rows("names changed", ["A", "B", "r", "name in A", "name in B"], changed, limit)
    for side, name, frame in (("A", layer.layer_a, layer.units_lost), ("B", layer.layer_b, layer.units_gained)):
        alone = [
            [f"{name}:{row['unit']}", row["name"], _decimal(row["correlation"])] for row in frame.to_dict("records")
        ]
        _show_rows(f"units of {side} without a partner", ["unit", "name", "best r"], alone, limit)


def _show_rows(title: str, columns: list[str], cells: list[list[Any]], limit: int) -> None:
    if not cells:
        return
    shown = cells[: limit or None]
    count = f"{len(cells):,}" if len(shown) == len(cells) else f"{len(shown):,} of {len(cells):,}; --limit 0 shows all"
    out.print(f"\n{title} ({count})", markup=False)
    rows = table(*columns, right=("units of A", "units of B", "r", "best r"))
    for row in shown:
        rows.add_row(*(escape(str(cell)) for cell in row))
    out.print(rows)


def _decimal(value: float, sign: str = "") -> str:
    return "-" if math.isnan(value) else f"{value:{sign}.2f}"


def _percent(value: float, sign: str = "") -> str:
    return "-" if math.isnan(value) else f"{value:{sign}.0%}"


def _share(estimate: "Estimate", sign: str = "") -> tuple[str, str]:
    return _percent(estimate.value, sign), _interval(_percent(estimate.low, sign), _percent(estimate.high, sign))


def _number(estimate: "Estimate", sign: str = "") -> tuple[str, str]:
    return _decimal(estimate.value, sign), _interval(_decimal(estimate.low, sign), _decimal(estimate.high, sign))


def _interval(low: str, high: str) -> str:
    return "" if "-" in (low, high) else f"{low} to {high}"


def _gates(
    layer: "LayerComparison", min_matched: float | None, min_same_names: float | None, max_lost: int | None
) -> list[str]:
    """Return one line for each gate that a layer fails; a share of nothing fails."""
    lines = []
    if min_matched is not None and not layer.matched.value >= min_matched:
        share = _shown(layer.matched.value)
        lines.append(f"--min-matched {min_matched:g}: {share} of the units of A in {layer.title} are matched")
    if min_same_names is not None and not layer.same_name.value >= min_same_names:
        share = _shown(layer.same_name.value)
        lines.append(
            f"--min-same-names {min_same_names:g}: {share} of the matched units of {layer.title} keep their name"
        )
    if max_lost is not None and len(layer.lost) > max_lost:
        lines.append(f"--max-lost {max_lost}: {layer.title} lost {len(layer.lost)} concepts")
    return lines


def _shown(share: float) -> str:
    return "none that could be counted" if math.isnan(share) else f"{share:.3f}"
