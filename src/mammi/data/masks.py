"""Where concepts are on films: masks, boxes and polygons, from one table, laid on any grid."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mammi.data.reading import read_film
from mammi.data.table import normalise_label, read_csv, strip_suffix
from mammi.errors import ImageError, InputError
from mammi.functional.fingerprint import fingerprint_file, fingerprint_value

__all__ = ["Mark", "MaskSet"]

#: Two pictures of one film may differ in size, but not by more than this in their proportions.
_SAME_SHAPE = 0.02
_BOX = ("x0", "y0", "x1", "y1")


@dataclass(frozen=True, eq=False)
class Mark:
    """One place on one film: a mask picture, or the corners of a polygon (a box has four).

    Attributes:
        concept: what is there.
        mask: picture of the whole film, not black where the concept is; None for a polygon.
        corners: float64, shape ``(n_corners, 2)``: x to the right and y down, in pixels; None for a mask.
        size: height and width of the picture that corners count in; None for the film's own.
        line: line of the table, for messages.
    """

    concept: str
    mask: Path | None = None
    corners: NDArray[np.float64] | None = None
    size: tuple[int, int] | None = None
    line: int = 0

    def covers(
        self, shape: tuple[int, int], rows: NDArray[np.float64], columns: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Return which points of a grid lie on the mark.

        Args:
            shape: height and width of the film.
            rows: shape ``(n_rows,)``: how far down the film each row of points is, 0 the top edge, 1 the bottom edge.
            columns: shape ``(n_columns,)``: how far to the right each column is.

        Returns:
            bool, shape ``(n_rows, n_columns)``. A mask is read at its nearest pixel; left and top edges of a box are
            inside, right and bottom edges are not; a polygon that crosses itself is filled by the even-odd rule.

        Raises:
            ImageError: if the mask cannot be read.
            InputError: if mask and film have other proportions.
        """
        if self.mask is not None:
            pixels = read_film(self.mask).pixels
            picture = (pixels if pixels.ndim == 2 else pixels.max(axis=2)) > 0
            size = pixels.shape[:2]
        else:
            picture = None
            size = self.size or shape
        if abs(size[0] * shape[1] / (size[1] * shape[0]) - 1) > _SAME_SHAPE:
            what = f"mask {self.mask.name!r}" if self.mask is not None else f"the picture of line {self.line}"
            raise InputError(
                f"{what} is {size[1]} x {size[0]} pixels (width x height) and its film {shape[1]} x {shape[0]}: "
                "both must show the same field"
            )
        on_film = ((rows >= 0) & (rows < 1))[:, None] & ((columns >= 0) & (columns < 1))
        if picture is None:
            return on_film & _inside(self._corners(), rows * size[0], columns * size[1])
        down, right = (np.clip(at * n, 0, n - 1).astype(np.int64) for at, n in zip((rows, columns), size, strict=True))
        there: NDArray[np.bool_] = on_film & picture[np.ix_(down, right)]
        return there

    def content(self) -> list[object]:
        """Return what it depends on, as JSON."""
        if self.mask is not None:
            try:
                return [self.concept, fingerprint_file(self.mask)]
            except OSError as error:
                raise ImageError(
                    f"Mask {self.mask.name!r} (line {self.line} of the table) cannot be read: {error.strerror}: "
                    "paths count from the table's own folder"
                ) from error
        return [self.concept, self._corners().tolist(), list(self.size) if self.size else None]

    def _corners(self) -> NDArray[np.float64]:
        return np.empty((0, 2)) if self.corners is None else self.corners


def _inside(corners: NDArray[np.float64], y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which points of the grid ``y`` by ``x`` are inside: an odd number of edges lies to their right."""
    x0, y0 = corners.T[:, :, None]
    x1, y1 = np.roll(corners, -1, axis=0).T[:, :, None]
    crosses = (y0 > y) != (y1 > y)  # (n_edges, n_rows); a level edge crosses nothing
    at = x0 + (y - y0) * (x1 - x0) / np.where(y1 == y0, 1, y1 - y0)
    inside: NDArray[np.bool_] = (crosses[:, :, None] & (x < at[:, :, None])).sum(axis=0) % 2 == 1
    return inside


class MaskSet:
    """Films on which every place of some concepts is marked.

    A film of the set that has no mark of a concept is taken not to show it.

    Args:
        marks: the marks of each film, by the film's id; none where a film was looked at and shows nothing.

    Attributes:
        concepts: names of the concepts, sorted.
        films: ids of the films, in order.
    """

    def __init__(self, marks: dict[str, list[Mark]]) -> None:
        self._marks = marks
        self.films = tuple(marks)
        self.concepts = tuple(sorted({mark.concept for places in marks.values() for mark in places}))

    @classmethod
    def read(cls, table: str | Path) -> "MaskSet":
        """Read a table of places: CSV with a header, one line a place, several lines a film.

        Columns, in any order and case; others are ignored:

        - ``image``: the film's id, with or without the suffix of its file;
        - ``concept``: what is there; blank (or "No Finding") for a film that was looked at and shows nothing;
        - one of ``mask`` (a picture of the whole film, of any size, black where the concept is not; its path counts
          from the table's folder), ``x0, y0, x1, y1`` (a box; right and bottom edge are outside it) or ``polygon``
          (``x y x y ...``);
        - ``width, height``: of the picture that boxes and polygons count pixels in; blank for the film's own.

        Raises:
            InputError: if the table cannot be understood; the message names the line.
        """
        source = Path(table)
        header, columns, lines = read_csv(source)
        cells = {name.lower(): values for name, values in columns.items()}
        if not {"image", "concept"} <= set(cells):
            raise InputError(
                f"Table {source.name!r} has no column 'image' or no column 'concept': got {', '.join(header[:12])}"
            )
        marks: dict[str, list[Mark]] = {}
        for row, line in enumerate(lines):
            cell = {name: values[row] for name, values in cells.items()}
            try:
                mark = _mark(cell, source.parent, line)
            except ValueError as error:
                raise InputError(f"Table {source.name!r}, line {line}: {error}") from error
            places = marks.setdefault(strip_suffix(cell["image"]), [])
            if mark is not None:
                places.append(mark)
        return cls(marks)

    def only(self, films: Sequence[str]) -> "MaskSet":
        """Return the set of those of its films that are among ``films``."""
        wanted = set(films)
        return MaskSet({film: places for film, places in self._marks.items() if film in wanted})

    def renamed(self, rename: Callable[[str], str | None]) -> "MaskSet":
        """Return the set with other names; two concepts that get one name become one, None drops a concept."""
        names = {concept: rename(concept) for concept in self.concepts}
        renamed: dict[str, list[Mark]] = {film: [] for film in self.films}
        for film, places in self._marks.items():
            for mark in places:
                name = names[mark.concept]
                if name is not None:
                    renamed[film].append(Mark(name, mark.mask, mark.corners, mark.size, mark.line))
        return MaskSet(renamed)

    def grid(
        self, film: str, shape: tuple[int, int], rows: NDArray[np.float64], columns: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Lay the marks of a film on a grid of points.

        Args:
            film: its id.
            shape: height and width of the film.
            rows: shape ``(n_rows,)``: how far down the film each row of points is; outside [0, 1) nothing is.
            columns: shape ``(n_columns,)``: likewise to the right.

        Returns:
            bool, shape ``(n_concepts, n_rows, n_columns)``: the union of each concept's marks.

        Raises:
            ImageError: if a mask cannot be read.
            InputError: if the film is not in the set, or a mask and it have other proportions.
        """
        if film not in self._marks:
            raise InputError(f"film {film!r} is not among the {len(self.films)} films with masks")
        found = np.zeros((len(self.concepts), len(rows), len(columns)), dtype=bool)
        for mark in self._marks[film]:
            found[self.concepts.index(mark.concept)] |= mark.covers(shape, rows, columns)
        return found

    def fingerprint(self) -> str:
        """Return the SHA-256 over films, names, boxes, polygons and the bytes of mask files, 64 hex digits.

        Raises:
            ImageError: if a mask file cannot be read.
        """
        return fingerprint_value([[film, [mark.content() for mark in places]] for film, places in self._marks.items()])

    def __len__(self) -> int:
        """Return the number of films."""
        return len(self.films)

    def __repr__(self) -> str:
        """Return counts; no id and no path."""
        counts = [
            f"{concept} {sum(any(mark.concept == concept for mark in places) for places in self._marks.values())}"
            for concept in self.concepts
        ]
        return f"MaskSet: {len(self)} films, {len(self.concepts)} concepts (films): {', '.join(counts)}"


def _mark(cell: dict[str, str], folder: Path, line: int) -> Mark | None:
    """Read one line; a ValueError says what is wrong with it."""
    if not cell["image"]:
        raise ValueError("the image is blank")
    concept = normalise_label(cell["concept"])
    given = [name for name in ("mask", "polygon") if cell.get(name)]
    given += ["box"] if any(cell.get(name) for name in _BOX) else []
    if concept in ("", "no finding"):
        if given:
            raise ValueError(f"a {given[0]} has no concept: name it, or leave both blank for a film that shows nothing")
        return None
    if len(given) != 1:
        got = " and ".join(given) or "none"
        raise ValueError(f"{concept!r} needs one place, a mask, x0 y0 x1 y1, or a polygon; got {got}")
    if given == ["mask"]:
        return Mark(concept, mask=folder / cell["mask"], line=line)
    size = _size(cell)
    if given == ["box"]:
        x0, y0, x1, y1 = (_number(cell.get(name, ""), name) for name in _BOX)
        if x0 >= x1 or y0 >= y1:
            raise ValueError(f"the box {x0:g}, {y0:g}, {x1:g}, {y1:g} is empty: expected x0 < x1 and y0 < y1")
        numbers = [x0, y0, x1, y0, x1, y1, x0, y1]
    else:
        numbers = [_number(text, "polygon") for text in cell["polygon"].replace(",", " ").replace(";", " ").split()]
        if len(numbers) < 6 or len(numbers) % 2:
            raise ValueError(f"the polygon has {len(numbers)} numbers: expected x y of three or more corners")
    corners = np.array(numbers, dtype=np.float64).reshape(-1, 2)
    if size is not None and ((corners.max(axis=0) <= 0).any() or (corners.min(axis=0) >= size[::-1]).any()):
        raise ValueError(f"the {given[0]} lies outside its picture of {size[1]} x {size[0]} pixels (width x height)")
    return Mark(concept, corners=corners, size=size, line=line)


def _size(cell: dict[str, str]) -> tuple[int, int] | None:
    if not cell.get("width") and not cell.get("height"):
        return None
    height, width = (_number(cell.get(name, ""), name) for name in ("height", "width"))
    if not (height >= 1 and width >= 1 and height.is_integer() and width.is_integer()):
        raise ValueError(f"width and height must be whole numbers above 0, got {width:g} and {height:g}")
    return int(height), int(width)


def _number(text: str, name: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{name} must be a number, got {text!r}") from None
    if not np.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {text!r}")
    return value
