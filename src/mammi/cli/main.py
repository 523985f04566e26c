"""The commands, each a thin shell over the library; a user's error is one line on standard error and exit code 2."""

import os
import sys
from collections.abc import Callable
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

# Sleeping threads instead of spinning ones: ten times quicker where another program uses the other core. Read by the
# OpenMP library when torch is first imported, so it is set here and not in the library.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import typer
from rich.markup import escape
from rich.table import Table

from mammi.cli.console import err, out, progress_bars
from mammi.errors import InputError, MammiError

__all__ = ["app", "main"]

P = ParamSpec("P")
R = TypeVar("R")

app = typer.Typer(
    name="mammi",
    help="Says in words what the units of a medical imaging network respond to. "
    "A research and audit tool, not a diagnostic device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
concepts_app = typer.Typer(help="Make and look at concept sets.", no_args_is_help=True, rich_markup_mode=None)
phantoms_app = typer.Typer(help="Drawn chest films with known findings.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(concepts_app, name="concepts")
app.add_typer(phantoms_app, name="phantoms")


def main() -> None:
    """Run the command line; exit code 2 for a user's error, 130 after an interrupt."""
    try:
        app()
    except KeyboardInterrupt:
        err.print("mammi: interrupted; what is recorded stays, the same command goes on from there")
        sys.exit(130)


def _command(function: Callable[P, R]) -> Callable[P, R]:
    """Turn the package's own errors into one line and exit code 2; any other error is a fault and keeps its trace."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except MammiError as error:
            err.print(f"mammi: error: {error}", markup=False, soft_wrap=True)
            raise typer.Exit(2) from error

    return run


TargetOption = Annotated[str, typer.Option(help="phantom, torchvision:NAME, timm:NAME or path/file.py:NAME.")]
WeightsOption = Annotated[
    str | None, typer.Option(help="Weights of the target: safetensors, or a torch file read with weights_only.")
]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda or cuda:1.")]
ChannelsOption = Annotated[int | None, typer.Option(help="Channels of the target's input, 1 or 3.")]
SizeOption = Annotated[str | None, typer.Option(help="Size of the target's input: 224 or 320x256 (height x width).")]
MeanOption = Annotated[str | None, typer.Option(help="Mean of the target's input, for pixels in 0 to 1: 0.5 or a,b,c.")]
StdOption = Annotated[str | None, typer.Option(help="Standard deviation of the target's input: 0.25 or a,b,c.")]
ResizeOption = Annotated[str | None, typer.Option(help="squash, crop or pad.")]


class Mode(StrEnum):
    """How concepts are built from reports."""

    phrases = "phrases"
    nouns = "nouns"


RunArgument = Annotated[Path, typer.Argument(help="A run folder that 'mammi annotate' wrote.")]


def _numbers(text: str | None, option: str) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.replace("x", ",").split(",")]
    except ValueError as error:
        raise InputError(f"{option} must be a number or several joined by commas, got {text!r}") from error


def _one_or_all(values: list[float] | None) -> float | list[float] | None:
    return values[0] if values is not None and len(values) == 1 else values


def _target(
    spec: str,
    weights: str | None,
    device: str,
    channels: int | None,
    size: str | None,
    mean: str | None,
    std: str | None,
    resize: str | None,
) -> Any:  # noqa: ANN401 - a Target, whose room is not imported for --help
    from mammi.targets import create_target

    sides = _numbers(size, "--size")
    if sides is not None and len(sides) not in (1, 2):
        raise InputError(f"--size must be one number or heightxwidth, got {size!r}")
    target = create_target(
        spec,
        weights,
        device=device,
        channels=channels,
        size=None if sides is None else (int(sides[0]), int(sides[-1])),
        mean=_one_or_all(_numbers(mean, "--mean")),
        std=_one_or_all(_numbers(std, "--std")),
        resize=resize,
    )
    for note in target.notes:
        err.print(f"note: {note}", markup=False, soft_wrap=True)
    return target


def _table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


@app.command()
@_command
def layers(
    target: TargetOption,
    weights: WeightsOption = None,
    device: DeviceOption = "cpu",
    channels: ChannelsOption = None,
    size: SizeOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    resize: ResizeOption = None,
) -> None:
    """List the layers of a network: kind, shape and number of units."""
    from mammi.targets import list_layers

    network = _target(target, weights, device, channels, size, mean, std, resize)
    table = _table("layer", "kind", "shape", "units", "pooling", "", right=("units",))
    for layer in list_layers(network):
        shape = "x".join(map(str, layer.shape)) if layer.shape else "-"
        units = f"{layer.n_units:,}" if layer.layout else "-"
        pooling = layer.pooling if layer.layout else "-"
        remark = layer.reason or (f"called {layer.n_calls} times" if layer.n_calls > 1 else "")
        table.add_row(*map(escape, (layer.name, layer.kind, shape, units, pooling, remark)))
    out.print(table)


@app.command()
@_command
def annotate(
    target: TargetOption,
    layers: Annotated[str, typer.Option(help="Layers to annotate, joined by commas; NAME@in for what goes into one.")],
    images: Annotated[Path, typer.Option(help="A folder of films (PNG, JPEG, TIFF, DICOM), or a table with paths.")],
    concepts: Annotated[Path, typer.Option(help="A concept set: CSV, or text with one concept a line.")],
    vlm: Annotated[str, typer.Option(help="phantom, open_clip:..., transformers:... or path/file.py:FACTORY.")],
    out_folder: Annotated[Path, typer.Option("--out", help="The run folder; the same command resumes in it.")],
    weights: WeightsOption = None,
    labels: Annotated[Path | None, typer.Option(help="A CSV with image, patient and labels.")] = None,
    method: Annotated[str, typer.Option(help="See 'mammi methods'.")] = "mammi",
    option: Annotated[
        list[str] | None, typer.Option("--option", "-O", help="NAME=VALUE for the method, see 'mammi methods'.")
    ] = None,
    template: Annotated[
        str, typer.Option(help="How a concept is put to the annotator; {} stands for it.")
    ] = "A chest x-ray image of a {}",
    pooling: Annotated[str | None, typer.Option(help="mean, max or cls; each layer's own by default.")] = None,
    on_error: Annotated[str, typer.Option(help="Unreadable films: fail (with the whole list) or skip.")] = "fail",
    frame: Annotated[int | None, typer.Option(help="Which frame of multi-frame files, from 0.")] = None,
    batch_size: Annotated[int, typer.Option(help="Films per forward pass.")] = 16,
    workers: Annotated[int, typer.Option(help="Threads that decode films.")] = 2,
    device: DeviceOption = "cpu",
    channels: ChannelsOption = None,
    size: SizeOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    resize: ResizeOption = None,
) -> None:
    """Say what every unit of some layers responds to; the main job."""
    from mammi.concepts import ConceptSet
    from mammi.data import ProbingSet
    from mammi.methods import create_method
    from mammi.pipeline import annotate as annotate_run
    from mammi.vlms import create_vlm

    options = _options(method, option or [])
    create_method(method, **options)
    words = ConceptSet.read(concepts)
    for note in words.notes:
        err.print(f"note: {note}", markup=False, soft_wrap=True)
    films = ProbingSet.open(images, labels, frame=frame)
    network = _target(target, weights, device, channels, size, mean, std, resize)
    annotator = create_vlm(vlm, device=device)
    with progress_bars() as progress:
        run = annotate_run(
            network,
            films,
            words,
            annotator,
            layers=[name.strip() for name in layers.split(",") if name.strip()],
            out=out_folder,
            method=method,
            template=template,
            pooling=pooling,
            batch_size=batch_size,
            workers=workers,
            on_error=on_error,
            progress=progress,
            **options,
        )
    counts = run.manifest["counts"]
    _say_counts(counts)
    out.print(
        f"{counts['named']:,} of {counts['units']:,} units have a concept. "
        f"Look at them: mammi show {out_folder}, or mammi report {out_folder} -o report.html",
        markup=False,
        soft_wrap=True,
    )


def _say_counts(counts: dict[str, Any]) -> None:
    remarks = {
        "unreadable": "films left out as unreadable: {}; private/unreadable.json in the run folder says why",
        "with_warnings": "films read with a warning: {}; images.parquet in the run folder says which",
        "same_pixels": "films with the same pixels as another: {}; images.parquet in the run folder says which",
    }
    for key, remark in remarks.items():
        if counts[key]:
            err.print(f"note: {remark.format(counts[key])}", markup=False, soft_wrap=True)


def _options(method: str, pairs: list[str]) -> dict[str, Any]:
    """Read NAME=VALUE pairs as the types of the method's own defaults."""
    from mammi.methods.base import method_options

    known = method_options(method)
    options: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        name = name.replace("-", "_")
        if not equals:
            raise InputError(f"--option must be NAME=VALUE, got {pair!r}")
        kind = type(known.get(name, ""))
        try:
            # An option that is None by default counts something.
            options[name] = int(text) if kind is type(None) else kind(text)
        except ValueError as error:
            raise InputError(f"--option {name} must be {kind.__name__}, got {text!r}") from error
    return options


@app.command()
@_command
def show(
    run: RunArgument,
    layer: Annotated[str | None, typer.Option(help="One layer; all by default.")] = None,
    unit: Annotated[int | None, typer.Option(help="One unit of --layer, in full.")] = None,
    find: Annotated[str | None, typer.Option(help="Only units whose concepts hold these words.")] = None,
    limit: Annotated[int, typer.Option(help="Rows to print; 0 for all.")] = 40,
) -> None:
    """Print a run as a table: unit, concepts, scores, number of examples."""
    from mammi.store import open_run

    opened = open_run(run)
    if unit is not None:
        if layer is None:
            raise InputError("--unit needs --layer")
        out.print(str(opened.unit(layer, unit)), markup=False)
        return
    frame = opened.to_frame(layer)
    if find is not None:
        frame = frame.merge(opened.search(find), on=["layer", "unit"])
    has_outputs = bool((frame["output"] != "").any())
    columns = ["unit", *(["output"] if has_outputs else []), "concepts", "score", "examples"]
    table = _table(*columns, right=("score", "examples"))
    rows = frame if limit == 0 else frame.head(limit)
    for row in rows.itertuples(index=False):
        concepts = row.concepts or f"no concept: {row.reason}"
        score = f"{row.score:.3f}" if row.concepts else ""
        cells = [f"{row.layer}:{row.unit}", *([row.output] if has_outputs else []), concepts, score]
        table.add_row(*(escape(str(cell)) for cell in cells), f"{row.n_examples:,}")
    out.print(table)
    if len(rows) < len(frame):
        err.print(f"{len(rows):,} of {len(frame):,} units; --limit 0 shows all")


@app.command()
@_command
def report(
    run: RunArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")],
    with_images: Annotated[
        bool, typer.Option("--with-images", help="Show the example films: pictures of patients.")
    ] = False,
) -> None:
    """Write a run as one self-contained HTML page."""
    from mammi.reports import write_report
    from mammi.store import open_run

    with progress_bars() as progress:
        path = write_report(open_run(run), output, with_images=with_images, progress=progress)
    out.print(f"report: {path}", markup=False, soft_wrap=True)


def _list(entries: list[tuple[str, str]]) -> None:
    table = _table("name", "what it is")
    for name, summary in entries:
        table.add_row(escape(name), escape(summary))
    out.print(table)


@app.command()
@_command
def targets() -> None:
    """List the kinds of network that can be annotated."""
    from mammi.targets import list_targets

    _list(list_targets())


@app.command()
@_command
def vlms() -> None:
    """List the kinds of vision-language model that can name units."""
    from mammi.vlms import list_vlms

    _list(list_vlms())


@app.command()
@_command
def methods() -> None:
    """List the methods and their options with the published defaults."""
    from mammi.methods import list_methods
    from mammi.methods.base import method_options

    for name, summary in list_methods().items():
        out.print(f"{name}: {summary}", markup=False, soft_wrap=True)
        for option, default in method_options(name).items():
            out.print(f"  --option {option}={default}", markup=False)


@concepts_app.command("build")
@_command
def concepts_build(
    reports: Annotated[Path, typer.Argument(help="Reports: JSONL, CSV, a text file or a folder of text files.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The table to write; edit it and load it again.")],
    mode: Annotated[Mode, typer.Option(help="phrases, or nouns: MAMMI's own recipe of single nouns.")] = Mode.phrases,
    min_reports: Annotated[int | None, typer.Option(help="Keep concepts that at least so many reports hold.")] = None,
    max_concepts: Annotated[int | None, typer.Option(help="Keep so many of the commonest.")] = None,
    synonyms: Annotated[Path | None, typer.Option(help="Your own synonyms, a CSV beside the built-in ones.")] = None,
    drop: Annotated[Path | None, typer.Option(help="Your own list of words to drop, in place of the built-in.")] = None,
) -> None:
    """Build a concept set from radiology reports."""
    from mammi.concepts import build_concepts, read_reports

    with progress_bars() as progress:
        found = build_concepts(
            read_reports(reports),
            mode=mode.value,
            min_reports=min_reports,
            max_concepts=max_concepts,
            synonyms=synonyms,
            drop=drop,
            progress=progress,
        )
    found.write_csv(output)
    for note in found.notes:
        err.print(f"note: {note}", markup=False, soft_wrap=True)
    out.print(f"{len(found):,} concepts: {output}", markup=False, soft_wrap=True)
