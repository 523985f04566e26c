"""``mammi audit`` and ``mammi ablate`` as a user types them."""

import html
import re

import pandas as pd
import pytest
from typer.testing import CliRunner

import mammi
from mammi.cli import app
from mammi.cli.auditing import _percent
from mammi.phantoms import write_cohort
from mammi.store.files import read_json


def run(*arguments, code=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    folder = tmp_path_factory.mktemp("job")
    write_cohort(folder / "data", 60, seed=5)
    films = mammi.ProbingSet.open(folder / "data" / "images", folder / "data" / "labels.csv")
    concepts = mammi.build_concepts(mammi.read_reports(folder / "data" / "reports.jsonl"))
    target, vlm = mammi.create_target("phantom"), mammi.create_vlm("phantom")
    mammi.annotate(target, films, concepts, vlm, layers=["head", "layer3"], out=folder / "run")
    return folder


def test_audit(job):
    table = job / "data" / "labels.csv"
    result = run("audit", job / "run", "--metadata", table, "--attribute", "side marker", "--class", "side marker")
    assert re.search(r"side marker +side marker +all +\+\d\.\d\d +\+\d\.\d\d to \+\d\.\d\d +\d+ +\+\d", result.stdout)
    assert re.search(r"\d+ of 128 units of layer3 react to side marker \(q < 0.05\); they carry \+", result.stdout)
    assert "An association is no cause" in result.stdout


def test_audit_writes_everything_as_json(job):
    out = job / "audit.json"
    table = job / "data" / "labels.csv"
    result = run("audit", job / "run", "--metadata", table, "--class", "effusion", "--class", "mass", "-o", out)
    found = read_json(out)
    assert {entry["label"] for entry in found["attributes"]} == {"view = PA", "age", "sex = M"}
    assert {row["output"] for row in found["gaps"]} == {"effusion", "mass"}
    for sentence in found["sentences"]:
        assert sentence in result.stdout
    private = read_json(job / "run" / "private" / "films.json")
    text = out.read_text()
    assert not any(film["id"] in text or film["patient"] in text for film in private)


def test_audit_writes_one_page(job):
    out = job / "audit.html"
    table = job / "data" / "labels.csv"
    attributes = ["--attribute", "view", "--attribute", "side marker"]
    result = run("audit", job / "run", "--metadata", table, *attributes, "--class", "effusion", "-o", out)
    text = out.read_text()
    assert "Units that carry a gap at the same finding" in text
    assert "What all units carry adds up to the gap" in text
    sentence = next(line for line in result.stdout.splitlines() if "units of layer3 react to view" in line)
    assert html.escape(sentence, quote=False) in text
    assert "A research and audit tool, not a diagnostic device." in text
    # All is inside: nothing is asked for, no other page is led to, nobody is named.
    assert not re.search(r"""(?:src|href)="(?!data:|#|")""", text)
    private = read_json(job / "run" / "private" / "films.json")
    assert not any(film["id"] in text or film["patient"] in text for film in private)
    assert str(job) not in text


def test_ablate_named_units(job):
    out = job / "ablation.json"
    result = run("ablate", job / "run", "--units", "layer3:12, layer3:40", "--class", "effusion", "-o", out)
    assert "held: layer3:12" in result.stdout
    assert "2 of 128 units of layer3 held at their mean, 60 films." in result.stdout
    assert re.search(r"effusion +0.\d{3}|effusion +1.000", result.stdout)
    assert [row["unit"] for row in read_json(out)["units"]] == [12, 40]
    zero = run("ablate", job / "run", "--units", "layer3:12", "--to", "zero", "--films", "20").stdout
    assert "1 of 128 units of layer3 held at 0, 20 films." in zero


def test_ablate_a_concept_and_an_attribute(job):
    frame = mammi.open_run(job / "run").annotations
    concept = frame[(frame["layer"] == "layer3") & frame["kept"]]["concept"].iloc[0]
    assert "units of layer3 held" in run("ablate", job / "run", "--concept", concept).stdout
    table = job / "data" / "labels.csv"
    result = run("ablate", job / "run", "--attribute", "side marker", "--metadata", table, "--class", "side marker")
    assert "The logit gap of side marker along side marker over all films goes from +" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "one of --units, --concept and --attribute"),
        (["--units", "layer3:1", "--concept", "mass"], "one of --units, --concept and --attribute"),
        (["--units", "layer3:1,head:2"], "--units must name units of one layer"),
        (["--units", "12"], "--units must name units of one layer"),
        (["--units", "layer3:1", "--layer", "head"], "leave --layer out"),
        (["--units", "layer3:999"], "units 0 to 127, got 999"),
        (["--units", "layer9:1"], "Layer 'layer9' is not known. Did you mean 'layer3'"),
        (["--units", "layer3:1", "-o", "page.html"], "--output must be a .json file"),
        (["--attribute", "tube", "--metadata", "nowhere.csv"], "Table 'nowhere.csv' does not exist"),
        (["--units", "layer3:1", "--class", "effusio"], "Did you mean 'effusion'"),
    ],
)
def test_what_is_wrong_is_said_on_one_line(job, arguments, said):
    result = run("ablate", job / "run", *arguments, code=2)
    assert said in result.stderr
    assert result.stderr.strip().splitlines()[-1].startswith("mammi: error: ")


def test_without_a_table_the_runs_labels_are_looked_at(job):
    result = run("audit", job / "run", code=2)
    assert "no label that is no output" in result.stderr


def test_one_patient_has_no_interval_and_no_share_is_minus_nothing(tmp_path):
    data = tmp_path / "data"
    write_cohort(data, 40, seed=5)
    table = pd.read_csv(data / "labels.csv").assign(patient="one")
    table.to_csv(data / "labels.csv", index=False)
    mammi.annotate(
        mammi.create_target("phantom"),
        mammi.ProbingSet.open(data / "images", data / "labels.csv"),
        mammi.ConceptSet.from_terms(["effusion", "mass"]),
        mammi.create_vlm("phantom"),
        layers=["layer3"],
        out=tmp_path / "run",
    )
    printed = run("ablate", tmp_path / "run", "--units", "layer3:1").stdout
    assert "AUC" in printed
    assert "nan" not in printed
    assert [_percent(share) for share in (-0.001, 0.004, -0.5, 1.2, float("nan"))] == ["0%", "0%", "-50%", "120%", ""]


def test_it_is_said_that_patients_are_not_known(job, tmp_path):
    mammi.annotate(
        mammi.create_target("phantom"),
        mammi.ProbingSet.open(job / "data" / "images"),
        mammi.ConceptSet.from_terms(["effusion", "mass"]),
        mammi.create_vlm("phantom"),
        layers=["layer3"],
        out=tmp_path / "run",
    )
    unknown = run("ablate", tmp_path / "run", "--units", "layer3:1").stderr
    assert "patients are not known: every film counts as one, intervals are too narrow" in unknown
    assert "patients are not known" not in run("ablate", job / "run", "--units", "layer3:1").stderr
