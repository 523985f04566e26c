"""The planted arrow from end to end: the units that carry it are found, and taking them out closes the gap."""

import pytest

import mammi
from mammi.explain.ablation import ablate
from mammi.explain.account import open_account
from mammi.explain.audit import audit
from mammi.explain.models import load_target
from mammi.phantoms import Shortcut, write_cohort

#: The units of layer3 that carry 97 % of the arrow, as docs/phantoms.md has them.
CARRIERS = {43, 74, 103}


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("marked")
    write_cohort(folder, 150, seed=31, shortcut=Shortcut("pneumothorax", 0.9, 0.2))
    run = mammi.annotate(
        mammi.create_target("phantom:shortcut"),
        mammi.ProbingSet.open(folder / "images", folder / "labels.csv"),
        mammi.build_concepts(mammi.read_reports(folder / "reports.jsonl")),
        mammi.create_vlm("phantom"),
        layers=["layer3"],
        out=folder / "run",
    )
    return open_account(run, load_target(run)), folder / "labels.csv"


def test_the_arrow_is_found_and_taken_out(marked):
    account, table = marked
    found = audit(account, table, attributes=["marker"], classes=["pneumothorax"], n_resamples=200)
    units = found.reacting("marker = arrow", "pneumothorax")
    assert set(units) >= CARRIERS
    assert len(units) <= 10
    row = found.headline("marker = arrow")
    assert row["films"] == "without"
    assert row["low"] < 2.1 < row["high"]  # the truth of docs/phantoms.md
    assert row["share"] > 0.9
    removed = ablate(
        account, units, classes=["pneumothorax"], attributes=found.attributes, n_sets=50, n_resamples=200
    ).gaps.set_index("films")
    assert removed.loc["without", "after_low"] < 0.15
    assert abs(removed.loc["without", "after"]) < 0.3
    assert removed.loc["without", "random_share"] < 0.05
