"""``mammi concepts`` and ``mammi phantoms``: making what the main job needs."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mammi.cli.app import command, concepts_app, phantoms_app
from mammi.cli.console import err, out, progress_bars
from mammi.errors import InputError

__all__ = ["concepts_build", "phantoms_write"]


class Mode(StrEnum):
    """How concepts are built from reports."""

    phrases = "phrases"
    nouns = "nouns"


@concepts_app.command("build")
@command
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


class ImageFormat(StrEnum):
    """How drawn films are written."""

    png = "png"
    png16 = "png16"
    dicom = "dicom"


@phantoms_app.command("write")
@command
def phantoms_write(
    folder: Annotated[Path, typer.Argument(help="Where to write images/, labels.csv and reports.jsonl.")],
    films: Annotated[int, typer.Option(help="How many films.")] = 600,
    seed: Annotated[int, typer.Option(help="Other numbers draw other patients.")] = 0,
    image_format: Annotated[ImageFormat, typer.Option("--format", help="8-bit PNG, 16-bit PNG or DICOM.")] = (
        ImageFormat.png
    ),
    masks: Annotated[bool, typer.Option("--masks", help="Write the findings' masks too.")] = False,
    shortcut: Annotated[
        str | None, typer.Option(help="Plant an arrow of lead that goes with this finding; column 'marker'.")
    ] = None,
    with_finding: Annotated[float, typer.Option(help="Share of films with that finding that carry the arrow.")] = 0.9,
    without: Annotated[float, typer.Option(help="Share of the other films that carry it.")] = 0.05,
) -> None:
    """Draw chest films with known findings, with labels, boxes and reports."""
    from mammi.phantoms import Shortcut, write_cohort

    if shortcut is None and (with_finding, without) != (Shortcut.with_finding, Shortcut.without):
        raise InputError("'--with-finding' and '--without' say how often the arrow lies: give '--shortcut FINDING' too")
    planted = Shortcut(shortcut, with_finding, without) if shortcut is not None else None
    with progress_bars() as progress:
        write_cohort(folder, films, seed, image_format.value, masks, progress, shortcut=planted)
    out.print(f"{films:,} films: {folder}", markup=False, soft_wrap=True)
