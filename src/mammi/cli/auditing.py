"""``mammi audit`` and ``mammi ablate``: what the units see besides the findings, and what hangs on them."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from mammi.cli.app import app, command, table
from mammi.cli.console import err, out, progress_bars
from mammi.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from mammi.explain.ablation_result import Ablation
    from mammi.explain.account import Account
    from mammi.explain.audit_result import Audit

__all__ = ["ablate", "audit"]

RunArgument = Annotated[Path, typer.Argument(help="A run folder that 'mammi annotate' wrote.")]
MetadataOption = Annotated[
    Path | None,
    typer.Option(
        help="A CSV with a column for the image and one for each attribute; without it, the run's own labels."
    ),
]
ClassOption = Annotated[list[str] | None, typer.Option("--class", help="An output; several times for several.")]
LayerOption = Annotated[str | None, typer.Option(help="A layer of the run; the deepest that is no output by default.")]
TargetOption = Annotated[
    str | None, typer.Option(help="The network, as for 'mammi annotate', where the run does not tell.")
]
WeightsOption = Annotated[str | None, typer.Option(help="Its weights, with --target.")]
LevelOption = Annotated[float, typer.Option(help="False discovery rate below which a unit reacts.")]
SeedOption = Annotated[int, typer.Option(help="Of the draws of patients and of units.")]
JsonOption = Annotated[Path | None, typer.Option("--output", "-o", help="Write everything to this file as JSON.")]
LimitOption = Annotated[int, typer.Option(min=0, help="Rows to print of each list; 0 for all.")]


@app.command()
@command
def audit(
    run: RunArgument,
    metadata: MetadataOption = None,
    attribute: Annotated[
        list[str] | None, typer.Option(help="A column of the table; several times for several; all by default.")
    ] = None,
    classes: ClassOption = None,
    layer: LayerOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write everything to this file: .json, or .html, one page.")
    ] = None,
    level: LevelOption = 0.05,
    target: TargetOption = None,
    weights: WeightsOption = None,
    seed: SeedOption = 0,
    limit: LimitOption = 10,
) -> None:
    """Say which units react to view, sex, scanner, a device, and how much of each output's logit goes through them."""
    from mammi.explain.audit import audit as audit_account
    from mammi.explain.kept import keep
    from mammi.reports import write_audit_page

    _check_ending(output, ".json", ".html")
    with progress_bars() as progress:
        account = _account(run, layer, target, weights, progress)
        found = audit_account(
            *(account, metadata), attributes=attribute, classes=classes, level=level, seed=seed, progress=progress
        )
    keep(account.run, "audit", found.to_dict())
    if output is not None and output.suffix.lower() == ".html":
        write_audit_page(account.run, found.to_dict(), output)
    else:
        _write(output, found.to_dict())
    _show_audit(found, limit)
    err.print("kept with the run: 'mammi report' and 'mammi serve' show it", soft_wrap=True)


@app.command()
@command
def ablate(
    run: RunArgument,
    units: Annotated[
        str | None, typer.Option(help="Units of one layer, joined by commas: layer3:12,layer3:40.")
    ] = None,
    concept: Annotated[str | None, typer.Option(help="All units that keep a concept with these words.")] = None,
    attribute: Annotated[
        str | None,
        typer.Option(help="All units that react to this column, at the same finding where --class is given."),
    ] = None,
    metadata: MetadataOption = None,
    classes: ClassOption = None,
    layer: LayerOption = None,
    to: Annotated[
        str, typer.Option(help="What the units are held at: mean (over the films of the run) or zero.")
    ] = "mean",
    films: Annotated[
        int | None, typer.Option(min=1, help="Look at this many films, evenly spaced; all by default.")
    ] = None,
    output: JsonOption = None,
    level: LevelOption = 0.05,
    target: TargetOption = None,
    weights: WeightsOption = None,
    seed: SeedOption = 0,
    limit: LimitOption = 10,
) -> None:
    """Hold some units at a value on every film, and say what it does to each output, beside random units."""
    from mammi.explain.ablation import ablate as ablate_units
    from mammi.explain.ablation import units_named
    from mammi.explain.audit import audit as audit_account

    if sum(given is not None for given in (units, concept, attribute)) != 1:
        raise InputError("say which units: one of --units, --concept and --attribute")
    _check_ending(output, ".json")
    named_layer, chosen = _units(units) if units is not None else (layer, [])
    if layer is not None and named_layer != layer:
        raise InputError(f"--units names units of {named_layer!r}, --layer is {layer!r}: leave --layer out")
    with progress_bars() as progress:
        account = _account(run, named_layer, target, weights, progress)
        attributes: Any = ()
        if concept is not None:
            chosen = units_named(account, concept)
        elif attribute is not None:
            audited = audit_account(
                *(account, metadata), attributes=[attribute], classes=classes, level=level, seed=seed, progress=progress
            )
            attributes = audited.attributes
            of: list[str | None] = [account.outputs[account.output(name)] for name in classes or []]
            chosen = sorted({unit for name in of or [None] for unit in audited.reacting(output=name)})
            if not chosen:
                raise InputError(
                    f"no unit of {account.layer} reacts to {attribute!r} (q < {level:g}): nothing to take out"
                )
        found = ablate_units(
            *(account, chosen), to=to, classes=classes, attributes=attributes, films=films, seed=seed, progress=progress
        )
    _write(output, found.to_dict())
    _note_patients(bool(account.run.manifest["images"]["patients_known"]))
    _show_ablation(found, limit)


def _note_patients(known: bool) -> None:
    if not known:
        err.print("note: patients are not known: every film counts as one, intervals are too narrow", soft_wrap=True)


def _account(run: Path, layer: str | None, spec: str | None, weights: str | None, progress: Any) -> "Account":  # noqa: ANN401
    """Open a run and its network."""
    from mammi.explain.account import open_account
    from mammi.explain.models import load_target
    from mammi.store import open_run

    opened = open_run(run)
    return open_account(opened, load_target(opened, spec, weights), layer, progress=progress)


def _units(text: str) -> tuple[str, list[int]]:
    """Read ``layer3:12,layer3:40``."""
    pairs = [part.strip().rpartition(":") for part in text.split(",") if part.strip()]
    layers = {layer for layer, _, _ in pairs}
    if len(layers) != 1 or "" in layers or not all(unit.isdigit() for _, _, unit in pairs):
        raise InputError(f"--units must name units of one layer as layer3:12,layer3:40, got {text!r}")
    return layers.pop(), [int(unit) for _, _, unit in pairs]


def _check_ending(path: Path | None, *endings: str) -> None:
    """Refuse a file that could not be written as asked, before the work."""
    if path is not None and path.suffix.lower() not in endings:
        raise InputError(f"--output must be a {' or '.join(endings)} file, got {path.name!r}")


def _write(path: Path | None, content: dict[str, Any]) -> None:
    from mammi.store.files import write_json

    if path is not None:
        write_json(path, content)


def _show_audit(found: "Audit", limit: int) -> None:
    from mammi.explain.audit_result import CAUTION

    for note in found.notes:
        err.print(f"note: {note}", markup=False, soft_wrap=True)
    _note_patients(found.patients_known)
    if not found.exact:
        err.print("note: contributions are gradient times activation on a sample of the films: shares need not add up")
    gaps = found.gaps[found.gaps["films"] != "with"]
    clear = gaps[(gaps["low"] > 0) | (gaps["high"] < 0)].sort_values("gap", key=lambda gap: -gap.abs(), kind="stable")
    shown = clear.head(limit or len(clear))
    rows = table(
        *("attribute", "class", "films", "logit gap", "95 % interval", "units", "they carry", "95 % interval", "share"),
        right=("logit gap", "units", "they carry", "share"),
    )
    for row in shown.to_dict("records"):
        rows.add_row(
            *(escape(str(row[name])) for name in ("attribute", "output", "films")),
            *(_signed(row["gap"]), _between(row, "low", "high"), f"{row['n_units']:,}"),
            *(_signed(row["carried"]), _between(row, "carried_low", "carried_high"), _percent(row["share"])),
        )
    if len(shown):
        out.print(rows)
    if len(shown) < len(clear):
        err.print(f"{len(shown):,} of {len(clear):,} gaps whose interval leaves out 0; --limit 0 shows all")
    together = found.confounders[found.confounders["r"].abs() >= 0.2]
    if len(together):
        out.print("\ngo together (r):", markup=False)
        for row in together.head(limit or len(together)).to_dict("records"):
            out.print(f"  {row['r']:+.2f}  {row['attribute']} and {row['goes_with']}", markup=False, soft_wrap=True)
    out.print()
    for sentence in [*found.sentences, CAUTION]:
        out.print(sentence, markup=False, soft_wrap=True)


def _show_ablation(found: "Ablation", limit: int) -> None:
    named = [f"{found.layer}:{unit} {name}" for unit, name in zip(found.units, found.names, strict=True)]
    more = f", and {len(named) - limit:,} more" if limit and len(named) > limit else ""
    out.print(f"held: {', '.join(named[: limit or None])}{more}", markup=False, soft_wrap=True)
    changes = found.changes
    changes = changes[(changes["films"] != "all") | ~changes["output"].isin(found.areas["output"])]
    order = changes.assign(size=changes["change"].abs()).sort_values("size", ascending=False, kind="stable")
    rows = table(
        *(
            "class",
            "films",
            "logit",
            "change",
            "95 % interval",
            "random sets",
            "furthest",
            "share as far",
            "probability",
        ),
        right=("logit", "change", "random sets", "furthest", "share as far", "probability"),
    )
    for row in order.head(limit or len(order)).to_dict("records"):
        rows.add_row(
            *(escape(row["output"]), row["films"], _signed(row["logit"]), _signed(row["change"])),
            *(_between(row, "low", "high"), _signed(row["random_mean"]), _signed(row["random_extreme"])),
            *(_share(row["random_share"]), _signed(row["probability_change"])),
        )
    out.print(rows)
    _show_areas(found.areas, limit)
    _show_gaps(found.gaps, limit)
    out.print()
    for sentence in found.sentences:
        out.print(sentence, markup=False, soft_wrap=True)


def _show_areas(areas: "pd.DataFrame", limit: int) -> None:
    if not len(areas):
        return
    order = areas.assign(size=areas["change"].abs()).sort_values("size", ascending=False, kind="stable")
    rows = table(
        *("class", "AUC", "after", "change", "95 % interval", "random sets", "share as far"),
        right=("AUC", "after", "change", "random sets", "share as far"),
    )
    for row in order.head(limit or len(order)).to_dict("records"):
        rows.add_row(
            *(escape(row["output"]), f"{row['before']:.3f}", f"{row['after']:.3f}", f"{row['change']:+.3f}"),
            *(_between(row, "low", "high", 3), f"{row['random_mean']:+.3f}", _share(row["random_share"])),
        )
    out.print()
    out.print(rows)


def _show_gaps(gaps: "pd.DataFrame", limit: int) -> None:
    clear = gaps[(gaps["before_low"] > 0) | (gaps["before_high"] < 0)]
    if not len(clear):
        return
    order = clear.assign(size=clear["before"].abs()).sort_values("size", ascending=False, kind="stable")
    rows = table(
        *("attribute", "class", "films", "logit gap", "after", "95 % interval", "random sets", "share as far"),
        right=("logit gap", "after", "random sets", "share as far"),
    )
    for row in order.head(limit or len(order)).to_dict("records"):
        rows.add_row(
            *(escape(row[name]) for name in ("attribute", "output", "films")),
            *(_signed(row["before"]), _signed(row["after"]), _between(row, "after_low", "after_high")),
            *(_signed(row["before"] + row["random_mean"]), _share(row["random_share"])),
        )
    out.print()
    out.print(rows)


def _signed(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:+.2f}"


def _between(row: dict[Any, Any], low: str, high: str, digits: int = 2) -> str:
    return "" if math.isnan(row[low]) else f"{row[low]:+.{digits}f} to {row[high]:+.{digits}f}"


def _percent(value: float) -> str:
    return "" if math.isnan(value) else f"{round(100 * value)}%"  # a whole number: there is no -0


def _share(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"
