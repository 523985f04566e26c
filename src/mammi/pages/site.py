"""What a page is, where it leads, and how it becomes HTML or JSON."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Protocol

from jinja2 import Environment, FunctionLoader, StrictUndefined

from mammi.errors import InputError
from mammi.pages import words

__all__ = ["ASSETS", "NAV", "NOTICE", "Links", "NavEntry", "Page", "Place", "Site", "asset", "render", "twin"]

#: Stands on every page.
NOTICE = "A research and audit tool, not a diagnostic device."
#: Files that every page asks for, all from this package.
ASSETS = ("style.css", "theme.js", "site.js")

#: Where a page is, whatever face shows it: its kind, then what singles it out. ``("overview",)``, ``("units", layer)``,
#: ``("units", layer, page)``, ``("unit", layer, index)``, ``("classes",)``, ``("class", number)``, ``("audit",)``,
#: ``("opinions",)``, ``("method",)``; and of the explorer ``("film",)``, ``("film", id)``, ``("compare",)``, ``("search",)``.
Place = tuple[str | int, ...]


@dataclass(frozen=True)
class Page:
    """One page.

    Attributes:
        title: of the document; the heading is the template's.
        template: file name in ``templates/``.
        place: where it is.
        data: all that it says, JSON only, NaN as None; its twin, to the letter. Films and patients by salted id.
        pictures: of a film that is no file anywhere, as ``data:`` addresses by name; not in the twin.
    """

    title: str
    template: str
    place: Place
    data: dict[str, Any] = field(repr=False)
    pictures: Mapping[str, str] = field(default_factory=dict, repr=False)


class Links(Protocol):
    """How one face addresses what it shows. Files on disk give relative addresses, the explorer absolute ones."""

    def page(self, *place: str | int) -> str:
        """Return the address of a page; a place of one word, such as ``"units"``, is the first page of its kind."""
        ...

    def twin(self, *place: str | int) -> str:
        """Return the address of a page's data as JSON; ``""`` where it has none."""
        ...

    def picture(self, film: str) -> str:
        """Return the address of the thumbnail of a film, by its salted id."""
        ...

    def asset(self, name: str) -> str:
        """Return the address of one of ``ASSETS``."""
        ...


@dataclass(frozen=True)
class NavEntry:
    """An entry of the bar on top: what it says, and the kinds of page that belong to it, its own first."""

    text: str
    kinds: tuple[str, ...]


#: What both faces have.
NAV = (
    NavEntry("Overview", ("overview",)),
    NavEntry("Units", ("units", "unit")),
    NavEntry("Classes", ("classes", "class")),
    NavEntry("Audit", ("audit",)),
    NavEntry("Method", ("method",)),
)


@dataclass(frozen=True)
class Site:
    """What all pages of one face share.

    Attributes:
        name: of the network under study.
        links: how addresses are made.
        nav: the bar on top.
        with_images: whether pictures of films may be shown at all.
        served: whether a server answers forms; else filters and paging are done by the page itself.
        film_pages: whether a film has a page of its own, so that its picture leads there.
    """

    name: str
    links: Links
    nav: tuple[NavEntry, ...] = NAV
    with_images: bool = False
    served: bool = False
    film_pages: bool = False


@cache
def _environment() -> Environment:
    from mammi.pages import charts, maps

    def source(name: str) -> str | None:
        path = files("mammi.pages").joinpath("templates", name)
        return path.read_text(encoding="utf-8") if path.is_file() else None

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(source),
    )
    environment.filters |= {name: getattr(words, name) for name in words.__all__}
    environment.globals |= {"notice": NOTICE, "charts": charts, "maps": maps}
    return environment


def render(page: Page, site: Site) -> str:
    """Return a page as a whole HTML document.

    Names come from reports and networks: everything is escaped, and a name that a template misses is an error. The
    document has no inline script and no style attribute, so that a strict content security policy
    (``script-src 'self'; style-src 'self'; img-src 'self' data:``) lets all of it work.
    """
    template = _environment().get_template(page.template)
    return template.render(page=page, data=page.data, site=site, links=site.links)


def twin(page: Page) -> str:
    """Return a page's data as JSON text.

    Raises:
        ValueError: if it holds NaN or what JSON cannot write: a view model's fault, not a user's.
    """
    return json.dumps({"title": page.title, "notice": NOTICE, **page.data}, ensure_ascii=False, allow_nan=False)


def asset(name: str) -> bytes:
    """Return the content of one of ``ASSETS``.

    Raises:
        InputError: if there is none of that name.
    """
    if name not in ASSETS:
        raise InputError(f"no asset {name!r}: there are {', '.join(ASSETS)}")
    return files("mammi.pages").joinpath("assets", name).read_bytes()
