"""Every page: safe, whole, without anything inline, and its twin says the same."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import jinja2
import pytest

from mammi.errors import InputError
from mammi.pages import (
    ASSETS,
    Page,
    asset,
    audit_page,
    class_page,
    classes_page,
    method_page,
    overview_page,
    render,
    twin,
    unit_page,
    units_page,
)
from small_run import HEAD, IMAGE, LAYER, SCRIPT, SECRET

AUDIT = {
    "sentences": [SCRIPT],
    "caution": IMAGE,
    "layer": LAYER,
    "n_units": 6,
    "level": 0.05,
    "notes": [SCRIPT],
    "gaps": [
        {
            "attribute": IMAGE,
            "output": SCRIPT,
            "films": "all",
            "gap": -0.4,
            "low": -0.6,
            "high": -0.1,
            "carried": 0.2,
            "n_units": 2,
        },
        {
            "attribute": "age",
            "output": "mass",
            "films": "all",
            "gap": 0.1,
            "low": -0.1,
            "high": 0.3,
            "carried": None,
            "n_units": 0,
        },
        {
            "attribute": "age",
            "output": "mass",
            "films": "with",
            "gap": 0.9,
            "low": None,
            "high": None,
            "carried": None,
            "n_units": 0,
        },
    ],
    "units": [{"attribute": "age", "unit": 2, "name": SCRIPT, "effect": -0.3, "q_value": 0.01, "reacts": True}],
    "exact": True,
    "carried": [
        {
            "attribute": IMAGE,
            "output": SCRIPT,
            "unit": 2,
            "name": SCRIPT,
            "effect": -0.3,
            "q_value": 0.01,
            "carried_same": -0.2,
            "reacts": True,
        }
    ],
    "confounders": [{"attribute": "age", "goes_with": IMAGE, "r": 0.4}] * 11,
}
DECIDED = {
    "rule": SCRIPT,
    "n_in": 4,
    "n_out": 5,
    "exact": True,
    "layer": LAYER,
    "units": [
        {"unit": 2, "name": IMAGE, "in_class": 1.0, "elsewhere": 0.4, "difference": 0.6, "low": 0.2, "high": 0.9}
    ],
    "concepts": [
        {
            "concept": f"{SCRIPT}{n}",
            "n_units": 1,
            "in_class": 1.0,
            "elsewhere": 0.0,
            "difference": 1.0 - n / 10,
            "low": None,
            "high": None,
        }
        for n in range(20)
    ],
}


def every_page(view):
    explained = replace(view, audit=AUDIT, decide=lambda number: DECIDED if number == 0 else None)
    explained.places = {
        (LAYER, 0): [
            {
                "layer": LAYER,
                "unit": 0,
                "concept": SCRIPT,
                "n": 3,
                "n_patients": 2,
                "pointing": 0.5,
                "pointing_low": float("nan"),
                "pointing_high": float("nan"),
                "iou": 0.2,
                "side": 1.0,
                "centre": 0.1,
            }
        ]
    }
    yield overview_page(view)
    for layer, units in ((LAYER, 6), (HEAD, 3)):
        yield units_page(view, layer)
        yield units_page(view, layer, query=SCRIPT, sort="effect", only="named")
        for unit in range(units):
            yield unit_page(explained, layer, unit)
    yield classes_page(view)
    for number in range(3):
        yield class_page(explained, number)
    yield class_page(view, 0)
    yield audit_page(view)
    yield audit_page(explained)
    yield method_page(view)


class Strict(HTMLParser):
    """Collects what a strict content security policy would block, and what is left open."""

    void = frozenset({"meta", "link", "img", "input", "br"})

    def __init__(self, text):
        super().__init__()
        self.open, self.wrong, self.tags, self.ids = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.append((tag, given))
        if "id" in given:
            self.ids.append(given["id"])
        if "style" in given or tag in ("style", "iframe", "object") or any(name.startswith("on") for name in given):
            self.wrong.append((tag, given))
        if tag == "script" and "src" not in given:
            self.wrong.append((tag, given))
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.void:
            self.open.pop()

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()
        else:
            self.wrong.append(("end", tag, self.open[-3:]))


@pytest.mark.parametrize("served", [False, True])
@pytest.mark.parametrize("with_images", [False, True])
def test_every_page_is_safe_and_whole(view, site, served, with_images):
    shown = replace(site, served=served, film_pages=served, with_images=with_images)
    n_pages = 0
    for page in every_page(view):
        text = render(page, shown)
        found = Strict(text)
        assert found.wrong == [], page.place
        assert found.open == [], page.place
        assert len(found.ids) == len(set(found.ids)), page.place
        assert "A research and audit tool, not a diagnostic device." in text
        assert [tag for tag, _ in found.tags].count("h1") == 1
        assert ("img" in {tag for tag, _ in found.tags}) <= with_images
        assert not [given for tag, given in found.tags if tag == "img" and "alt" not in given]
        assert not re.search(r"https?:", text)
        assert SCRIPT not in text
        assert "<img src=x" not in text
        assert SECRET not in text
        assert str(view.run.folder.parent) not in text
        labelled = {given["aria-labelledby"] for _, given in found.tags if "aria-labelledby" in given}
        assert {name for names in labelled for name in names.split()} <= set(found.ids)
        n_pages += 1
    assert n_pages == 22


def test_twins_hold_what_pages_say_and_no_secret(view, site):
    for page in every_page(view):
        data = json.loads(twin(page))
        assert data["notice"].startswith("A research and audit tool")
        assert data["title"] == page.title
        assert SECRET not in twin(page)
        assert {name: value for name, value in data.items() if name not in ("title", "notice")} == json.loads(
            json.dumps(page.data)
        )


def test_the_bar_says_where_one_is(view, site):
    current = [
        given for tag, given in Strict(render(unit_page(view, LAYER, 0), site)).tags if given.get("aria-current")
    ]
    assert [given["href"] for given in current] == ["units"]
    assert current[0]["aria-current"] == "true"
    assert 'href="units" aria-current="page"' in render(units_page(view, LAYER), site)


def test_what_a_template_misses_is_an_error(site):
    with pytest.raises(jinja2.UndefinedError):
        render(Page("t", "overview.html", ("overview",), {}), site)
    with pytest.raises(ValueError, match="not JSON compliant"):
        twin(Page("t", "overview.html", ("overview",), {"x": float("nan")}))


def test_assets_are_ours_and_fetch_nothing():
    for name in ASSETS:
        text = asset(name).decode()
        assert not re.search(r"https?:|@import|url\(|eval\(|innerHTML|fetch\(", text)
    with pytest.raises(InputError, match="no asset"):
        asset("../site.py")
