"""``mammi show``, ``mammi report`` and the lists: looking at what there is."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from mammi.cli.app import app, command, table
from mammi.cli.console import err, out, progress_bars
from mammi.errors import InputError, MammiError

if TYPE_CHECKING:
    from mammi.explain.account import Account
    from mammi.store import Run
    from mammi.types import Progress

__all__ = ["methods", "report", "show", "targets"]

#: Behind a concept that its annotator could not tell in its self-test.
BLIND = " (not told in its check)"
RunArgument = Annotated[Path, typer.Argument(help="A run folder that 'mammi annotate' wrote.")]


@app.command()
@command
def show(
    run: RunArgument,
    layer: Annotated[str | None, typer.Option(help="One layer; all by default.")] = None,
    unit: Annotated[int | None, typer.Option(help="One unit of --layer, in full.")] = None,
    find: Annotated[str | None, typer.Option(help="Only units whose concepts hold these words.")] = None,
    limit: Annotated[int, typer.Option(help="Rows to print; 0 for all.")] = 40,
) -> None:
    """Print a run as a table: unit, concepts, scores, number of examples."""
    from mammi.explain.kept import kept as explained
    from mammi.store import open_run

    opened = open_run(run)
    blind = set((explained(opened, "checked") or {}).get("unseen", ()))
    if unit is not None:
        if layer is None:
            raise InputError("--unit needs --layer")
        out.print(str(opened.unit(layer, unit)), markup=False)
        return
    frame = opened.to_frame(layer)
    if find is not None:
        frame = opened.search(find).merge(frame, on=["layer", "unit"])
    has_outputs = bool((frame["output"] != "").any())
    columns = ["unit", *(["output"] if has_outputs else []), "concepts and scores", "examples"]
    printed = frame if limit == 0 else frame.head(limit)
    rows = table(*columns, right=("examples",))
    kept: dict[tuple[str, int], str] = {}
    for row in opened.annotations[opened.annotations["kept"]].to_dict("records"):
        key, text = (
            (row["layer"], row["unit"]),
            f"{row['concept']}{BLIND * (row['concept'] in blind)} {_certainty(row)}",
        )
        kept[key] = f"{kept[key]}; {text}" if key in kept else text
    for row in printed.to_dict("records"):
        found = kept.get((row["layer"], row["unit"]))
        concepts = found or f"no concept: {row['reason']}"
        if found and not found.startswith(row["name"]):
            concepts = f"{row['name']}: {found}"
        cells = [f"{row['layer']}:{row['unit']}", *([row["output"]] if has_outputs else []), concepts]
        rows.add_row(*map(escape, cells), f"{row['n_examples']:,}")
    out.print(rows)
    if len(printed) < len(frame):
        err.print(f"{len(printed):,} of {len(frame):,} units; --limit 0 shows all")


def _certainty(row: dict[Any, Any]) -> str:
    """Return effect and q-value of a kept concept where the method states them, else its score; and its sense."""
    sense = f"sense {row['sense']}" if row["sense"] else ""
    if math.isnan(row["effect"]) or math.isnan(row["q_value"]):
        return f"{row['score']:.3f}" + (f" ({sense})" if sense else "")
    q_value = "q < 0.001" if row["q_value"] < 0.001 else f"q {row['q_value']:.3f}"
    return f"{row['effect']:.2f} ({', '.join(filter(None, (q_value, sense)))})"


@app.command()
@command
def report(
    run: RunArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder to write; a name that ends with .html gives one page.")
    ],
    with_images: Annotated[
        bool, typer.Option("--with-images", help="Show the example films: pictures of patients.")
    ] = False,
) -> None:
    """Write a run as a folder of pages that opens from disk, or as one self-contained page."""
    from mammi.reports import write_report, write_report_folder
    from mammi.store import open_run

    opened = open_run(run)
    if output.suffix.lower() in (".html", ".htm"):
        with progress_bars() as progress:
            path = write_report(opened, output, with_images=with_images, progress=progress)
        out.print(f"report: {path}", markup=False, soft_wrap=True)
        return
    with progress_bars() as progress:
        account = _account(opened, progress)
        path = write_report_folder(opened, output, with_images=with_images, account=account, progress=progress)
    out.print(f"report: {path / 'index.html'}", markup=False, soft_wrap=True)


def _account(run: "Run", progress: "Progress") -> "Account | None":
    """Return how the outputs follow from the units, if the network is at hand; say why not, if not."""
    from mammi.explain.account import open_account
    from mammi.explain.models import load_target

    try:
        return open_account(run, load_target(run), progress=progress)
    except MammiError as error:
        err.print(f"note: what decides a class is left out: {error}", markup=False, soft_wrap=True)
        return None


def _list(entries: list[tuple[str, str]]) -> None:
    rows = table("name", "what it is")
    for name, summary in entries:
        rows.add_row(escape(name), escape(summary))
    out.print(rows)


@app.command()
@command
def targets() -> None:
    """List the kinds of network that can be annotated."""
    from mammi.targets import list_targets

    _list(list_targets())


@app.command()
@command
def methods() -> None:
    """List the methods and their options with the published defaults."""
    from mammi.methods import list_methods
    from mammi.methods.base import method_options

    for name, summary in list_methods():
        out.print(f"{name}: {summary}", markup=False, soft_wrap=True)
        for option, default in method_options(name).items():
            out.print(f"  --option {option}={default}", markup=False)
