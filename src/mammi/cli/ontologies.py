"""``mammi concepts sets``, ``from-ontology`` and ``add-ontology``: built-in lists, and the user's own vocabularies."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from mammi.cli.app import command, concepts_app, table
from mammi.cli.console import err, out, progress_bars

__all__ = ["concepts_add_ontology", "concepts_from_ontology", "concepts_sets"]

_ONTOLOGY = (
    "A folder of UMLS RRF or SNOMED CT RF2 files, RadLex as .csv or .owl, a concept table with a column 'parents', "
    "or 'chest', the built-in one."
)
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="The table to write; edit it and load it again.")]
LanguageOption = Annotated[
    list[str] | None, typer.Option("--language", help="Names in this language (UMLS, SNOMED CT); repeat. [default: en]")
]
SourceOption = Annotated[
    list[str] | None,
    typer.Option("--source", help="UMLS: only this source vocabulary, SNOMEDCT_US for example; repeat."),
]


@concepts_app.command("sets")
@command
def concepts_sets() -> None:
    """List the built-in finding lists; '--concepts NAME' takes one wherever it takes a file."""
    from mammi.concepts import FINDING_LISTS, ConceptSet

    rows = table("name", "concepts", "names published in", right=("concepts",))
    for name, source in FINDING_LISTS.items():
        rows.add_row(escape(name), str(len(ConceptSet.read(name))), escape(source))
    out.print(rows)


@concepts_app.command("from-ontology")
@command
def concepts_from_ontology(
    ontology: Annotated[Path, typer.Argument(help=_ONTOLOGY)],
    root: Annotated[str, typer.Option(help="Take this concept and all below it: an id, or a name.")],
    output: OutputOption,
    language: LanguageOption = None,
    source: SourceOption = None,
) -> None:
    """Make a concept set, with synonyms and parents, from a part of your own RadLex, UMLS or SNOMED CT."""
    from mammi.concepts import read_ontology

    with progress_bars() as progress:
        part = read_ontology(ontology, root, languages=language or ("en",), sources=source or (), progress=progress)
    found = part.subtree(next(iter(part)))  # the root comes first
    found.write_csv(output)
    for note in found.notes:
        err.print(f"note: {note}", markup=False, soft_wrap=True)
    out.print(f"{len(found):,} concepts: {output}", markup=False, soft_wrap=True)
    if part.licence:
        err.print(f"licence: {part.licence}; mind it when you pass the table on", markup=False, soft_wrap=True)


@concepts_app.command("add-ontology")
@command
def concepts_add_ontology(
    concepts: Annotated[Path, typer.Argument(help="A concept table, a text file or a built-in list.")],
    ontology: Annotated[Path, typer.Argument(help=_ONTOLOGY)],
    output: OutputOption,
    root: Annotated[str | None, typer.Option(help="Read only this concept and all below it: of the UMLS, do.")] = None,
    language: LanguageOption = None,
    source: SourceOption = None,
) -> None:
    """Add the synonyms and parents that an ontology knows to a concept set; its terms and their order stay."""
    from mammi.concepts import ConceptSet, read_ontology

    with progress_bars() as progress:
        words = ConceptSet.read(concepts)
        known = read_ontology(ontology, root, languages=language or ("en",), sources=source or (), progress=progress)
    found = known.add_to(words)
    found.write_csv(output)
    for note in found.notes:
        err.print(f"note: {note}", markup=False, soft_wrap=True)
    out.print(f"{len(found):,} concepts: {output}", markup=False, soft_wrap=True)
