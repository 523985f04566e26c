"""A scripted visit in real Chromium: what a person does with the explorer, click by click."""

import json
import os
import re
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest

NOTICE = "A research and audit tool, not a diagnostic device"
#: Of the pages of single units, this many are followed from the lists; the others are alike.
FEW_UNITS = 12


@pytest.fixture(scope="module")
def context(chromium, explorer):
    """A browser that has opened the printed link once, and counts what it asks of other places and what fails."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    context.asked, context.wrong = [], []
    context.on("request", lambda request: context.asked.append(request.url))
    context.on("response", lambda response: context.wrong.append(response.url) if response.status >= 400 else None)
    context.on("weberror", lambda error: context.wrong.append(str(error.error)))
    page = context.new_page()
    page.goto(explorer)
    page.close()
    yield context
    context.close()


@pytest.fixture(scope="module")
def home(explorer):
    parts = urlsplit(explorer)
    return f"{parts.scheme}://{parts.netloc}/"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Where screenshots go: the folder MAMMI_PICTURES, which is how those of the docs are made, or a passing one."""
    return Path(os.environ.get("MAMMI_PICTURES") or tmp_path_factory.mktemp("pictures"))


def keep_picture(page, folder, name, height=900):
    """Take what a person sees without scrolling, once every picture on it has come."""
    page.set_viewport_size({"width": 1280, "height": height})
    page.evaluate("document.images.length && [...document.images].forEach(i => i.loading = 'eager')")
    page.wait_for_load_state("networkidle")
    path = folder / f"explorer-{name}.jpg"
    page.screenshot(path=path, type="jpeg", quality=72)
    assert path.stat().st_size > 20_000


@pytest.fixture
def page(context, home):
    page = context.new_page()
    page.set_default_timeout(20_000)
    page.goto(home)
    yield page
    page.close()


def wait_for_models(page, home):
    """Search by any words and explanations work once the models are loaded, in the background."""
    for _ in range(120):
        if page.request.get(f"{home}film.json").json()["missing"] == "":
            state = page.request.get(f"{home}film.json").json()
            if not state["partly"]:
                return
        page.wait_for_timeout(500)
    pytest.fail("the models were not loaded within a minute")


def test_the_link_opens_the_overview_and_keeps_no_token(page, home, pictures):
    assert page.url == home
    assert re.match(r"What \d+ units of .* respond to", page.inner_text("h1"))
    assert NOTICE in page.inner_text("footer")
    assert "token" not in page.content()
    keep_picture(page, pictures, "overview", 860)


def test_a_unit_is_found_by_a_word_and_opened(page, home, pictures):
    wait_for_models(page, home)
    page.get_by_role("searchbox").first.fill("fluid")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search?q=fluid*")
    names = page.locator("#hits tbody tr").all_inner_texts()
    assert any("effusion" in name for name in names[:5])
    keep_picture(page, pictures, "search", 620)
    page.locator("#hits tbody tr a").first.click()
    page.wait_for_url(re.compile(r"/unit/\d+/\d+$"))
    assert page.locator("#examples").inner_text() == "Films that excite it most"
    assert page.locator("img").count() > 3
    broken = page.evaluate("[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)")
    assert broken == []
    keep_picture(page, pictures, "unit", 900)


def test_a_dicom_film_is_explained_and_its_sum_is_the_logit(page, home, unseen_dicom, pictures):
    wait_for_models(page, home)
    page.get_by_role("link", name="Film", exact=True).click()
    page.set_input_files("input[type=file]", unseen_dicom)
    page.get_by_role("button", name="Explain").click()
    page.wait_for_selector("#predictions")
    assert "effusion" in page.inner_text("body")
    for secret in ("Doe, J", "Jane 1", "1961-03", "Phantom^", unseen_dicom.name):  # what no base64 can spell
        assert secret not in page.content()
    tables = page.locator("table.shares").all()
    assert tables
    for table in tables:
        rows = [row.inner_text() for row in table.locator("tbody tr td:nth-child(2)").all()]
        numbers = [float(text.replace("\u2212", "-")) for text in rows]
        *parts, total = numbers
        # Each number is rounded to two places where it is shown.
        assert abs(sum(parts) - total) <= 0.005 * (len(parts) + 1)
    said = [float(x.replace("\u2212", "-")) for x in re.findall(r"difference (\S+?)[).,]", page.inner_text("main"))]
    assert said
    assert max(map(abs, said)) < 1e-4
    page.get_by_role("heading", name="Why “effusion”").scroll_into_view_if_needed()
    page.evaluate("scrollTo(0, document.querySelector('section.output').offsetTop - 20)")
    keep_picture(page, pictures, "film", 1500)


def test_the_theme_is_switched_and_remembered(page, home, pictures):
    def paper():
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    light = paper()
    page.get_by_label("Theme").select_option("dark")
    assert paper() != light
    page.goto(f"{home}units?layer=1")
    assert paper() != light
    keep_picture(page, pictures, "units-dark", 900)
    page.get_by_label("Theme").select_option("light")
    assert paper() == light


def test_every_link_answers(page, home, context):
    """Every address on every page, and its JSON twin; of the many pages of single units, some."""
    waiting, seen, units = [home], {home}, 0
    while waiting:
        url = waiting.pop()
        answer = page.request.get(url)
        assert answer.status == 200, f"{url}: {answer.status}"
        kind = answer.headers["content-type"]
        if kind.startswith("application/json"):
            json.loads(answer.body())
            continue
        if not kind.startswith("text/html"):
            continue
        for link in re.findall(r'(?:href|src)="([^"#]+)"', answer.text()):
            found = urljoin(url, link.replace("&amp;", "&"))
            if found in seen or found.startswith("data:"):
                continue
            assert urlsplit(found).netloc == urlsplit(home).netloc, f"{url} leads to {found}"
            seen.add(found)
            if re.search(r"/unit/\d+/\d+(\.json)?$", found):
                units += 1
                if units > FEW_UNITS:
                    continue
            waiting.append(found)
    assert len(seen) > 60


def test_nothing_was_asked_of_another_place_and_nothing_failed(context, home):
    assert [url for url in context.asked if not url.startswith((home, "data:", "blob:"))] == []
    assert context.wrong == []


def test_the_keyboard_alone_reaches_the_search_and_the_content(page):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


PAGES = ["", "units", "units?layer=1", "unit/1/3", "unit/0/2", "classes", "class/2", "audit", "method", "film"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("address", [*PAGES, "search?q=fluid"])
def test_no_serious_fault_of_accessibility(page, home, axe, address, scheme):
    page.emulate_media(color_scheme=scheme)
    page.goto(home + address)
    assert axe(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_fault_on_an_explanation(page, home, axe, unseen_dicom, scheme):
    wait_for_models(page, home)
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{home}film")
    page.set_input_files("input[type=file]", unseen_dicom)
    page.get_by_role("button", name="Explain").click()
    page.wait_for_selector("#predictions")
    assert axe(page) == []


@pytest.mark.parametrize("address", [*PAGES, "search?q=fluid"])
def test_a_narrow_window_scrolls_only_down(page, home, address):
    page.set_viewport_size({"width": 380, "height": 800})
    page.goto(home + address)
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
