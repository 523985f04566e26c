"""Small pictures of films, made once and kept in the part of a run that is left out when it is passed on."""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from PIL import Image

from mammi.data import read_film
from mammi.errors import ImageError, InputError
from mammi.pages.view import RunView
from mammi.store.files import read_json, write_atomic
from mammi.types import Film, Progress, no_progress

__all__ = ["Thumbnails", "jpeg"]

#: Longest side, in pixels: twice of what a page shows of it, for sharp screens.
SIDE = 384


def jpeg(film: Film, side: int = SIDE) -> bytes:
    """Return a film as a small JPEG; carries no metadata of the source.

    Args:
        film: any size; a smaller one is not enlarged.
        side: longest side, in pixels.
    """
    picture = film.to_pil()
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80, optimize=True)
    return buffer.getvalue()


@dataclass(eq=False)
class Thumbnails:
    """The thumbnails of a run: JPEG files named by salted id, under ``private/thumbnails/``.

    They are pictures of patients: whoever shows them must have been asked to, and must keep to what the pages do not
    withhold.

    Attributes:
        view: the run.
    """

    view: RunView

    @cached_property
    def _paths(self) -> list[Path]:
        sources = read_json(self.view.run.folder / "private" / "films.json")
        return [Path(sources[row]["path"]) for row in self.view.run.images["row"].tolist()]

    def path(self, film: str) -> Path:
        """Return where the thumbnail of a film lies, once it is made.

        Raises:
            InputError: if the run holds no film of that id.
        """
        if film not in self.view.film_rows:
            raise InputError(f"the run holds no film {film!r}")
        return self.view.run.folder / "private" / "thumbnails" / f"{film}.jpg"

    def make(self, film: str) -> Path:
        """Make the thumbnail of a film, unless it is there; return where it lies.

        Raises:
            InputError: if the run holds no film of that id.
            ImageError: if the film is not where it was, or cannot be read any more.
            RunError: if the run no longer holds where its films are, or the thumbnail cannot be written.
        """
        path = self.path(film)
        if path.is_file():
            return path
        source = self._paths[self.view.film_rows[film]]
        if not source.is_file():
            raise ImageError(f"film {film} is not where it was: put the films back, or leave pictures out")
        frame = self.view.run.manifest["identity"]["images"]["frame"]
        try:
            picture = jpeg(read_film(source, frame=frame))
        except ImageError as error:  # its message names the file
            raise ImageError(f"film {film} cannot be read any more: put it back, or leave pictures out") from error
        write_atomic(path, lambda file: file.write(picture))
        return path

    def make_all(self, films: Iterable[str], *, progress: Progress = no_progress) -> None:
        """Make the thumbnails of films, those that are there already left alone; raises as `make` does."""
        wanted = sorted(set(films))
        for done, film in enumerate(wanted, start=1):
            self.make(film)
            progress("drawing thumbnails", done, len(wanted))
