"""``mammi vlms fit`` and ``mammi vlms check``: an annotator of one's own, and what an annotator can tell."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from mammi.cli.app import command, table
from mammi.cli.console import err, out, progress_bars
from mammi.cli.models import vlms_app
from mammi.cli.network import (
    ChannelsOption,
    DeviceOption,
    MeanOption,
    ResizeOption,
    SizeOption,
    StdOption,
    TargetOption,
    WeightsOption,
    open_network,
)
from mammi.errors import InputError

if TYPE_CHECKING:
    from mammi.checking import Check
    from mammi.concepts import ConceptSet
    from mammi.vlms import Annotator

__all__ = ["check", "fit", "mark_unseen"]


@vlms_app.command()
@command
def fit(
    target: TargetOption,
    layers: Annotated[str, typer.Option(help="Layers whose units are read, joined by commas; see 'mammi layers'.")],
    images: Annotated[Path, typer.Option(help="A folder of films.")],
    table_file: Annotated[
        Path,
        typer.Option("--table", help="CSV or JSON lines: image, patient, and a report or labels (1, 0, blank)."),
    ],
    out_folder: Annotated[Path, typer.Option("--out", help="A new folder; use it as 'fitted:FOLDER'.")],
    modality: Annotated[str, typer.Option(help="What the images are: for its card, 'chest radiographs'.")],
    corpus: Annotated[
        list[str],
        typer.Option(help="What these images are called, so that annotating a network that saw them is flagged."),
    ],
    licence: Annotated[str, typer.Option(help="Terms of the fitted model, for its card.")] = "not stated",
    title: Annotated[str, typer.Option(help="Its name, for its card.")] = "",
    weights: WeightsOption = None,
    sentences: Annotated[
        Path | None, typer.Option(help="A folder of a sentence-transformers model. [default: all-MiniLM-L6-v2]")
    ] = None,
    template: Annotated[
        list[str] | None, typer.Option(help="How a label is put in words, {} for it; several times for several.")
    ] = None,
    pooling: Annotated[str | None, typer.Option(help="mean, max or cls; each layer's own by default.")] = None,
    hidden: Annotated[
        int, typer.Option(min=0, help="Units of a hidden layer of the image projection; 0 for a linear one.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="Of everything drawn: the same twice gives the same twice.")] = 0,
    channels: ChannelsOption = None,
    size: SizeOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    resize: ResizeOption = None,
) -> None:
    """Fit an annotator to images that have none: a network and a sentence encoder, both locked, are joined."""
    from mammi.fitting import fit_vlm, read_pairs
    from mammi.fitting.lessons import TEMPLATES
    from mammi.fitting.train import Training
    from mammi.types import VlmCard

    pairs = read_pairs(images, table_file)
    for note in pairs.notes:
        err.print(f"note: {note}", markup=False, soft_wrap=True)
    err.print(str(pairs.films), markup=False, soft_wrap=True)
    if not pairs.films.patients_known:
        err.print("note: patients are not known: films are split one by one, which flatters the result")
    network = open_network(target, weights, "cpu", channels, size, mean, std, resize, None)
    with progress_bars() as progress:
        fitted = fit_vlm(
            network,
            [name.strip() for name in layers.split(",") if name.strip()],
            pairs,
            out_folder,
            card=VlmCard("", title, licence, tuple(corpus), modality, citation="fitted by its user"),
            sentences=sentences,
            pooling=pooling,
            templates=template or TEMPLATES,
            training=Training(hidden=hidden, seed=seed),
            progress=progress,
        )
    parts = fitted.measured["validation_auroc"]
    seconds = fitted.measured["seconds"]
    out.print(
        f"AUROC on the patients held out in turn: {sum(parts) / len(parts):.3f} on average ({min(parts):.3f} to "
        f"{max(parts):.3f}); training was stopped by it, so check it on films of other patients.",
        soft_wrap=True,
    )
    out.print(f"{seconds['films']} s for the films, {seconds['texts']} s for texts, {seconds['fitting']} s of fitting")
    out.print(
        f"fitted:{out_folder} is an annotator now. mammi vlms check fitted:{out_folder} --images ... --labels ...",
        markup=False,
        soft_wrap=True,
    )


@vlms_app.command()
@command
def check(
    vlm: Annotated[str, typer.Argument(help="As for --vlm of 'mammi annotate'.")],
    images: Annotated[Path, typer.Option(help="A folder of films with known labels, or a table with paths.")],
    labels: Annotated[Path | None, typer.Option(help="A CSV with image, patient and labels.")] = None,
    concepts: Annotated[
        Path | None, typer.Option(help="A concept set whose names or synonyms are labels. [default: the labels]")
    ] = None,
    template: Annotated[
        list[str] | None,
        typer.Option(
            help="How a concept is put, {} for it; several are averaged. [default: the annotator's own, else {}]"
        ),
    ] = None,
    golden: Annotated[
        Path | None, typer.Option(help="Embeddings of drawn films: written the first time, compared afterwards.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write it as JSON, for 'mammi annotate --checked'.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the draws of patients.")] = 0,
    device: DeviceOption = "cpu",
) -> None:
    """Test an annotator: is it the one it was, is it steady, and which concepts can it tell on labelled films?"""
    from mammi.checking import check_annotator
    from mammi.concepts import ConceptSet
    from mammi.data import ProbingSet
    from mammi.vlms import create_vlm

    films = ProbingSet.open(images, labels)
    err.print(str(films), markup=False, soft_wrap=True)
    if output is not None and output.suffix.lower() != ".json":
        raise InputError(f"--output must end with .json, got {output.name!r}")
    words = None if concepts is None else ConceptSet.read(concepts)
    annotator = create_vlm(vlm, device=device)
    with progress_bars() as progress:
        found = check_annotator(
            *(annotator, films, words),
            templates=template or None,
            golden=golden,
            seed=seed,
            progress=progress,
        )
    if output is not None:
        found.write(output)
    _show(found)
    if found.golden.get("status") in ("another model", "another preprocessing"):
        raise typer.Exit(1)


def mark_unseen(
    path: Path | None, leave_out: bool, annotator: "Annotator", words: "ConceptSet"
) -> "tuple[ConceptSet, dict[str, Any] | None]":
    """Return the concepts to use, and what the annotator's check says of them; None without a check."""
    from mammi.checking import Check
    from mammi.concepts import ConceptSet

    if path is None:
        if leave_out:
            raise InputError("--leave-out-unseen needs --checked, the file that 'mammi vlms check -o' wrote")
        return words, None
    found = Check.read(path)
    found.require(annotator.fingerprint, annotator.name)
    unseen, untested = found.unseen(words), found.untested(words)
    what = "are left out" if leave_out else "are marked"
    err.print(
        f"note: {len(unseen)} of {len(words)} concepts its check shows it cannot tell, they {what}; {len(untested)} were "
        "not in its check",
        soft_wrap=True,
    )
    if leave_out and unseen:
        rest = tuple(concept for concept in words.concepts if concept.term not in set(unseen))
        if not rest:
            raise InputError("the annotator can tell none of the concepts: its check leaves nothing to name units with")
        words = ConceptSet(rest, words.mode, words.n_reports, words.notes)
    return words, {"unseen": unseen, "untested": len(untested), "left_out": leave_out, "macro": found.macro}


def _show(found: "Check") -> None:
    card = found.annotator["card"]
    rows = table("", "")
    rows.show_header = False
    steady = found.steadiness
    golden = found.golden.get("status", "not compared; --golden FILE keeps embeddings for the next time")
    if found.golden.get("largest_difference"):
        golden += f", largest difference {found.golden['largest_difference']:.2g}"
    said = (
        ("annotator", f"{found.annotator['name']} ({card['title'] or 'no title'})"),
        ("fingerprint", found.annotator["fingerprint"]),
        ("preprocessing", found.preprocessing),
        ("made for", f"{card['modality']}, {card['image_size'] or 'unknown'} pixels"),
        ("licence", card["licence"]),
        ("trained on", "; ".join(card["training_corpora"]) or "not stated"),
        ("golden films and texts", golden),
        ("a film's row changes with its batch by", f"{steady['films']:.2g}"),
        ("a text's row changes with its neighbours by", f"{steady['texts']:.2g}"),
    )
    for name, text in said:
        rows.add_row(name, escape(text))
    for note in found.annotator["notes"]:
        rows.add_row("note", escape(note))
    out.print(rows)
    out.print()
    rows = table("concept", "with it", "AUROC", "95 %", "AUPRC", "95 %", "chance", "", right=("with it", "AUROC"))
    for row in found.concepts:
        if row.auroc is None or row.average_precision is None:
            rows.add_row(escape(row.concept), str(row.positives), "-", "", "-", "", "", "not tested")
            continue
        chance = row.positives / (row.positives + row.negatives)
        remark = "" if row.told == "yes" else "cannot tell it"
        rows.add_row(
            *(escape(row.concept), str(row.positives), f"{row.auroc:.2f}", _span(row.low, row.high)),
            *(f"{row.average_precision:.2f}", _span(row.ap_low, row.ap_high), f"{chance:.2f}", remark),
        )
    out.print(rows)
    patients = found.data["patients"]
    of = f"of {patients:,} patients" if patients is not None else "whose patients are not known: each counts as its own"
    macro = found.macro
    if macro["auroc"] is not None:
        span = _span(macro["low"], macro["high"], 3)
        out.print(
            f"mean AUROC {macro['auroc']:.3f} ({span}) over {macro['concepts']} concepts; "
            f"{found.data['films']:,} films {of}",
            soft_wrap=True,
        )
    blind = sum(row.told == "no" for row in found.concepts)
    out.print(f"{blind} of {macro['concepts']} concepts it cannot tell: their interval is not wholly above 0.5")


def _span(low: float | None, high: float | None, places: int = 2) -> str:
    return "" if low is None or high is None else f"{low:.{places}f} to {high:.{places}f}"
