"""One small run of the embedded network on drawn films, for everything that explains."""

import pytest

import mammi
from mammi.explain.account import open_account
from mammi.explain.models import load_target
from mammi.phantoms import write_cohort


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """60 drawn films with labels, reports, boxes and masks."""
    folder = tmp_path_factory.mktemp("drawn")
    write_cohort(folder, 60, seed=11, masks=True)
    return folder


@pytest.fixture(scope="session")
def phantom_run(drawn, tmp_path_factory):
    """The phantom network annotated on them: head, layer3 (feeds the head linearly) and layer2 (does not)."""
    return mammi.annotate(
        mammi.create_target("phantom"),
        mammi.ProbingSet.open(drawn / "images", drawn / "labels.csv"),
        mammi.build_concepts(mammi.read_reports(drawn / "reports.jsonl")),
        mammi.create_vlm("phantom"),
        layers=["head", "layer3", "layer2"],
        out=tmp_path_factory.mktemp("runs") / "phantom",
    )


@pytest.fixture(scope="session")
def phantom_account(phantom_run):
    return open_account(phantom_run, load_target(phantom_run))
