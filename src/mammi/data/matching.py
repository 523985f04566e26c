"""Which file each row of a table means."""

from collections import defaultdict
from dataclasses import dataclass

from mammi.data.files import FolderListing, bare_names
from mammi.data.table import LabelTable
from mammi.errors import ImageError, InputError

__all__ = ["Match", "match_rows"]


@dataclass(frozen=True)
class Match:
    """Rows of a table and their files.

    Attributes:
        rows: the table's rows that have a file, rising.
        files: for each of ``rows`` its file, relative to the folder.
        without_file: how many rows have none.
        without_row: files that no row means, relative to the folder, sorted.
    """

    rows: tuple[int, ...]
    files: tuple[str, ...]
    without_file: int
    without_row: tuple[str, ...]


def match_rows(table: LabelTable, listing: FolderListing, *, skip_missing: bool = False) -> Match:
    """Find each row's file among those listed; nothing is asked of the disk.

    A path is tried as written, then without its leading folders one after another (tables are often written one
    folder up), then the id directly in the folder. A row without a path is found by its id anywhere below the folder.

    Args:
        table: the rows.
        listing: the files.
        skip_missing: leave rows without a file out instead of raising.

    Raises:
        ImageError: if rows have no file, or none has.
        InputError: if an id fits several files, or two rows mean one file.
    """
    files = frozenset(listing.images)
    by_id: defaultdict[str, list[str]] = defaultdict(list)
    for name, bare in zip(listing.images, bare_names(listing.images), strict=True):
        by_id[bare].append(name)
        if "/" in bare:
            by_id[bare.rpartition("/")[2]].append(name)
    rows: list[int] = []
    found: list[str] = []
    missing: list[str] = []
    row_of: dict[str, int] = {}
    root = listing.root.absolute().as_posix().rstrip("/") + "/"
    for row, line in enumerate(table.lines):
        path = table.paths[row].replace("\\", "/").removeprefix(root) if table.paths is not None else ""
        name = table.ids[row] if table.ids is not None else ""
        file = _by_path(path, files) or _by_id(name, by_id, table, line, anywhere=not path)
        if file is None:
            missing.append(f"line {line} ({path or name!r})")
            continue
        if file in row_of:
            raise InputError(
                f"Table {table.source.name!r}: lines {table.lines[row_of[file]]} and {line} mean the same file "
                f"{file!r}: keep one line an image"
            )
        row_of[file] = row
        rows.append(row)
        found.append(file)
    if missing and (not skip_missing or not rows):
        raise ImageError(
            f"{len(missing)} of {len(table.lines)} rows of table {table.source.name!r} have no image below "
            f"{str(listing.root)!r}: {', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}; correct the folder "
            "or the table, or pass skip_missing=True to ProbingSet.from_table to leave them out"
        )
    return Match(tuple(rows), tuple(found), len(missing), tuple(sorted(files.difference(found))))


def _by_path(path: str, files: frozenset[str]) -> str | None:
    path = path.removeprefix("./")
    while path:
        if path in files:
            return path
        path = path.partition("/")[2]
    return None


def _by_id(name: str, by_id: dict[str, list[str]], table: LabelTable, line: int, *, anywhere: bool) -> str | None:
    candidates = by_id.get(name, []) if name else []
    if not anywhere:
        candidates = [file for file in candidates if "/" not in file]
    direct = [file for file in candidates if file.rpartition(".")[0] == name or file == name]
    if len(direct) == 1:
        return direct[0]
    if len(candidates) > 1:
        raise InputError(
            f"Table {table.source.name!r}, line {line}: image {name!r} fits {len(candidates)} files, "
            f"{candidates[0]!r} and {candidates[1]!r}: add a column 'path'"
        )
    return candidates[0] if candidates else None
