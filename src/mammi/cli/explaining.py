"""``mammi explain``: one film, its predictions, and what each unit adds to them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from mammi.cli.app import app, command, table
from mammi.cli.console import err, out, progress_bars
from mammi.errors import InputError

if TYPE_CHECKING:
    from mammi.explain.film_result import FilmExplanation, OutputExplanation
    from mammi.store.run import Run
    from mammi.types import Film

__all__ = ["explain"]

#: Said where a page is written without pictures.
NO_PICTURES = "no picture of the film is on the page, only numbers, names and coarse maps: --with-images shows it"


@app.command()
@command
def explain(
    film: Annotated[Path, typer.Argument(help="One film: PNG, JPEG, TIFF or DICOM.")],
    run: Annotated[Path, typer.Argument(help="A run folder that 'mammi annotate' wrote.")],
    page: Annotated[Path | None, typer.Option("--out", "-o", help="Write one self-contained HTML page.")] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            help="A layer of the run; by default the last one that feeds the outputs linearly, or the deepest."
        ),
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(
            "--class", help="An output to explain, several times for several; those called present by default."
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Units to list of each output.")] = 12,
    with_images: Annotated[
        bool, typer.Option(help="Show the film and films of the run on the page: they are pictures of patients.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write everything to this file as JSON.")] = None,
    target: Annotated[
        str | None, typer.Option(help="The network, if the run cannot tell: path/file.py:NAME and the like.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Its weights, with --target.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:1.")] = "cpu",
) -> None:
    """Explain one film: which units make its logits, what they are named, where they are, and which films are alike."""
    from mammi.data import read_film
    from mammi.explain.account import open_account
    from mammi.explain.film import explain_film
    from mammi.explain.models import load_target
    from mammi.store import open_run
    from mammi.store.files import write_json

    if weights is not None and target is None:
        raise InputError("--weights needs --target")
    opened = open_run(run)
    decoded = read_film(film, frame=opened.manifest["identity"]["images"]["frame"])
    for warning in decoded.warnings:
        err.print(f"note: {warning}", markup=False, soft_wrap=True)
    network = load_target(opened, target, weights, device=device)
    with progress_bars() as progress:
        account = open_account(opened, network, layer, sampled=False, progress=progress)
        found = explain_film(account, decoded, outputs=classes, top=top, progress=progress)
    _show(found)
    if json_file is not None:
        write_json(json_file, found.to_dict())
    if page is not None:
        _write_page(page, found, decoded, opened, with_images)
        err.print(f"page: {page}", markup=False, soft_wrap=True)
        if not with_images:
            err.print(f"note: {NO_PICTURES}", markup=False, soft_wrap=True)


def _write_page(path: Path, found: "FilmExplanation", film: "Film", run: "Run", with_images: bool) -> None:
    from mammi.pages.explanation import alone, data_address, explanation_page, explanation_pictures
    from mammi.pages.site import render
    from mammi.pages.thumbnails import Thumbnails
    from mammi.pages.view import RunView
    from mammi.store.files import write_atomic

    written = explanation_page(found, explanation_pictures(found, film, with_film=with_images))
    thumbnails = {}
    if with_images:
        kept = Thumbnails(RunView(run))
        groups = [output["similar"] for output in written.data["outputs"]]
        shown = {entry["id"] for group in groups if not group["withheld"] for entry in group["films"]}
        thumbnails = {name: data_address(kept.make(name).read_bytes()) for name in sorted(shown)}
    html = render(written, alone(found.network, thumbnails, with_images=with_images))
    write_atomic(path, lambda file: file.write(html.encode()))


def _show(found: "FilmExplanation") -> None:
    patients = f" of {found.n_patients:,} patients" if found.n_patients else ""
    out.print(
        f"{found.network}, units of {found.layer}; compared with {found.n_films:,} films{patients}.", markup=False
    )
    if found.twins:
        out.print(f"The run holds this very film ({', '.join(found.twins)}): it is left out.", markup=False)
    for note in found.notes:
        err.print(f"note: {note}", markup=False, soft_wrap=True)
    explained = {output.prediction.number for output in found.outputs}
    linked = any(row.probability is not None for row in found.predictions)
    columns = ["output", "logit", *(["probability"] if linked else []), "threshold", "called", "percentile", ""]
    rows = table(*columns, right=("logit", "probability", "threshold", "percentile"))
    for row in found.predictions:
        called = "no labels" if row.called is None else "present" if row.called else "absent"
        rows.add_row(
            escape(row.output),
            f"{row.logit:+.3f}",
            *([_number(row.probability, ".3f")] if linked else []),
            _number(row.threshold, "+.3f"),
            called,
            _number(row.percentile, ".0f"),
            "explained" if row.number in explained else "",
        )
    out.print(rows)
    for output in found.outputs:
        _show_output(output, found)


def _show_output(output: "OutputExplanation", found: "FilmExplanation") -> None:
    out.print(f"\n{output.prediction.output}", markup=False, style="bold")
    usual = ["usually"] if found.exact else []
    numbers = ("activation", "percentile", "adds", "usually")
    rows = table("unit", "concepts", "activation", "percentile", "adds", *usual, right=numbers)
    for unit in output.units:
        said = unit.name if unit.name != "no concept" else f"no concept: {unit.reason}" if unit.reason else unit.name
        rows.add_row(
            escape(f"{found.layer}:{unit.unit}"),
            escape(said),
            f"{unit.activation:.4g}",
            _number(unit.percentile, ".0f"),
            f"{unit.contribution:+.4f}",
            *([_number(unit.usual, "+.4f")] if found.exact else []),
        )
    out.print(rows)
    by_name = [f"{share.concept} {share.contribution:+.2f} ({share.units})" for share in output.concepts[:6]]
    out.print(f"by concept: {'; '.join(by_name)}", markup=False, soft_wrap=True)
    for remark in output.remarks:
        out.print(remark, markup=False, soft_wrap=True)
    out.print(output.sentence(), markup=False, soft_wrap=True)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
