"""``mammi compare`` as a user types it: tables, JSON, gates for CI and their exit codes."""

import json
import re
import shutil

import pytest
from typer.testing import CliRunner

import mammi
from mammi.cli import app
from mammi.phantoms import write_cohort
from mammi.store.files import read_json, write_json
from mammi.store.tables import write_parquet


def run(*arguments, code=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "160"})
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    folder = tmp_path_factory.mktemp("job")
    write_cohort(folder / "data", 40, seed=5)
    films = mammi.ProbingSet.open(folder / "data" / "images", folder / "data" / "labels.csv")
    concepts = mammi.build_concepts(mammi.read_reports(folder / "data" / "reports.jsonl"))
    target, vlm = mammi.create_target("phantom"), mammi.create_vlm("phantom")
    for name, layers, least in (("a", ["head", "layer3"], 0), ("b", ["head"], 5)):
        mammi.annotate(target, films, concepts, vlm, layers=layers, out=folder / name, min_examples=least)
    (folder / "empty").mkdir()
    return folder


def test_two_rules(job):
    shown = run("compare", job / "a", job / "b").stdout
    found = mammi.compare(job / "a", job / "b").layers[0]
    assert re.search(r"40 films of \d+ patients. A and B differ in: the layers or their pooling, the method", shown)
    assert "head: the same units, by index" in shown
    assert re.search(r"units +19 +19 +\n", shown)
    assert re.search(rf"same name +{found.same_name.value:.0%} +\d+% to \d+%", shown)
    assert re.search(rf"concepts in common \(Jaccard\) +{found.jaccard.value:.2f} +0.\d\d to [01].\d\d", shown)
    assert f"+{len(found.gained)} -{len(found.lost)}" in shown
    assert f"names changed ({len(found.changed)})" in shown
    row = found.changed.iloc[0]
    assert re.search(rf"head:{row['unit_a']} +head:{row['unit_b']} +1.00 +{row['name_a']} +{row['name_b']}", shown)
    assert "by chance" not in shown


def test_two_layers(job):
    result = run("compare", job / "a", job / "a", "--layer-a", "head", "--layer-b", "layer3", "--limit", "2")
    assert "A and B have the same inputs" in result.stdout
    assert "head -> layer3: units matched by correlation >= 0.5" in result.stdout
    assert re.search(r"matched by chance, at most +\d+%", result.stdout)
    assert re.search(r"units of B without a partner \(2 of \d+; --limit 0 shows all\)", result.stdout)
    assert len(re.findall(r"^head:\d+ +layer3:\d+", result.stdout, re.MULTILINE)) == 2
    every = run("compare", job / "a", job / "a", "--layer-a", "head", "--layer-b", "layer3", "--limit", "0").stdout
    assert "shows all" not in every


def test_a_name_lost_is_shown_with_its_reason(job, tmp_path):
    shutil.copytree(job / "b", tmp_path / "run")
    opened = mammi.open_run(tmp_path / "run")
    units, rows = opened.units, opened.annotations
    units.loc[3, ["name", "n_concepts", "reason"]] = ["no concept", 0, "nothing [was] sure"]
    rows.loc[rows["unit"] == 3, "kept"] = False
    write_parquet(opened.folder / "units.parquet", units)
    write_parquet(opened.folder / "annotations.parquet", rows)
    shown = run("compare", job / "b", tmp_path / "run").stdout
    assert "no concept: nothing [was] sure" in shown
    assert re.search(r"units with a concept +100% +95% +-5% +-16% to \+0%", shown)


def test_json_holds_everything_and_names_nobody(job, tmp_path):
    file = tmp_path / "new" / "found.json"
    run("compare", job / "a", job / "b", "--json", file)
    found = json.loads(file.read_text())
    assert found == mammi.compare(job / "a", job / "b").to_dict()
    assert set(found) == {"methods", "n_films", "n_patients", "min_correlation", "differs", "notes", "layers"}
    layer = found["layers"][0]
    assert len(layer["pairs"]) == layer["n_matched"] == 19
    assert layer["matched"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert layer["chance_matched"] is None
    opened = mammi.open_run(job / "a")
    for word in (*opened.images["id"], *opened.images["patient"], str(job), "film-0"):
        assert word not in file.read_text()


GATES = {
    "--min-matched": ("0.1", "0.2", "of the units of A in layer3 -> head are matched"),
    "--min-same-names": ("0", "1", "of the matched units of layer3 -> head keep their name"),
    "--max-lost": ("1000", "0", "layer3 -> head lost"),
}


@pytest.mark.parametrize("gate", GATES)
def test_a_gate_that_fails_is_one_line_and_exit_code_1(job, tmp_path, gate):
    passes, fails, words = GATES[gate]
    call = ["compare", job / "a", job / "a", "--layer-a", "layer3", "--layer-b", "head"]
    assert "gate" not in run(*call, gate, passes).stderr
    result = run(*call, gate, fails, "--json", tmp_path / "found.json", code=1)
    lines = [line for line in result.stderr.splitlines() if "gate failed" in line]
    assert len(lines) == 1
    assert lines[0].startswith(f"mammi: gate failed: {gate} {fails}: ")
    assert words in lines[0]
    assert (tmp_path / "found.json").is_file()  # what CI wants to keep is written first


def test_gates_hold_for_every_layer_and_on_the_line(job):
    run("compare", job / "a", job / "a", "--min-matched", "1", "--min-same-names", "1", "--max-lost", "0")
    found = mammi.compare(job / "a", job / "b").layers[0]
    run("compare", job / "a", job / "b", "--max-lost", len(found.lost), "--min-same-names", found.same_name.value)
    failed = run("compare", job / "b", job / "a", "--max-lost", "0", "--min-same-names", "1", code=1).stderr
    assert failed.count("gate failed") == 2


def test_a_share_of_nothing_fails_its_gate(job, tmp_path):
    shutil.copytree(job / "b", tmp_path / "run")
    opened = mammi.open_run(tmp_path / "run")
    write_parquet(opened.folder / "annotations.parquet", opened.annotations.assign(kept=False))
    result = run("compare", tmp_path / "run", tmp_path / "run", "--min-same-names", "0", code=1)
    assert "none that could be counted" in result.stderr


def other_films(job, tmp_path):
    shutil.copytree(job / "b", tmp_path / "other")
    films = read_json(tmp_path / "other" / "private" / "films.json")
    write_json(tmp_path / "other" / "private" / "films.json", [film | {"sha256": "0" * 64} for film in films])
    manifest = read_json(tmp_path / "other" / "manifest.json")
    manifest["identity"]["images"]["fingerprint"] = "another"
    write_json(tmp_path / "other" / "manifest.json", manifest)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a", "empty"], ["empty holds no run"]),
        (["gone", "b"], ["gone holds no run", "mammi annotate"]),
        (["a", "b", "--layer-a", "haed"], ["Layer of run A 'haed'", "Did you mean 'head'?", "head, layer3"]),
        (["a", "b", "--layer-b", "layer3"], ["Layer of run B 'layer3'"]),
        (["a", "b", "--min-correlation", "2"], ["(0, 1], got 2.0"]),
        (["a", "b", "--json", "a/manifest.json/x"], ["cannot write"]),
        (["a", "other"], ["share 0 films (40 in A, 40 in B)", "annotate the same films in both"]),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(job, tmp_path, monkeypatch, arguments, words):
    other_films(job, tmp_path)
    for name in ("a", "b", "empty"):
        (tmp_path / name).symlink_to(job / name)
    monkeypatch.chdir(tmp_path)
    result = run("compare", *arguments, code=2)
    assert len([line for line in result.stderr.splitlines() if line.startswith("mammi: error: ")]) == 1
    for word in words:
        assert word in result.stderr


@pytest.mark.parametrize("gate", [["--min-matched", "2"], ["--max-lost", "-1"], ["--limit", "-1"]])
def test_a_gate_out_of_range_is_wrong_usage(job, gate):
    assert "Error: " in run("compare", job / "a", job / "b", *gate, code=2).stderr
