"""Charts: parts that add up, scales, and words for those who cannot see them."""

import re

import numpy as np
import pytest

from mammi.pages import charts, words
from mammi.pages.maps import concept_map, mark, unit_map
from small_run import DEAD, LAYER, SCRIPT


def rects(markup, kind):
    found = re.findall(rf'<rect class="{kind} ?" x="([-\d.]+)" y="1" width="([\d.]+)"', str(markup))
    return [(float(x), float(width)) for x, width in found]


def test_bars():
    assert rects(charts.bar(3, 6), "amount") == [(0, 50)]
    assert rects(charts.bar(-3, 6, signed=True), "minus") == [(25, 25)]
    assert rects(charts.bar(9, 6, signed=True), "plus") == [(50, 50)]  # never out of its cell
    assert rects(charts.bar(None, 6), "amount") == []
    assert rects(charts.coverage(1, 4), "amount") == [(0, 25)]
    assert 'aria-hidden="true"' in charts.bar(1, 1)


def test_parts_add_up():
    parts = [
        {"label": "bias", "value": -1.0},
        {"label": "a", "value": 2.5, "unit": 3},
        {"label": "rest", "value": 0.25},
    ]
    laid = charts.steps(parts)
    assert [(row["start"], row["end"]) for row in laid["rows"]] == [(0, -1), (-1, 1.5), (1.5, 1.75)]
    assert (laid["total"], laid["left"], laid["low"], laid["high"]) == (1.75, 0, -1, 1.75)
    assert laid["rows"][1]["unit"] == 3
    assert charts.steps(parts, 2.0)["left"] == 0.25
    assert charts.steps([])["total"] == 0
    [(x, width)] = rects(charts.step(-1, 1.5, -1, 1.75), "plus")
    assert (x, width) == (0, pytest.approx(100 * 2.5 / 2.75, abs=0.01))
    assert rects(charts.step(1, 0, 0, 2), "minus") == [(0, 50)]
    assert rects(charts.step(0, 0, 0, 0), "plus") == [(0, 0.4)]


def test_intervals():
    text = str(charts.interval(0.5, 0.0, 1.0, -1, 1))
    assert 'whisker" x1="50" x2="100"' in text
    assert 'plus dot" x1="75"' in text
    assert 'zero" x1="50"' in text
    assert "minus dot" in charts.interval(0.2, None, None, 0, 1, mark=0.5)
    assert "zero" not in charts.interval(2, None, None, 1, 3)
    assert "dot" not in charts.interval(None, None, None, 0, 1)


def test_histogram_has_words_and_one_bar_a_filled_bin():
    found = {"counts": [5, 0, 90, 1], "low": -1.0, "high": 3.0, "median": 1.5, "examples": [2.5, 3.0, None]}
    text = str(charts.histogram(found))
    assert 'role="img"' in text
    assert "96 films from \u22121 to 3, median 1.5" in text
    heights = [float(height) for height in re.findall(r'class="count"[^>]*height="([\d.]+)"', text)]
    assert len(heights) == 3
    expected = np.log10([6, 91, 2])
    np.testing.assert_allclose(np.array(heights) / heights[1], expected / expected[1], rtol=2e-4)
    assert text.count('class="example"') == 2
    assert 'class="count"' in charts.histogram({"counts": [7], "low": 2.0, "high": 2.0, "median": 2.0, "examples": []})


def test_curve_says_its_ends():
    text = str(charts.curve([0.5, 1.0], [0.0, 0.25]))
    assert "Of the surest name 0 % are wrong" in text
    assert "of all 25 %" in text


def test_map_places_like_units_together(view, site):
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, 40))
    rows = np.stack([first, first + 0.05 * second, second, second + 0.05 * first, np.ones(40), first - 0.05 * second])

    class Run:
        def activations(self, layer):
            return rows.astype(np.float32)

    class View:
        run = Run()
        units = staticmethod(lambda layer: view.units(LAYER))

    found = concept_map(View(), LAYER)
    assert [point["unit"] for point in found["points"]] == [0, 1, 2, 3, 5]  # one that never varies has no place
    places = np.array([[point["x"], point["y"]] for point in found["points"]])
    assert np.abs(places).max() == pytest.approx(1, abs=1e-4)
    near = np.linalg.norm(places[0] - places[1])
    assert near < np.linalg.norm(places[0] - places[2]) / 3
    assert found["explained"] > 0.95
    again = concept_map(View(), LAYER)
    assert again == found


def test_plane_is_that_of_all_axes_beyond_the_small(monkeypatch):
    from mammi.pages import maps

    values = np.random.default_rng(3).standard_normal((90, 30)) * np.linspace(5, 1, 30)
    fast, share = maps._plane(values)
    monkeypatch.setattr(maps, "SMALL", 1000)
    whole, whole_share = maps._plane(values)
    np.testing.assert_allclose(fast, whole, atol=1e-6)
    assert share == pytest.approx(whole_share)
    variances = np.linalg.svd(values - values.mean(axis=0), compute_uv=False) ** 2
    assert share == pytest.approx(variances[:2].sum() / variances.sum())


def test_map_is_drawn_with_links_marks_and_names(view, site):
    found = concept_map(view, LAYER)
    assert DEAD not in [point["unit"] for point in found["points"]]
    text = str(unit_map(found, LAYER, site.links))
    assert text.count("<a href=") == len(found["points"])
    assert text.count('tabindex="-1"') == len(found["points"])
    assert SCRIPT not in text
    assert "The table below lists them." in text
    assert 'class="none"' in text
    kinds = {re.search(r'd="(\S+ ?\S*)', str(mark(place)))[1] for place in range(6)}
    assert len(kinds) == 6  # told apart by shape


@pytest.mark.parametrize("n_units", [0, 1, 2])
def test_maps_of_few_units(view, n_units, monkeypatch):
    monkeypatch.setattr(view, "units", lambda layer: view._units[layer].iloc[:n_units])
    assert len(concept_map(view, LAYER)["points"]) == n_units


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (words.count(12345), "12,345"),
        (words.count(None), "\u2013"),
        (words.number(0.012345), "0.0123"),
        (words.number(-12345.6), "\u221212,346"),
        (words.number(0), "0"),
        (words.decimals(-0.001), "0.00"),
        (words.decimals(-0.5), "\u22120.50"),
        (words.decimals(float("nan")), "\u2013"),
        (words.signed(0.5), "+0.50"),
        (words.signed(-0.5), "\u22120.50"),
        (words.signed(None), "\u2013"),
        (words.percent(0.5), "50 %"),
        (words.percent(0.0), "0 %"),
        (words.percent(0.001), "< 1 %"),
        (words.percent(0.999), "> 99 %"),
        (words.percent(1.0), "100 %"),
        (words.percent(0.9999, 1), "> 99.9 %"),
        (words.q(0.0004), "< 0.001"),
        (words.q(0.0123), "0.012"),
        (words.q(None), "\u2013"),
        (words.plural(1, "film"), "1 film"),
        (words.plural(2000, "box", "boxes"), "2,000 boxes"),
        (charts.spoken(0.5, 0.1, 0.9), "0.50 (0.10 to 0.90)"),
        (charts.spoken(0.5, None, None), "0.50"),
    ],
)
def test_numbers_in_words(written, expected):
    assert written == expected
