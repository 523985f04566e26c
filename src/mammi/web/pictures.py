"""Thumbnails of films: of those that a page of this explorer has shown, and of no other."""

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

from mammi.data import read_film
from mammi.errors import MammiError
from mammi.pages import RunView
from mammi.pages.thumbnails import Thumbnails, jpeg
from mammi.store.files import read_json
from mammi.types import Film
from mammi.web.guard import Refusal

__all__ = ["Pictures"]

#: Bytes of thumbnails kept in memory, at most.
KEPT = 2**26


class Pictures:
    """Thumbnails by salted id, read from where the films lie when they are first asked for; nothing is written.

    A page decides which pictures may be shown: it withholds those of films of fewer patients than the rule asks for. So a
    film is served only once a page has referred to its picture; guessing ids is of no use.

    Args:
        view: the run.
    """

    def __init__(self, view: RunView) -> None:
        self.view = view
        self._made = Thumbnails(view)
        self._shown: set[str] = set()
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()
        self._sources: list[dict[str, Any]] = []

    def allow(self, data: Any) -> None:  # noqa: ANN401 - whatever a page says
        """Note the films whose pictures a page refers to: those of every group that withholds none."""
        if isinstance(data, dict):
            if data.get("withheld") == "" and isinstance(data.get("films"), list):
                self._shown.update(film["id"] if isinstance(film, dict) else film for film in data["films"])
            for value in data.values():
                self.allow(value)
        elif isinstance(data, list):
            for value in data:
                self.allow(value)

    def thumbnail(self, film: str) -> bytes:
        """Return a film as a small JPEG.

        Raises:
            Refusal: with status 404 if no page has shown it, or it cannot be read any more.
        """
        if film not in self._shown or film not in self.view.film_rows:
            raise Refusal(404, "No page of this explorer shows a picture of that name.")
        with self._lock:  # one film is decoded at a time: a page asks for dozens at once
            if film not in self._kept:
                try:
                    path = self._made.path(film)  # made by a report, perhaps
                    self._kept[film] = path.read_bytes() if path.is_file() else jpeg(self.film(film))
                except (MammiError, OSError) as error:  # the reason names a file
                    raise Refusal(404, "This film cannot be read any more.") from error
                while sum(map(len, self._kept.values())) > KEPT and len(self._kept) > 1:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(film)
            return self._kept[film]

    def film(self, film: str) -> Film:
        """Read one of the run's films.

        Raises:
            ImageError: if it is not where it was, or cannot be read.
            RunError: if the run no longer holds where its films are.
        """
        run = self.view.run
        if not self._sources:
            self._sources = read_json(run.folder / "private" / "films.json")
        path = Path(self._sources[int(run.images["row"].iloc[self.view.film_rows[film]])]["path"])
        return read_film(path, frame=run.manifest["identity"]["images"]["frame"])
