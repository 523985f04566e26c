"""The folder: whole, closed in itself, silent about patients, careful with what lies in its place."""

import json
import re
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest

from mammi.errors import ImageError, RunError
from mammi.pages import ASSETS
from mammi.pages.words import decimals
from mammi.reports import write_report_folder
from mammi.reports.folder import FolderLinks, _shown
from small_run import HEAD, LAYER, N_FILMS, SECRET, TWO_PATIENTS, write_small_run


class Addresses(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found, self.ids, self.words, self._hidden = [], set(), [], 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids.add(given.get("id"))
        self.found += [given[name] for name in ("href", "src", "action") if given.get(name)]

    def handle_data(self, data):
        self.words.append(data)


def test_every_page_is_there_with_its_twin(report):
    expected = {"index", "units-0", "units-1", "classes", "audit", "method"}
    expected |= {f"unit/0-{unit}" for unit in range(6)} | {f"unit/1-{unit}" for unit in range(3)}
    expected |= {f"class/{number}" for number in range(3)}
    pages = {path.relative_to(report).as_posix().removesuffix(".html") for path in report.rglob("*.html")}
    assert pages == expected
    twins = {path.relative_to(report).as_posix().removesuffix(".json") for path in report.rglob("*.json")}
    assert twins == expected | {"model-card"}
    assert {path.name for path in (report / "assets").iterdir()} == set(ASSETS)
    assert not list(report.parent.glob(".*"))


def test_every_link_leads_somewhere_inside_and_every_page_can_be_reached(report):
    seen, ahead = set(), [report / "index.html"]
    while ahead:
        path = ahead.pop()
        if path in seen or path.suffix != ".html":
            continue
        seen.add(path)
        for address in Addresses(path.read_text(encoding="utf-8")).found:
            split = urlsplit(address)
            assert not split.scheme, address
            assert not split.netloc, address
            if not split.path:
                assert split.fragment in Addresses(path.read_text(encoding="utf-8")).ids
                continue
            target = (path.parent / unquote(split.path)).resolve()
            assert target.is_relative_to(report.resolve()), address
            assert target.is_file(), f"{path.name} leads to {address}"
            ahead.append(target)
    assert seen == set(report.resolve().rglob("*.html"))


def test_twins_hold_the_numbers_of_the_page(report):
    for path in report.rglob("*.html"):
        data = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        said = "".join(Addresses(path.read_text(encoding="utf-8")).words)
        assert data["notice"] in said
        if path.parent.name == "unit":
            for concept in data["concepts"]:
                assert concept["concept"] in said
                assert f"{concept['effect']:.2f}" in said
            for row in data["labels"]["rows"]:
                assert decimals(row["r"]) in said
            films = [film["id"][5:11] for film in data["examples"]["films"]]
            assert all(film in said for film in films)
        if path.name.startswith("units-"):
            assert all(row["name"] in said for row in data["rows"])
    card = json.loads((report / "model-card.json").read_text(encoding="utf-8"))
    assert card == json.loads((report / "method.json").read_text(encoding="utf-8"))["card"]


def test_no_path_file_name_or_patient_in_any_byte(report, plain, run):
    sources = json.loads((run.folder / "private" / "films.json").read_text())
    secrets = {SECRET, SECRET.replace("_", " "), str(run.folder.parent), *(source["sha256"] for source in sources)}
    for folder in (report, plain):
        for path in folder.rglob("*"):
            if path.is_file():
                content = path.read_bytes()
                for secret in secrets:
                    assert secret.encode() not in content, path
            assert SECRET not in path.name


def test_pictures_only_when_asked_for_and_never_those_withheld(report, plain):
    assert not (plain / "films").exists()
    assert not any("<img" in path.read_text(encoding="utf-8") for path in plain.rglob("*.html"))
    shown = {path.stem for path in (report / "films").iterdir()}
    used = {
        address.rpartition("/")[2].removesuffix(".jpg")
        for path in report.rglob("*.html")
        for address in Addresses(path.read_text(encoding="utf-8")).found
        if address.endswith(".jpg")
    }
    assert shown == used
    unit = (report / "unit" / f"0-{TWO_PATIENTS}").with_suffix(".json")
    examples = json.loads(unit.read_text(encoding="utf-8"))["examples"]
    page = unit.with_suffix(".html").read_text(encoding="utf-8").partition("Films that excite it least")[0]
    assert examples["withheld"]
    assert "films/" not in page
    assert "pictures of patients" in (report / "index.html").read_text(encoding="utf-8")
    assert "pictures of patients" not in (plain / "index.html").read_text(encoding="utf-8")


def test_films_of_withheld_groups_are_not_copied():
    def group(film, withheld=""):
        return {"films": [{"id": film}], "withheld": withheld}

    unit = {"examples": group("a", "why"), "counter": group("b"), "spread": group("c"), "senses": [{"films": None}]}
    assert _shown(unit) == {"b", "c"}
    assert _shown({**unit, "senses": [{"films": group("d")}, {"films": group("e", "why")}]}) == {"b", "c", "d"}
    assert _shown({"surest": group("f", "why")}) == set()
    assert _shown({"surest": None}) == set()
    assert _shown({"rows": [{"films": ["g"], "withheld": "why"}, {"films": ["h"], "withheld": ""}]}) == {"h"}


def test_is_written_once_more_the_same(plain, run, tmp_path):
    (tmp_path / "report").mkdir()  # an empty folder may be written to
    again = write_report_folder(run, tmp_path / "report")
    before = {path.relative_to(plain): path.read_bytes() for path in plain.rglob("*") if path.is_file()}
    after = {path.relative_to(again): path.read_bytes() for path in again.rglob("*") if path.is_file()}
    assert before == after


def test_replaces_a_report_and_nothing_else(run, tmp_path):
    folder = write_report_folder(run, tmp_path / "report")
    (folder / "old.txt").write_text("left from before")
    write_report_folder(run, folder)
    assert not (folder / "old.txt").exists()
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "index.html").write_text("mine")
    with pytest.raises(RunError, match="holds no report"):
        write_report_folder(run, other)
    assert (other / "index.html").read_text() == "mine"
    with pytest.raises(RunError, match=r"ends with \.html"):
        write_report_folder(run, other / "index.html")


def test_a_failure_leaves_the_old_report_and_no_rubbish(tmp_path):
    run = write_small_run(tmp_path / "run")
    folder = write_report_folder(run, tmp_path / "report")
    before = (folder / "index.html").read_bytes()
    for path in (tmp_path / "films").iterdir():
        path.unlink()
    with pytest.raises(ImageError, match="is not where it was"):
        write_report_folder(run, folder, with_images=True)
    assert (folder / "index.html").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["films", "report", "run"]


def test_progress_counts_units_and_films(run, tmp_path):
    told = []
    write_report_folder(run, tmp_path / "r", with_images=True, progress=lambda *step: told.append(step))
    assert [step for step in told if step[0] == "writing pages"] == [("writing pages", n, 9) for n in range(1, 10)]
    films = [step for step in told if step[0] == "drawing thumbnails"]
    assert films[-1][1] == films[-1][2] == len(films) <= N_FILMS


def test_a_layer_of_many_units_has_many_pages(run, tmp_path, monkeypatch):
    monkeypatch.setattr("mammi.reports.folder.ROWS", 4)
    folder = write_report_folder(run, tmp_path / "report")
    assert {path.name for path in folder.glob("units-0*.html")} == {"units-0.html", "units-0-page-2.html"}
    text = (folder / "units-0.html").read_text(encoding="utf-8")
    assert 'rel="next" href="units-0-page-2.html"' in text
    assert [row["unit"] for row in json.loads((folder / "units-0-page-2.json").read_text())["rows"]] == [4, 5]


def test_addresses():
    links = FolderLinks((LAYER, HEAD), "../")
    assert links.page("overview") == "../index.html"
    assert links.page("units") == "../units-0.html"
    assert links.page("units", HEAD, 3) == "../units-1-page-3.html"
    assert links.twin("unit", HEAD, 2) == "../unit/1-2.json"
    assert links.page("class", 0) == "../class/0.html"
    assert links.picture("film-1") == "../films/film-1.jpg"
    assert re.fullmatch(r"\.\./assets/style\.css", links.asset("style.css"))
