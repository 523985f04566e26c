"""`read_ontology`: an ontology from the user's own RadLex, UMLS or SNOMED CT, from a concept table, or the built-in one."""

from collections.abc import Sequence
from pathlib import Path

from mammi.concepts.chest import chest_ontology
from mammi.concepts.concept_set import ConceptSet
from mammi.concepts.ontology import Ontology
from mammi.concepts.ontology_layout import Layout, build_ontology
from mammi.concepts.radlex import RadlexFile
from mammi.concepts.snomed import SnomedFiles
from mammi.concepts.umls import UmlsFiles
from mammi.errors import InputError, ReportError
from mammi.types import Progress, no_progress

__all__ = ["read_ontology"]

_OWL = (".owl", ".rdf", ".xml")


def read_ontology(
    path: str | Path = "chest",
    root: str | None = None,
    *,
    languages: Sequence[str] = ("en",),
    sources: Sequence[str] = (),
    progress: Progress = no_progress,
) -> Ontology:
    """Read an ontology, or the part of it below a concept.

    Args:
        path: a folder with UMLS RRF files or a SNOMED CT RF2 snapshot, RadLex as ``.csv`` or ``.owl``, a concept table
            with a column ``parents``, or ``chest``, the built-in one.
        root: an id or a name; only it and what lies below it is kept. Of a large vocabulary read a part.
        languages: of UMLS and SNOMED CT: ``en``, ``es``, ... or the three letters of the UMLS.
        sources: of UMLS: the source vocabularies that are wanted, ``SNOMEDCT_US`` for example; all if empty.
        progress: told of what is read.

    Raises:
        ReportError: if the files are not what they should be; the message has file, line and column.
        UnknownNameError: if there is no such root.
        InputError: if the root names several concepts, or an option does not go with the files.
    """
    place = Path(path)
    layout = _layout(place, languages, sources, progress)
    if not isinstance(layout, UmlsFiles) and sources:
        raise InputError(f"sources are of the UMLS, {path} is none: leave them out")
    if not isinstance(layout, UmlsFiles | SnomedFiles) and tuple(languages) != ("en",):
        raise InputError(f"languages are of UMLS and SNOMED CT; {path} is read in English only")
    if not isinstance(layout, Ontology):
        return build_ontology(layout, root)
    if root is None:
        return layout
    below = layout.subtree(root)
    return Ontology.from_concepts(below, layout.source, layout.licence)


def _layout(place: Path, languages: Sequence[str], sources: Sequence[str], progress: Progress) -> Layout | Ontology:
    if not place.exists():
        if str(place) == "chest":
            return chest_ontology()
        raise ReportError(f"No ontology at {place}: give a folder, a file, or 'chest' for the built-in one")
    if place.is_file():
        if place.suffix.lower() in _OWL:
            return RadlexFile(place, progress)
        if place.suffix.lower() != ".csv":
            raise ReportError(f"{place.name}: expected .csv or {', '.join(_OWL)}, or a folder of RRF or RF2 files")
        with place.open(encoding="utf-8-sig", errors="replace") as file:
            heading = file.readline(100_000).lower()
        if "class id" in heading:
            return RadlexFile(place, progress)
        found = ConceptSet.read(place)
        return Ontology.from_concepts(found, place.name, found[0].licence)
    for folder in (place, place / "META"):
        if (folder / "MRCONSO.RRF").exists() or (folder / "MRREL.RRF").exists():
            return UmlsFiles(folder, languages, sources, progress)
    if next(place.rglob("sct2_*.txt"), None):
        return SnomedFiles(place, languages, progress)
    files = [file for file in sorted(place.iterdir()) if file.suffix.lower() in (".csv", *_OWL)]
    if len(files) == 1:
        return _layout(files[0], languages, sources, progress)
    raise ReportError(
        f"{place} holds neither MRCONSO.RRF (UMLS), nor sct2_*_Snapshot files (SNOMED CT), nor one RadLex file "
        f"({len(files)} files end in .csv or {', '.join(_OWL)}): give the folder or the file that does"
    )
