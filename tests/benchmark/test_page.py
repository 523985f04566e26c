"""The page says what the numbers say; the pictures are pictures; the command says at once what it lacks."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from mammi.benchmark import KINDS, MEANINGLESS, Contestant, write_page
from mammi.benchmark.page import RISK_AT, _risk, _risks, summary
from mammi.cli import app, benchmarking

SETTINGS = {"films": 3600, "kept": 2951, "seeds": [0, 1], "concepts": 231, "cores": 2, "seconds": 1234.5}
METHODS = ["calibrated", "mammi", "clip-dissect (wpmi)"]
#: Held on one kind only.
REFERENCE = "dissection"
COLUMNS = [*METHODS, REFERENCE]


@pytest.fixture(scope="module")
def results():
    """Results as of a contest: two seeds, two annotators, three methods on every kind, one on layer3 alone."""
    rng = np.random.default_rng(0)
    kinds = [*KINDS, *MEANINGLESS, "head", "layer3", "untrained head"]
    parts = []
    for quality in ("as trained", "films blurred by 1.5"):
        for seed in (0, 1):
            for method in COLUMNS:
                for kind in kinds if method != REFERENCE else ["layer3"]:
                    n = 1 + len(kind) % 4 + seed
                    hit1 = (rng.random(n) < 0.6).astype(float)
                    named = (rng.random(n) < 0.5).astype(float)
                    means = kind not in MEANINGLESS and not kind.startswith("untrained")
                    parts.append(
                        pd.DataFrame(
                            {
                                "kind": kind,
                                "hit1": hit1 if means else np.nan,
                                "hit5": np.maximum(hit1, rng.random(n) < 0.5) if means else np.nan,
                                "named": named,
                                "right": named * hit1 if means else np.nan,
                                "confidence": np.where(named == 1, rng.random(n), np.nan),
                                "seed": seed,
                                "quality": quality,
                                "zero_shot": 0.95 + 0.01 * seed if quality == "as trained" else 0.8,
                                "method": method,
                                "seconds": 0.001 * (1 + COLUMNS.index(method)) + 0.0001 * seed,
                            }
                        )
                    )
    table = pd.concat(parts, ignore_index=True)
    # Two methods tie for the best of a row.
    single = (table["kind"] == "single") & (table["quality"] == "as trained")
    table.loc[single & (table["method"] != "mammi"), ["hit1", "hit5"]] = 1.0
    table.loc[single & (table["method"] == "mammi"), ["hit1", "hit5"]] = 0.0
    return table


@pytest.fixture(scope="module")
def page(results, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    assert write_page(results, folder, SETTINGS) == folder / "benchmark.md"
    return folder


def tables_of(text: str) -> dict[str, list[list[str]]]:
    """The tables of a page by the heading above: rows of cells, the header first."""
    found = {}
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        title, rest = section.split("\n", 1)
        rows = [line.strip("|").split("|") for line in rest.splitlines() if line.startswith("|")]
        found[title] = [[cell.strip() for cell in row] for row in rows if not set("".join(row)) <= set("-")]
    return found


def mean(results, method, kind, column, quality="as trained"):
    rows = results[(results["method"] == method) & (results["kind"] == kind) & (results["quality"] == quality)]
    return rows[column].sum() / len(rows) if len(rows) else np.nan


def number(cell):
    """What a cell says; a dash where nothing was tried."""
    return np.nan if cell == "-" else float(cell.strip("*"))


MEANING = [*KINDS, "head", "layer3"]
NOTHING = [*MEANINGLESS, "untrained head"]


@pytest.mark.parametrize(
    ("title", "column", "kinds", "best"),
    [
        ("Named right first", "hit1", MEANING, max),
        ("In the first five", "hit5", MEANING, max),
        ("Named though they mean nothing", "named", NOTHING, min),
    ],
)
def test_tables_hold_the_means_and_the_best_is_bold(results, page, title, column, kinds, best):
    header, *rows = tables_of((page / "benchmark.md").read_text())[title]
    assert header == ["", "units", *COLUMNS]
    assert [row[0] for row in rows] == kinds
    for kind, units, *cells in rows:
        values = [mean(results, method, kind, column) for method in COLUMNS]
        of_kind = (results["kind"] == kind) & (results["quality"] == "as trained")
        assert int(units) == (of_kind & (results["method"] == "mammi")).sum()
        assert [number(cell) for cell in cells] == pytest.approx(values, abs=0.005, nan_ok=True)
        assert (cells[-1] == "-") == (kind != "layer3")
        wanted = best(value for value in values if not np.isnan(value))
        assert [cell.startswith("**") and cell.endswith("**") for cell in cells] == [
            value == wanted for value in values
        ]


def test_methods_that_tie_are_both_bold(page):
    rows = tables_of((page / "benchmark.md").read_text())["Named right first"]
    assert rows[1] == ["single", "7", "**1.00**", "0.00", "**1.00**", "-"]


def test_coverage_quality_and_time(results, page):
    tables = tables_of((page / "benchmark.md").read_text())
    header, *rows = tables["Named at all, and named right"]
    assert header == ["", *COLUMNS]
    assert [row[0] for row in rows] == MEANING
    for kind, *cells in rows:
        for method, cell in zip(COLUMNS, cells, strict=True):
            values = [number(value) for value in cell.split(" / ")]
            expected = [mean(results, method, kind, column) for column in ("named", "right")]
            assert values == pytest.approx(expected, abs=0.005, nan_ok=True)
    # Means over kinds are of methods that were tried on all of them.
    header, *rows = tables["Worse annotators"]
    assert header == ["annotator", *METHODS]
    assert [row[0] for row in rows] == ["as trained", "films blurred by 1.5"]
    for quality, *cells in rows:
        for method, cell in zip(METHODS, cells, strict=True):
            expected = [
                np.mean([mean(results, method, kind, "hit1", quality) for kind in MEANING]),
                np.mean([mean(results, method, kind, "named", quality) for kind in NOTHING]),
            ]
            assert [float(value) for value in cell.split(" / ")] == pytest.approx(expected, abs=0.005)
    header, *rows = tables["Time"]
    for method, milliseconds in rows:
        seconds = results.loc[results["method"] == method, "seconds"].mean()
        assert float(milliseconds) == pytest.approx(1000 * seconds, abs=0.005)
    assert [row[0] for row in rows] == COLUMNS


def said(*units, method="mine"):
    """Units as judged, from tuples of kind, whether its name is right (None: not named), and confidence."""
    rows = []
    for kind, right, confidence in units:
        means = kind not in MEANINGLESS
        rows.append(
            {
                "method": method,
                "kind": kind,
                "named": float(right is not None),
                "right": float(bool(right)) if means else np.nan,
                "confidence": np.nan if right is None else confidence,
            }
        )
    return pd.DataFrame(rows)


def test_risk_by_hand():
    """Ten units, six of them named: the surest first, a name of noise is wrong, what is not named takes no part."""
    units = [("single", None, 0), ("and", True, 0.5), ("noise", False, 0.9), ("single", True, 3.0), ("or", False, 0.8)]
    units += [("dead", None, 0), ("single", None, 0), ("side", True, 0.7), ("side", True, 0.1), ("noise", None, 0)]
    unsure = [("single", True, 0.2), ("single", False, 0.2), ("noise", None, 0), ("noise", None, 0)]
    table = pd.concat([said(*units), said(*unsure, method="ties"), said(("and", None, 0), method="silent")])
    curves = _risk(table, ["mine", "ties", "silent"])
    assert list(curves) == ["mine", "ties", "silent"]
    coverage, risk = curves["mine"]
    assert coverage.tolist() == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert risk.tolist() == pytest.approx([0, 1 / 2, 2 / 3, 2 / 4, 2 / 5, 2 / 6])
    assert RISK_AT == (0.1, 0.2, 0.3, 0.5)
    assert _risks(coverage, risk) == ["0.00", "0.50", "0.67", "0.40", "0.33", "0.60"]
    # Two of equal confidence share their one error; a share between two units is that of the next.
    assert [each.tolist() for each in curves["ties"]] == [[0.25, 0.5], [0.5, 0.5]]
    assert _risks(*curves["ties"]) == ["0.50", "0.50", "0.50", "0.50", "0.50", "0.50"]
    # Who names nothing has no risk, and no unit; who names less than a share has none there.
    assert _risks(*curves["silent"]) == ["-", "-", "-", "-", "-", "0.00"]
    assert _risks(np.array([0.1, 0.2]), np.array([0.0, 0.5])) == ["0.00", "0.50", "-", "-", "0.50", "0.20"]


@pytest.mark.parametrize(("n_units", "n_named"), [(26, 23), (30, 22), (46, 43), (490, 49), (98, 49)])
def test_a_share_is_reached_by_so_many_units_exactly(n_units, n_named):
    """No rounding moves a risk to the next unit."""
    names = [("single", place % 2 == 0, -place) for place in range(n_named)]
    coverage, risk = _risk(said(*names, *[("noise", None, 0)] * (n_units - n_named)), ["mine"])["mine"]
    assert coverage.tolist() == [(place + 1) / n_units for place in range(n_named)]
    for share, cell in zip(RISK_AT, _risks(coverage, risk), strict=False):
        n = next(n for n in range(1, n_units + 1) if n >= share * n_units - 1e-9)
        assert cell == (f"{(n // 2) / n:.2f}" if n <= n_named else "-")


def test_the_risk_on_the_page(results, page):
    header, *rows = tables_of((page / "benchmark.md").read_text())["Risk and coverage"]
    assert header == ["method", *[f"surest {share:.0%}" for share in RISK_AT], "all it names", "of all units"]
    assert [row[0] for row in rows] == METHODS
    clear = results[results["quality"] == "as trained"]
    for method, *cells in rows:
        units = clear[clear["method"] == method]
        named = units[units["named"] == 1].sort_values("confidence", ascending=False)
        wrong = [right != 1 for right in named["right"]]
        for share, cell in zip(RISK_AT, cells, strict=False):
            n = int(np.ceil(share * len(units) - 1e-9))
            assert number(cell) == pytest.approx(
                np.mean(wrong[:n]) if n <= len(named) else np.nan, abs=0.005, nan_ok=True
            )
        assert [number(cell) for cell in cells[-2:]] == pytest.approx(
            [np.mean(wrong), len(named) / len(units)], abs=0.005
        )
    one = clear[clear["method"] == "mammi"]
    nothing = one["kind"].isin(NOTHING).mean()
    assert f"{nothing:.0%} of the units mean nothing" in (page / "benchmark.md").read_text()


def test_the_text_says_what_was_held(page):
    text = (page / "benchmark.md").read_text()
    for words in ("3,600 a seed, 2,951 after", "2 seeds), 231 concepts", "2 cores, 1,234 s in all", "by 0.35 or"):
        assert words in " ".join(text.split())
    assert "as trained: 0.956" in text or "as trained: 0.955" in text
    assert "films blurred by 1.5: 0.800" in text
    for kind, what in {**KINDS, **MEANINGLESS}.items():
        assert f"- **{kind}**: {what}" in text
    assert "nan" not in text.replace("nano", "")
    assert "{" not in text
    for target in re.findall(r"\((pictures/[^)]+)\)", text):
        assert (page / target).is_file()


def test_pictures_are_drawn(page):
    names = sorted(path.name for path in (page / "pictures").iterdir())
    assert names == ["benchmark-hits.png", "benchmark-risk.png", "benchmark-trade-off.png"]
    for name in names:
        with Image.open(page / "pictures" / name) as picture:
            assert min(picture.size) > 200
            pixels = np.asarray(picture.convert("RGB"), dtype=float)
        assert pixels.std() > 10  # not one colour
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50


def test_the_numbers_are_there_as_json(results, page):
    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    found = json.loads((page / "benchmark.json").read_text(), parse_constant=refuse)
    assert {name: found[name] for name in SETTINGS} == SETTINGS
    table = summary(results)
    assert len(found["results"]) == len(table) == 2 * (3 * (len(MEANING) + len(NOTHING)) + 1)
    for row, expected in zip(found["results"], table.to_dict("records"), strict=True):
        assert list(row) == list(expected)
        for name, value in row.items():
            if value is None:
                assert name in ("hit1", "hit5", "right")
                assert np.isnan(expected[name])
                assert row["kind"] in NOTHING
            else:
                assert value == expected[name]
    for row in found["results"]:
        assert row["named"] == mean(results, row["method"], row["kind"], "named", row["quality"])


def test_one_annotator_is_enough(results, tmp_path):
    clear = results[results["quality"] == "as trained"]
    text = write_page(clear, tmp_path / "new" / "folder", SETTINGS).read_text()
    assert len(tables_of(text)["Worse annotators"]) == 2


def test_held_on_a_few_kinds_only_has_no_risk_and_no_mean(results, page, tmp_path):
    text = (page / "benchmark.md").read_text()
    many = pd.concat([results, *[results[results["method"] == REFERENCE]] * 30], ignore_index=True)
    sections = [
        re.split("^## ", each, flags=re.MULTILINE) for each in (text, write_page(many, tmp_path, SETTINGS).read_text())
    ]
    old, new = ([section for section in each if section.startswith("Risk")] for each in sections)
    assert len(old) == 1
    assert old == new
    assert [title for title, rows in tables_of(text).items() if REFERENCE in str(rows)] == [
        *("Named right first", "Named though they mean nothing", "In the first five"),
        *("Named at all, and named right", "Time"),
    ]


@pytest.fixture
def quick(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(benchmarking, "QUICK", (60, (0,), (1.5,)))
    few = [Contestant("calibrated", "calibrated", {"shuffles": 20, "resamples": 10}), Contestant("mammi", "mammi")]
    few.append(Contestant(REFERENCE, REFERENCE))
    monkeypatch.setattr("mammi.benchmark.contest.contestants", lambda: few)
    return tmp_path


@pytest.fixture
def not_drawn_again(monkeypatch, truth, material):
    """Truth and material as drawn for the other tests; what they were asked for."""
    asked = []

    def held_out_truth(n_films, progress):
        progress("drawing held-out films", n_films, n_films)
        asked.append(("truth", n_films))
        return truth

    def phantom_material(n_films, seed, known, progress):
        progress(f"drawing films, seed {seed}", n_films, n_films)
        assert known is truth
        asked.append(("material", n_films, seed))
        return material

    monkeypatch.setattr("mammi.benchmark.held_out_truth", held_out_truth)
    monkeypatch.setattr("mammi.benchmark.phantom_material", phantom_material)
    return asked


def test_the_command(quick, not_drawn_again, material):
    result = CliRunner().invoke(app, ["benchmark", "--quick", "-o", "held/here"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    folder = quick / "held" / "here"
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == [
        *("benchmark-hits.png", "benchmark-risk.png", "benchmark-trade-off.png", "benchmark.json", "benchmark.md"),
    ]
    assert not_drawn_again == [("truth", 20), ("material", 60, 0)]
    found = json.loads((folder / "benchmark.json").read_text())
    assert (found["films"], found["seeds"]) == (60, [0])
    assert (found["kept"], found["concepts"]) == (len(material.films), len(material.terms))
    assert {row["quality"] for row in found["results"]} == {"as trained", "films blurred by 1.5"}
    text = (folder / "benchmark.md").read_text()
    assert "nan" not in text
    assert "drawing films, seed 0: 60 of 60" in result.stderr
    assert "drawing held-out films: 20 of 20" in result.stderr
    clear = pd.DataFrame(found["results"])
    clear = clear[clear["quality"] == "as trained"]
    assert set(clear.loc[clear["method"] == REFERENCE, "kind"]) == {"layer3", "layer2"}
    assert REFERENCE not in result.stdout  # held on a few kinds only
    for method, rows in clear[clear["method"] != REFERENCE].groupby("method"):
        means = rows[rows["hit1"].notna()]
        nothing = rows[rows["hit1"].isna()]
        numbers = " +".join(f"{x:.2f}" for x in (means["hit1"].mean(), means["named"].mean(), nothing["named"].mean()))
        assert re.search(rf"{method} +{numbers}", result.stdout), result.stdout
    assert f"page: {Path('held/here/benchmark.md')}" in result.stdout
    assert "means over kinds of unit" in result.stderr


@pytest.fixture
def no_work(quick, monkeypatch):
    def work(*_args):
        raise AssertionError("the work began")

    monkeypatch.setattr("mammi.benchmark.held_out_truth", work)
    monkeypatch.setattr("mammi.benchmark.phantom_material", work)
    return quick


def test_a_missing_library_is_said_before_the_work(no_work, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = CliRunner().invoke(app, ["benchmark", "--quick"])
    assert result.exit_code == 2
    assert "mammi: error: 'matplotlib' is not installed: pip install 'mammi[plots]'" in result.stderr
    assert not (no_work / "benchmark").exists()


def test_a_folder_that_cannot_be_written_is_said_before_the_work(no_work):
    (no_work / "file").write_text("")
    for place in ("file", "file/below"):
        result = CliRunner().invoke(app, ["benchmark", "--quick", "-o", place])
        assert result.exit_code == 2
        assert f"mammi: error: cannot read or write {place}" in result.stderr
