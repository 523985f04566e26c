"""What the explorer answers: pages and their twins, search, uploads, pictures, two runs; in process."""

import builtins
import io
import os
import re
import socket
import tempfile
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from mammi.pages.galleries import K_PATIENTS
from web.conftest import MARKUP, N_FILMS, NAMES

PAGES = (
    "/",
    "/units",
    "/units?layer=1&only=named&sort=name",
    "/unit/0/3",
    "/unit/1/5",
    "/classes",
    "/class/2",
    "/opinions",
    "/audit",
    "/method",
    "/search",
    "/search?q=large+heart",
    "/search?q=effusion&layer=1&only=named&feeds=3",
    "/film",
    "/compare",
    "/compare?layer=1&only=changed",
)


class Elements(HTMLParser):
    """The elements of a page, as a browser takes it apart."""

    def __init__(self, text):
        super().__init__()
        self.elements = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))


def twin(address):
    path, _, query = address.partition("?")
    return f"{path}.json" + (f"?{query}" if query else "")


@pytest.mark.parametrize("address", PAGES)
def test_every_page_has_a_twin_and_nothing_escapes(explorer, address):
    page, data = explorer.client.get(address), explorer.client.get(twin(address))
    assert (page.status_code, data.status_code) == (200, 200), page.text[-400:]
    assert data.json()["notice"] in page.text
    assert "not a diagnostic device" in page.text
    for broken in (MARKUP, "<img src=x", "<svg/onload"):
        assert broken not in page.text
    found = Elements(page.text)
    # Scripts are files of ours, styles too: there is no other in the page, and nothing from elsewhere.
    for tag, attributes in found.elements:
        assert tag not in ("style", "iframe", "object", "embed", "base"), tag
        assert tag != "script" or (attributes.keys() <= {"src", "defer"} and attributes["src"]), attributes
        assert not [name for name in attributes if name == "style" or name.startswith("on")], attributes
        for name in ("src", "href", "action", "formaction"):
            assert (attributes.get(name) or "/").startswith(("/", "#", "data:image/")), attributes


def test_markup_is_shown_as_it_was_written(explorer):
    shown = "".join(unescape(explorer.client.get(f"/unit/1/{unit}").text) for unit in range(8))
    assert any(name in shown for name in NAMES)
    assert f"label {MARKUP}" in shown


def test_addresses_and_headings_lead_on(explorer):
    page = explorer.client.get("/units?layer=1").text
    assert 'href="/unit/1/5"' in page
    assert 'href="/units.json?layer=1"' in page


def test_filters_of_a_table_stay_with_its_pages_and_its_twin(explorer):
    page = explorer.client.get("/units?layer=1&page=1&query=&only=named&sort=name").text
    assert '<input type="hidden" name="layer" value="1">' in page
    assert "/units.json?layer=1&amp;sort=name&amp;only=named" in page
    data = explorer.client.get("/units.json?layer=1&sort=name&only=named").json()
    assert (data["layer"], data["sort"], data["only"]) == ("layer3", "name", "named")


def test_classes_say_what_decides_them_once_the_network_is_loaded(explorer):
    decided = [explorer.client.get(f"/class/{number}.json").json()["decided"] for number in range(4)]
    assert any(decided)
    assert explorer.client.get("/unit/1/5.json").json()["feeds"]["rows"]


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/nothing", 404),
        ("/unit/7/0", 404),
        ("/unit/0/9999999999999999999999", 404),
        ("/unit/0/-1", 404),
        ("/class/400", 404),
        ("/films/film-000000000000.jpg", 404),
        ("/assets/secret.py", 404),
        ("/units?page=x", 400),
        ("/units?sort=banana", 400),
        ("/units?layer=99", 404),
        ("/units?page=99999999999999999999999999", 400),
        ("/search?below=nan&q=a", 400),
        ("/search?layer=-3", 400),
        ("/search?feeds=999", 400),
        ("/compare?layer=9", 400),
        ("/docs", 404),
        ("/openapi.json", 404),
    ],
)
def test_what_is_not_there_is_said_in_a_line(explorer, run, address, status):
    for path in (address, twin(address) if "." not in address else address):
        answer = explorer.client.get(path)
        assert answer.status_code == status, path
        assert "Traceback" not in answer.text
        assert str(run.folder) not in answer.text
    if address.endswith(".json") or "." not in address:
        assert answer.json()["status"] == status


def test_search_by_words_scores_every_unit_as_numpy_does(explorer, run):
    found = explorer.client.get("/search.json", params={"q": "large heart"}).json()
    assert found["scored"]["films"] == N_FILMS
    assert found["scored"]["complete"]
    search = explorer.models.search
    direction = search.direction("large heart")
    cosines = search.embeddings.astype(np.float64) @ direction
    for row in found["rows"][:10]:
        activation = np.asarray(run.activations(row["layer"])[row["unit"]], np.float64)
        assert row["r"] == pytest.approx(np.corrcoef(activation, cosines)[0, 1], abs=2e-6)
    assert [row["r"] for row in found["rows"]] == sorted((row["r"] for row in found["rows"]), reverse=True)


def test_search_lists_units_named_so_with_those_that_respond_so(explorer, run):
    found = explorer.client.get("/search.json", params={"q": "pleural effusion"}).json()
    named = run.search("pleural effusion")
    assert found["named"] == len(named) > 0
    assert {(row["layer"], row["unit"]) for row in found["rows"] if row["named_so"]} == set(
        zip(named["layer"], named["unit"], strict=True)
    )
    assert any(row["beyond_chance"] for row in found["rows"])
    page = explorer.client.get("/search", params={"q": "pleural effusion"}).text
    assert "is named so" in page
    assert "responds so" in page


def test_filters_leave_what_they_say(explorer, run):
    all_units = explorer.client.get("/search.json").json()
    assert all_units["found"] == len(run.units)
    unnamed = explorer.client.get("/search.json?only=none").json()
    assert unnamed["found"] == int((run.units["n_concepts"] == 0).sum())
    account = explorer.models.account
    strongest = np.abs(account.head.weight).argmax(axis=0)
    fed = explorer.client.get("/search.json?feeds=4").json()
    assert fed["found"] == int((strongest == 4).sum())
    assert {row["layer"] for row in fed["rows"]} <= {account.layer}
    assert explorer.client.get("/search.json?below=0.05").json()["found"] == 0  # this method states no q-value


def test_a_method_that_encodes_examples_only_says_so(examples_run):
    from fastapi.testclient import TestClient

    from mammi.web.app import create_app

    app = create_app(examples_run)
    with TestClient(app) as client:
        app.state.models.wait()
        found = client.get("/search.json?q=heart").json()
        assert not found["scored"]["complete"]
        assert 0 < found["scored"]["films"] <= N_FILMS
        assert "leans towards films at the extremes" in client.get("/search?q=heart").text


def test_without_models_units_are_found_by_name(run, tmp_path):
    import shutil

    from fastapi.testclient import TestClient

    from mammi.store import open_run
    from mammi.web.app import create_app

    folder = tmp_path / "passed-on"
    shutil.copytree(run.folder, folder)
    shutil.rmtree(folder / "private")
    app = create_app(open_run(folder), with_images=True)
    with TestClient(app) as client:
        app.state.models.wait()
        for address in ("/", "/units", "/unit/1/5", "/classes", "/method", "/film"):
            page = client.get(address)
            assert page.status_code == 200, address
            assert str(folder) not in page.text
        found = client.get("/search.json?q=cardiomegaly").json()
        assert found["scored"]["why_not"]
        assert found["rows"]
        assert all(row["named_so"] for row in found["rows"])
        assert client.post("/film", files={"film": png()}).status_code == 503


@pytest.mark.parametrize(
    "words", ["\0", '"', "' OR 1=1 --", "NEAR(", "*", "%", "a" * 5_000, "\u2603 \U0001d518", MARKUP, "-", "col:x"]
)
def test_no_words_break_the_search(explorer, words):
    answer = explorer.client.get("/search", params={"q": words})
    assert answer.status_code == 200
    assert MARKUP not in answer.text


def png(side=64):
    buffer = io.BytesIO()
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 255, (side, side), dtype=np.uint8)).save(buffer, "PNG")
    return ("Doe, Jane 47-11.png", buffer.getvalue(), "image/png")


@pytest.mark.parametrize("address", ["/film", "/film.json", "/search", "/search.json"])
def test_an_upload_is_explained_and_leaves_no_trace(explorer, film, address, monkeypatch, run):
    explorer.client.post(address, files={"film": ("a.png", film)})  # whatever is loaded once is loaded
    written = []
    real_open, real_io, real_os = builtins.open, io.open, os.open

    def watch(real, writes):
        def opening(name, *args, **kwargs):
            if writes(args, kwargs):
                written.append(name)
            return real(name, *args, **kwargs)

        return opening

    def by_mode(args, kwargs):
        return set("wax+") & set(kwargs.get("mode", args[0] if args else "r"))

    def by_flags(args, kwargs):
        return (args[0] if args else kwargs.get("flags", 0)) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)

    monkeypatch.setattr(builtins, "open", watch(real_open, by_mode))
    monkeypatch.setattr(io, "open", watch(real_io, by_mode))
    monkeypatch.setattr(os, "open", watch(real_os, by_flags))
    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", None)
    before = sorted((path, path.stat().st_mtime_ns) for path in run.folder.rglob("*"))
    answer = explorer.client.post(address, files={"film": ("Doe, Jane 47-11.png", film, "image/png")})
    assert answer.status_code == 200
    assert written == []
    assert sorted((path, path.stat().st_mtime_ns) for path in run.folder.rglob("*")) == before
    for trace in ("Doe, J", "Jane 4", "47-11"):  # what no number, id or base64 can spell
        assert trace not in answer.text
        assert trace not in str(dict(answer.headers))


def test_a_film_of_the_run_stands_where_the_run_has_it(explorer, film, run, drawn):
    """Its recorded activations and those of the upload are the same, so its place among the films is its own."""
    found = explorer.client.post("/search.json", files={"film": ("x", film)}).json()
    row = int(np.flatnonzero(run.images["row"].to_numpy() == 0)[0])
    for layer in found["layers"]:
        recorded = run.activations(layer["layer"])
        for unit in layer["rows"]:
            own = recorded[unit["unit"]]
            assert unit["activation"] == pytest.approx(float(own[row]), rel=1e-3, abs=1e-4)
            below = ((own < own[row]).mean() + (own <= own[row]).mean()) / 2
            assert unit["percentile"] == pytest.approx(below, abs=1.5 / N_FILMS)


@pytest.mark.parametrize(
    ("files", "data", "status"),
    [
        ({"film": ("x.png", b"")}, {}, 400),
        ({"other": ("x.png", b"123")}, {}, 400),
        ({"film": ("x.png", b"<script>")}, {}, 422),
        ({"film": ("x.png", png()[1])}, {"frame": "many"}, 400),
        ({"film": ("x.png", png()[1])}, {"frame": "3"}, 422),
        ({f"part {place}": ("x", b"1") for place in range(40)}, {}, 400),
    ],
)
def test_uploads_that_are_none_are_refused(explorer, files, data, status):
    answer = explorer.client.post("/film.json", files=files, data=data)
    assert answer.status_code == status
    assert answer.json()["reason"]
    assert "<script>" not in explorer.client.post("/film", files=files, data=data).text


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/x-www-form-urlencoded", b"film=x", 415),
        ("", b"", 415),
        ("multipart/form-data", b"--x--", 415),
        ("multipart/form-data; boundary=x", b"", 400),
        ("multipart/form-data; boundary=x", b"--y\r\n\r\n--y--", 400),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data; name=film\r\n\r\nabc", 422),
        ("multipart/form-data; boundary=" + "b" * 5_000, b"--" + b"b" * 5_000, 400),
        ("multipart/form-data; boundary=x", b"--x\r\n" + b"A: b\r\n" * 5_000 + b"\r\nabc\r\n--x--", 400),
    ],
)
def test_forms_that_are_none_are_refused(explorer, kind, body, status):
    answer = explorer.client.post("/film.json", content=body, headers={"content-type": kind})
    assert answer.status_code == status, answer.text


def test_pictures_are_served_only_once_a_page_shows_them(run, examples_run):
    from fastapi.testclient import TestClient

    from mammi.web.app import create_app

    every = [str(film) for film in run.images["id"]]
    with TestClient(create_app(run)) as client:  # not asked for
        page = client.get("/unit/1/5").text
        assert "/films/" not in page
        assert {client.get(f"/films/{film}.jpg").status_code for film in every} == {404}
    with TestClient(create_app(run, with_images=True)) as client:
        assert {client.get(f"/films/{film}.jpg").status_code for film in every} == {404}
        shown = set(re.findall(r'src="/films/([\w-]+)\.jpg"', client.get("/unit/1/5").text))
        assert shown
        for film in every:
            answer = client.get(f"/films/{film}.jpg")
            assert answer.status_code == (200 if film in shown else 404)
            if film in shown:
                with Image.open(io.BytesIO(answer.content)) as picture:
                    assert picture.format == "JPEG"
                    assert not picture.getexif()


def test_films_of_few_patients_are_withheld(run, tmp_path):
    """All films of one patient: no page may show any, and the address of none answers."""
    import shutil

    from fastapi.testclient import TestClient

    from mammi.store import open_run
    from mammi.store.tables import write_parquet
    from mammi.web.app import create_app

    folder = tmp_path / "one-patient"
    shutil.copytree(run.folder, folder)
    write_parquet(folder / "images.parquet", run.images.assign(patient="patient-000000000001"))
    with TestClient(create_app(open_run(folder), with_images=True)) as client:
        for address in ("/", "/units", "/unit/1/5", "/unit/0/2"):
            page = client.get(address)
            assert "/films/" not in page.text, address
        assert str(K_PATIENTS) in client.get("/unit/1/5").text
        assert {client.get(f"/films/{film}.jpg").status_code for film in run.images["id"]} == {404}


def test_two_runs_side_by_side(explorer, run, examples_run):
    found = explorer.client.get("/compare.json?layer=1").json()
    assert found["methods"] == [run.method, examples_run.method]
    assert found["layer"]["paired_by"] == "index"
    names = examples_run.units[examples_run.units["layer"] == "layer3"]["name"].tolist()
    for pair in found["layer"]["pairs"]:
        assert pair["name_b"] == names[pair["unit_b"]]
    page = unescape(explorer.client.get("/compare?layer=1").text)
    assert "units with a concept" in page


def test_without_a_second_run_there_is_no_comparison(run):
    from fastapi.testclient import TestClient

    from mammi.web.app import create_app

    with TestClient(create_app(run)) as client:
        assert client.get("/compare").status_code == 404
        assert "/compare" not in client.get("/").text


def test_nothing_connects_anywhere(explorer, film, monkeypatch):
    def connect(self, address):
        raise AssertionError(f"connects to {address}")

    monkeypatch.setattr(socket.socket, "connect", connect)
    for address in PAGES:
        assert explorer.client.get(address).status_code == 200
    assert explorer.client.post("/film", files={"film": ("x", film)}).status_code == 200
