"""The application: every page at its address, its data at the same address with ``.json`` behind it."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import wraps
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import FastAPI, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from mammi.errors import ImageError, InputError, MammiError, MissingExtraError
from mammi.pages import ASSETS, Page, Site, asset, render, twin
from mammi.pages.audit import audit_page
from mammi.pages.classes import class_page, classes_page
from mammi.pages.method import method_page
from mammi.pages.opinions import nav_of, opinions_page
from mammi.pages.overview import overview_page
from mammi.pages.site import NavEntry
from mammi.pages.unit import unit_page
from mammi.pages.units import units_page
from mammi.store.run import Run
from mammi.web.comparing import Beside, compare_page
from mammi.web.decoding import FilmDecoder
from mammi.web.filming import explained_page, film_form, unusual_page
from mammi.web.guard import Refusal, answer_of
from mammi.web.links import ExplorerLinks
from mammi.web.models import Models
from mammi.web.pictures import Pictures
from mammi.web.searching import search_page
from mammi.web.upload import form_fields

__all__ = ["UPLOADS", "create_app"]

#: Addresses that films are sent to.
UPLOADS = frozenset({"/film", "/film.json", "/search", "/search.json"})
_MEDIA = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}
_log = logging.getLogger("mammi.web")

# Numbers come from forms, where a field left blank is sent as "".
Number = Annotated[str, Query(max_length=20)]


def create_app(run: Run, *, with_images: bool = False, beside: Run | None = None) -> FastAPI:
    """Make the explorer of a run, without its guard: `mammi.web.serve` puts one in front.

    Args:
        run: a complete run.
        with_images: show pictures of the films: pictures of patients.
        beside: a second run over the same films, to compare with.

    Returns:
        The application; ``app.state.models`` is told to load when it starts.
    """
    models = Models(run)
    pictures, decoder = Pictures(models.view), FilmDecoder()
    pair = None if beside is None else Beside(run, beside)
    nav = (*nav_of(run), NavEntry("Film", ("film",)), *((NavEntry("Compare", ("compare",)),) if pair else ()))
    site = Site(models.view.name, ExplorerLinks(run.layers), nav, with_images=with_images, served=True)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        models.start()
        yield
        await run_in_threadpool(models.stop)
        decoder.close()

    app = FastAPI(title="mammi", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.state.models, app.state.decoder = models, decoder
    _add_errors(app)

    def answer(page: Page, as_json: bool) -> Response:
        if with_images:
            pictures.allow(page.data)
        if as_json:
            return Response(twin(page), media_type="application/json")
        return Response(render(page, site), media_type="text/html")

    def at(path: str) -> Callable[[Callable[..., Page]], None]:
        """Serve what a function returns at a path, and as JSON beside it."""

        def add(make: Callable[..., Page]) -> None:
            for ending in ("", ".json"):

                @wraps(make)
                def endpoint(*args: Any, as_json: bool = bool(ending), **kwargs: Any) -> Response:  # noqa: ANN401
                    return answer(make(*args, **kwargs), as_json)

                app.add_api_route(path + ending, endpoint, methods=["GET"], response_class=Response)

        return add

    @at("/")
    def overview() -> Page:
        return overview_page(models.view)

    @at("/units")
    def units(layer: Number = "", page: Number = "", query: str = "", sort: str = "unit", only: str = "all") -> Page:
        found = units_page(models.view, _layer(run, layer), _whole(page, 1), query=query[:200], sort=sort, only=only)
        asked = {"query": found.data["query"], "sort": sort, "only": only}
        usual = {"query": "", "sort": "unit", "only": "all"}
        more = urlencode({name: value for name, value in asked.items() if value != usual[name]})
        return replace(found, place=(*found.place, more))

    @at("/unit/{layer:int}/{index:int}")
    def unit(layer: int, index: int) -> Page:
        with _not_there():
            return unit_page(models.view, _layer(run, str(layer)), index)

    @at("/classes")
    def classes() -> Page:
        return classes_page(models.view)

    @at("/class/{number:int}")
    def one_class(number: int) -> Page:
        with _not_there():
            return class_page(models.view, number)

    @at("/opinions")
    def opinions() -> Page:
        return opinions_page(models.view)

    @at("/audit")
    def audit() -> Page:
        return audit_page(models.view)

    @at("/method")
    def method() -> Page:
        return method_page(models.view)

    @at("/search")
    def search(q: str = "", layer: Number = "", only: str = "all", below: Number = "", feeds: Number = "") -> Page:
        return search_page(
            models.view,
            models,
            q=q,
            layer=_whole(layer),
            only=only,
            below=_decimal(below),
            feeds=_whole(feeds),
        )

    @at("/film")
    def film() -> Page:
        return film_form(models.view, models)

    @at("/compare")
    def comparison(layer: Number = "", only: str = "all", page: Number = "") -> Page:
        if pair is None:
            raise Refusal(404, "No second run was given: start the explorer with --beside RUN2.")
        return compare_page(pair, layer=_whole(layer, 0), only=only, page=_whole(page, 1))

    def uploaded(body: bytes, content_type: str, explain: bool) -> Page:
        fields = form_fields(content_type, body)
        data = fields.get("film", b"")
        if not data:
            raise Refusal(400, "No film was chosen: choose a PNG, JPEG, TIFF or DICOM file.")
        chosen = _whole(fields.get("frame", b"").decode("ascii", "replace"))
        shown = decoder.decode(data, chosen)
        if explain:
            return explained_page(models.view, models, shown, with_images=with_images)
        return unusual_page(models.view, models, shown)

    async def upload(request: Request) -> Response:
        body, path = await request.body(), request.url.path
        kind = request.headers.get("content-type", "")
        page = await run_in_threadpool(uploaded, body, kind, path.startswith("/film"))
        return answer(page, path.endswith(".json"))

    for path in UPLOADS:
        app.add_api_route(path, upload, methods=["POST"], response_class=Response)

    @app.get("/films/{film}.jpg")
    def picture(film: str) -> Response:
        if not with_images:
            raise Refusal(404, "This explorer was started without pictures.")
        return Response(pictures.thumbnail(film), media_type="image/jpeg")

    @app.get("/assets/{name}")
    def assets(name: str) -> Response:
        if name not in ASSETS:
            raise Refusal(404, "There is nothing at this address.")
        kind = _MEDIA[name.rpartition(".")[2]]
        return Response(asset(name), media_type=kind, headers={"cache-control": "no-cache"})

    return app


def _add_errors(app: FastAPI) -> None:
    """Answer everything that goes wrong with a status and a sentence that names no file and no folder."""

    def refused(request: Request, refusal: Refusal) -> Response:
        body, media = answer_of(refusal, request.url.path)
        headers = {name.replace("_", "-"): value for name, value in refusal.headers.items()}
        return Response(body, refusal.status, headers, media)

    @app.exception_handler(Refusal)
    async def known(request: Request, error: Refusal) -> Response:
        return refused(request, error)

    @app.exception_handler(HTTPException)
    async def unknown_address(request: Request, error: HTTPException) -> Response:
        words = "There is nothing at this address." if error.status_code == 404 else "This cannot be done here."
        return refused(request, Refusal(error.status_code, words))

    @app.exception_handler(RequestValidationError)
    async def wrong_query(request: Request, error: RequestValidationError) -> Response:
        names = ", ".join(sorted({str(one["loc"][-1]) for one in error.errors()}))
        return refused(request, Refusal(400, f"This address holds a value that is none: {names}."))

    @app.exception_handler(MammiError)
    async def failed(request: Request, error: MammiError) -> Response:
        if isinstance(error, MissingExtraError):
            return refused(request, Refusal(501, str(error)))
        if isinstance(error, ImageError) and request.method == "POST":
            return refused(request, Refusal(422, str(error)))
        if isinstance(error, InputError):
            return refused(request, Refusal(400, str(error)))
        _log.error("%s: %s", request.url.path, error)
        words = "Part of the run or its models cannot be read: the terminal in which the explorer runs says which."
        return refused(request, Refusal(500, words))

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        return refused(request, Refusal(500, "This page failed. The terminal in which the explorer runs says why."))


class _not_there:
    """Turn a unit or class that does not exist into a page that does not."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, InputError):
            raise Refusal(404, str(error)) from error


def _layer(run: Run, number: str) -> str:
    place: int = _whole(number, 0)
    if not 0 <= place < len(run.layers):
        raise Refusal(404, f"The run has layers 0 to {len(run.layers) - 1}, got {place}.")
    return str(run.layers[place])


def _whole(text: str, default: Any = None) -> Any:  # noqa: ANN401 - an int, or what stands for nothing
    """Return a field of a form as a whole number; ``default`` where it was left blank."""
    if not text.strip():
        return default
    try:
        return int(text)
    except ValueError as error:
        raise InputError(f"expected a whole number, got {text[:20]!r}") from error


def _decimal(text: str) -> float | None:
    if not text.strip():
        return None
    try:
        return float(text)
    except ValueError as error:
        raise InputError(f"expected a number, got {text[:20]!r}") from error
