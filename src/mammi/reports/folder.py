"""A run as a folder of pages that opens from disk: every page of the explorer that needs no server."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mammi.errors import RunError
from mammi.pages import (
    ASSETS,
    Page,
    RunView,
    Site,
    asset,
    audit_page,
    class_page,
    classes_page,
    method_page,
    model_card,
    nav_of,
    opinions_page,
    overview_page,
    render,
    twin,
    unit_page,
    units_page,
)
from mammi.pages.classes import output_names
from mammi.pages.opening import open_view
from mammi.pages.thumbnails import Thumbnails
from mammi.store.run import Run
from mammi.types import Progress, no_progress

if TYPE_CHECKING:
    from mammi.explain.account import Account

__all__ = ["FolderLinks", "write_report_folder"]

#: Rows of a page of units: the page itself sorts and searches them.
ROWS = 1000
#: Says that a folder is a report of ours, so that it may be replaced.
MARK = "model-card.json"


@dataclass(frozen=True)
class FolderLinks:
    """Relative addresses, for pages on disk.

    Attributes:
        layers: names of the run's layers: an address holds their number, since a name may hold any character.
        up: from the page at hand to the folder: ``""`` or ``"../"``.
    """

    layers: tuple[str, ...]
    up: str = ""

    def path(self, *place: str | int) -> str:
        """Return where a page lies in the folder, without its ending."""
        kind, *rest = place
        if kind == "overview":
            return "index"
        if kind == "units":
            number = self.layers.index(str(rest[0])) if rest else 0
            page = int(rest[1]) if len(rest) > 1 else 1
            return f"units-{number}" + (f"-page-{page}" if page > 1 else "")
        if kind == "unit":
            return f"unit/{self.layers.index(str(rest[0]))}-{rest[1]}"
        if kind == "class":
            return f"class/{rest[0]}"
        return str(kind)

    def page(self, *place: str | int) -> str:
        """Return the address of a page."""
        return f"{self.up}{self.path(*place)}.html"

    def twin(self, *place: str | int) -> str:
        """Return the address of a page's data."""
        return f"{self.up}{self.path(*place)}.json"

    def picture(self, film: str) -> str:
        """Return the address of a thumbnail."""
        return f"{self.up}films/{film}.jpg"

    def asset(self, name: str) -> str:
        """Return the address of an asset."""
        return f"{self.up}assets/{name}"


def write_report_folder(
    run: Run,
    folder: str | Path,
    *,
    with_images: bool = False,
    account: "Account | None" = None,
    progress: Progress = no_progress,
) -> Path:
    """Write a run as a folder of pages: ``index.html`` is the first; each page has its data beside it as JSON.

    The folder is written aside and renamed. It opens from disk, asks the network for nothing, and holds no path, file
    name or patient's name.

    Args:
        run: a complete run.
        folder: where to write: new, empty, or an older report, which is replaced.
        with_images: show the films, read again from where they lie. They are pictures of patients: off unless asked for,
            and withheld where a unit's are of fewer than 3 patients.
        account: how the outputs follow from the units of one layer, from `mammi.explain`.
        progress: told of every unit and every film.

    Returns:
        ``folder``.

    Raises:
        RunError: if something else lies at ``folder``, the run lacks a table, or a page cannot be written.
        ImageError: if a film cannot be found or read any more.
    """
    folder = Path(folder)
    _refuse_foreign(folder)
    view = open_view(run, account)
    links = FolderLinks(tuple(run.layers))
    site = Site(view.name, links, nav_of(run), with_images=with_images)
    below = replace(site, links=replace(links, up="../"))
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        for name in ("assets", "unit", "class"):
            (aside / name).mkdir(parents=True)
        films: set[str] = set()
        total = len(run.units)
        done = 0
        for page in _pages(view):
            path = aside / links.path(*page.place)
            path.with_name(f"{path.name}.html").write_text(
                render(page, below if path.parent != aside else site), encoding="utf-8"
            )
            path.with_name(f"{path.name}.json").write_text(twin(page), encoding="utf-8")
            if page.place[0] in ("overview", "unit", "units", "class"):
                films |= _shown(page.data)
            if page.place[0] == "unit":
                done += 1
                progress("writing pages", done, total)
        for name in ASSETS:
            (aside / "assets" / name).write_bytes(asset(name))
        if with_images:
            _put_pictures(view, films, aside / "films", progress)
        card = json.dumps(model_card(view), indent=2, ensure_ascii=False, allow_nan=False)
        (aside / MARK).write_text(f"{card}\n", encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        aside.rename(folder)
    except OSError as error:
        raise RunError(
            f"cannot write {folder}: {error.strerror or error}. Free space or choose another folder"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def _refuse_foreign(folder: Path) -> None:
    """Raise unless a report may go there; an older report of ours may be replaced."""
    if folder.is_file():
        raise RunError(f"{folder} is a file: give a folder, or a name that ends with .html for one page")
    if (
        folder.is_dir()
        and any(folder.iterdir())
        and not ((folder / MARK).is_file() and (folder / "index.html").is_file())
    ):
        raise RunError(f"{folder} is not empty and holds no report: give a new or empty folder")


def _pages(view: RunView) -> Iterator[Page]:
    yield overview_page(view)
    for layer in view.run.layers:
        page = units_page(view, layer, size=ROWS)
        yield page
        for number in range(2, page.data["pages"] + 1):
            yield units_page(view, layer, number, size=ROWS)
        for index in range(page.data["n_units"]):
            yield unit_page(view, layer, index)
    yield classes_page(view)
    for number in range(len(output_names(view))):
        yield class_page(view, number)
    if view.run.opinions is not None:
        yield opinions_page(view)
    yield audit_page(view)
    yield method_page(view)


def _shown(data: Mapping[str, Any]) -> set[str]:
    """Return the films whose pictures the first page, or one of units, a unit or a class shows: those that are not withheld."""
    for few in ("glance", "rows"):
        if few in data:
            return {film for row in data[few] if not row["withheld"] for film in row["films"]}
    groups = [data.get(name) for name in ("examples", "counter", "spread", "surest")]
    groups += [sense["films"] for sense in data.get("senses", ())]
    return {film["id"] for group in groups if group and not group["withheld"] for film in group["films"]}


def _put_pictures(view: RunView, films: set[str], folder: Path, progress: Progress) -> None:
    thumbnails = Thumbnails(view)
    thumbnails.make_all(films, progress=progress)
    folder.mkdir()
    for film in films:
        shutil.copyfile(thumbnails.path(film), folder / f"{film}.jpg")
