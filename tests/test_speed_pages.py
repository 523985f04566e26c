"""The tables of speed say what was measured last, and the bare loop does the same job as `mammi annotate`."""

import runpy
import sys
from pathlib import Path

import pytest

import mammi
from mammi.phantoms import write_cohort

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ("bare", "costs", "floor", "jobs", "readme", "record")


@pytest.fixture
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    yield
    for name in SCRIPTS:
        sys.modules.pop(name, None)


def test_the_tables_are_those_of_the_results(benchmarks, monkeypatch):
    import readme

    written = {}
    monkeypatch.setattr(readme, "fill", lambda page, name, text: written.setdefault(page, []).append(text))
    readme.main()
    assert set(written) == {ROOT / "benchmarks" / "README.md", ROOT / "docs" / "performance.md"}
    for page, texts in written.items():
        held = page.read_text(encoding="utf-8")
        assert all(text in held for text in texts), f"{page.name}: run 'python benchmarks/readme.py'"


def test_hours_add_up_by_hand(benchmarks):
    import costs

    cost = costs.Constants(
        decode=0.01, target=0.1, image=0.5, text=0.02, turn_over=1e-9, select=2e-9, match=4e-9, tables=1e-3
    )
    spent = costs.seconds(cost, 1000, 20, 300)
    assert spent["annotator, images"] == pytest.approx(500)
    assert sum(spent.values()) == pytest.approx(10 + 100 + 500 + 6 + 6e-5 + 2.4e-5 + 0.02)
    assert costs.bytes_of(1000, 20, 300)["activations"] == 80_000


def test_the_bare_loop_names_units_as_annotate_does(benchmarks, tmp_path):
    import bare
    import floor
    import jobs

    write_cohort(tmp_path / "data", 20, 3)
    layers = ("head", "layer3")
    job = jobs.Job(
        *(mammi.create_target("phantom"), mammi.create_vlm("phantom"), tmp_path / "data" / "images", 20),
        *(jobs.words(40), layers, ()),
    )
    ours, theirs = bare.Clock(), bare.Clock()
    found = floor.annotate(job, ours, tmp_path / "run")
    assert bare.bare_loop(job, theirs, batch_size=7, workers=2) == found
    assert len({name for layer in found for name in layer}) > 3
    for clock in (ours, theirs):
        assert set(clock.wall) <= set(bare.PHASES)
        assert clock.extra["target forward, wall"] > 0


def test_concepts_are_as_many_as_asked_for(benchmarks):
    import jobs

    terms = jobs.words(1361).terms
    assert len(set(terms)) == len(terms) == 1361


def test_the_kernels_are_no_part_of_the_tests():
    names = runpy.run_path(str(ROOT / "benchmarks" / "kernels" / "test_kernels.py"))["KERNELS"]
    assert len(names) == 6
    assert (
        "benchmarks"
        not in (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("testpaths = [")[1].split("]")[0]
    )
