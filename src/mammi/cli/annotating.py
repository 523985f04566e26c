"""``mammi layers`` and ``mammi annotate``: a network is looked at, and its units are named."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from mammi.cli.app import app, command, table
from mammi.cli.console import err, out, progress_bars
from mammi.cli.network import (
    ChannelsOption,
    DeviceOption,
    MeanOption,
    ResizeOption,
    SaeOption,
    SizeOption,
    StdOption,
    TargetOption,
    WeightsOption,
    open_network,
)
from mammi.errors import InputError

__all__ = ["annotate", "layers"]

#: As in `mammi.pipeline`, which --help does not load.
TEMPLATE = "A chest x-ray image of a {}"
#: What switches an option on and off.
_SWITCH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@app.command()
@command
def layers(
    target: TargetOption,
    weights: WeightsOption = None,
    device: DeviceOption = "cpu",
    channels: ChannelsOption = None,
    size: SizeOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    resize: ResizeOption = None,
    sae: SaeOption = None,
) -> None:
    """List the layers of a network: kind, shape and number of units."""
    from mammi.targets import list_layers

    network = open_network(target, weights, device, channels, size, mean, std, resize, sae)
    rows = table("layer", "kind", "shape", "units", "pooling", "", right=("units",))
    for layer in list_layers(network):
        shape = "x".join(map(str, layer.shape)) if layer.shape else "-"
        units = f"{layer.n_units:,}" if layer.layout else "-"
        pooling = layer.pooling if layer.layout else "-"
        remark = layer.reason or (f"called {layer.n_calls} times" if layer.n_calls > 1 else "")
        rows.add_row(*map(escape, (layer.name, layer.kind, shape, units, pooling, remark)))
    out.print(rows)


@app.command()
@command
def annotate(
    target: TargetOption,
    layers: Annotated[str, typer.Option(help="Layers to annotate, joined by commas; NAME@in for what goes into one.")],
    images: Annotated[Path, typer.Option(help="A folder of films (PNG, JPEG, TIFF, DICOM), or a table with paths.")],
    concepts: Annotated[Path, typer.Option(help="A concept set: CSV, text, or a list of 'mammi concepts sets'.")],
    vlm: Annotated[
        list[str],
        typer.Option(
            help="phantom, open_clip:..., transformers:... or path/file.py:FACTORY. Given several times, the first names "
            "the units and the others give second opinions, see docs/second-opinion.md."
        ),
    ],
    out_folder: Annotated[Path, typer.Option("--out", help="The run folder; the same command resumes in it.")],
    weights: WeightsOption = None,
    labels: Annotated[Path | None, typer.Option(help="A CSV with image, patient and labels.")] = None,
    method: Annotated[str, typer.Option(help="See 'mammi methods'.")] = "mammi",
    option: Annotated[
        list[str] | None, typer.Option("--option", "-O", help="NAME=VALUE for the method, see 'mammi methods'.")
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(help="For dissection: a CSV of masks, boxes or polygons, see docs/dissection.md.")
    ] = None,
    template: Annotated[
        list[str] | None,
        typer.Option(
            help="How a concept is put to the annotator; {} stands for it. Given several times, the templates are "
            f"averaged. [default: the annotator's own, else {TEMPLATE}]"
        ),
    ] = None,
    checked: Annotated[
        Path | None,
        typer.Option(help="What 'mammi vlms check' wrote of this annotator: concepts it cannot tell are marked."),
    ] = None,
    leave_out_unseen: Annotated[
        bool, typer.Option("--leave-out-unseen", help="With --checked: leave out the concepts it cannot tell.")
    ] = False,
    pooling: Annotated[str | None, typer.Option(help="mean, max or cls; each layer's own by default.")] = None,
    commercial: Annotated[
        bool, typer.Option("--commercial", help="For commercial use: refuse an annotator whose licence forbids it.")
    ] = False,
    trained_on: Annotated[
        list[str] | None,
        typer.Option(help="What the target was trained on, such as 'NIH ChestX-ray14'; may be given several times."),
    ] = None,
    on_error: Annotated[str, typer.Option(help="Unreadable films: fail (with the whole list) or skip.")] = "fail",
    frame: Annotated[int | None, typer.Option(help="Which frame of multi-frame files, from 0.")] = None,
    batch_size: Annotated[int, typer.Option(help="Films per forward pass.")] = 16,
    engine: Annotated[str, typer.Option(help="Who does the work: local, or ray (see docs/cluster.md).")] = "local",
    workers: Annotated[int, typer.Option(help="Processes, each with models of its own; changes no result.")] = 1,
    decoders: Annotated[
        int | None, typer.Option(help="Threads that decode films, per process. [default: the cores, shared out]")
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            help="auto (tried on a long job), float32 (for numbers to be published), float32-channels-last or bfloat16."
        ),
    ] = "auto",
    ray_address: Annotated[
        str | None, typer.Option(help="A running Ray cluster: auto, or HOST:PORT. [default: one is started here]")
    ] = None,
    device: DeviceOption = "cpu",
    channels: ChannelsOption = None,
    size: SizeOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    resize: ResizeOption = None,
    sae: SaeOption = None,
) -> None:
    """Say what every unit of some layers responds to; the main job."""
    from mammi.cli.proving import mark_unseen
    from mammi.concepts import ConceptSet
    from mammi.data import MaskSet, ProbingSet
    from mammi.engine import create_engine
    from mammi.explain.kept import keep
    from mammi.methods import create_method
    from mammi.pipeline import annotate as annotate_run
    from mammi.vlms import create_vlm

    options = _options(method, option or [])
    create_method(method, **options)
    words = ConceptSet.read(concepts)
    for note in words.notes:
        err.print(f"note: {note}", markup=False, soft_wrap=True)
    films = ProbingSet.open(images, labels, frame=frame)
    err.print(str(films), markup=False, soft_wrap=True)
    places = None if masks is None else MaskSet.read(masks)
    if places is not None:
        err.print(str(places), markup=False, soft_wrap=True)
    network = open_network(target, weights, device, channels, size, mean, std, resize, sae)
    annotator, *others = [create_vlm(spec, device=device, commercial=commercial) for spec in vlm]
    for note in (note for one in (annotator, *others) for note in one.notes):
        err.print(f"note: {note}", markup=False, soft_wrap=True)
    words, blind = mark_unseen(checked, leave_out_unseen, annotator, words)
    with progress_bars() as progress:
        run = annotate_run(
            network,
            films,
            words,
            annotator,
            layers=[name.strip() for name in layers.split(",") if name.strip()],
            out=out_folder,
            method=method,
            masks=places,
            template=template or None,
            pooling=pooling,
            batch_size=batch_size,
            precision=precision,
            engine=create_engine(engine, workers=workers, decoders=decoders, address=ray_address),
            on_error=on_error,
            trained_on=trained_on or (),
            second_opinions=others,
            progress=progress,
            say=partial(err.print, markup=False, soft_wrap=True),
            **options,
        )
    if blind is not None:
        keep(run, "checked", blind)
    counts = run.manifest["counts"]
    _say_counts(counts)
    out.print(
        f"{counts['named']:,} of {counts['units']:,} units have a concept. "
        f"Look at them: mammi show {out_folder}, or mammi report {out_folder} -o report",
        markup=False,
        soft_wrap=True,
    )
    if run.opinions is not None:
        out.print(f"Second opinions: mammi opinion {out_folder}", markup=False, soft_wrap=True)


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
        options[name] = _value(name, text, known.get(name, ""))
    return options


def _value(name: str, text: str, default: Any) -> Any:  # noqa: ANN401 - whatever the option takes
    """Read the value of an option as the type of its default; one that is None by default counts something."""
    if isinstance(default, bool):
        if text.strip().lower() not in _SWITCH:
            raise InputError(f"--option {name} must be true or false (yes or no, 1 or 0), got {text!r}")
        return _SWITCH[text.strip().lower()]
    if default is None and text.strip().lower() == "none":
        return None
    kind = int if default is None else type(default)
    try:
        return kind(text)
    except ValueError as error:
        wanted = "a whole number" if kind is int else "a number"
        raise InputError(f"--option {name} must be {wanted}, got {text!r}") from error
