"""Thumbnails of films: of those that a page of this explorer has shown, and of no other."""

import base64
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

from mammi.data import read_film
from mammi.errors import ImageError
from mammi.pages import RunView
from mammi.reports.page import thumbnail
from mammi.store.files import read_json
from mammi.web.guard import Refusal

__all__ = ["Pictures"]

#: Thumbnails kept in memory; some 5 kB each.
KEPT = 2_000


class Pictures:
    """Thumbnails by salted id, read from where the films lie when they are first asked for.

    A page decides which pictures may be shown: it withholds those of films of fewer patients than the rule asks for. So a
    film is served only once a page has referred to its picture; guessing ids is of no use.

    Args:
        view: the run.
    """

    def __init__(self, view: RunView) -> None:
        self.view = view
        self._shown: set[str] = set()
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()
        self._sources: list[dict[str, Any]] | None = None

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
            Refusal: if no page has shown it, or it cannot be read any more.
        """
        gone = Refusal(404, "There is no picture of that name.")
        if film not in self._shown or film not in self.view.film_rows:
            raise gone
        with self._lock:  # one film is decoded at a time: a page asks for dozens at once
            if film not in self._kept:
                try:
                    self._kept[film] = self._read(film)
                except (ImageError, LookupError) as error:
                    raise gone from error  # the reason names a file
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(film)
            return self._kept[film]

    def _read(self, film: str) -> bytes:
        run = self.view.run
        if self._sources is None:
            self._sources = read_json(run.folder / "private" / "films.json")
        row = int(run.images["row"].iloc[self.view.film_rows[film]])
        path = Path(self._sources[row]["path"])
        address = thumbnail(read_film(path, frame=run.manifest["identity"]["images"]["frame"]))
        return base64.b64decode(address.partition(",")[2])
