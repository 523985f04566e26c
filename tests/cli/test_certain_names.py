"""A run of a method that says how sure it is, on every face: page, table, one unit, comparison; and runs without that."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import mammi
from mammi.cli import annotating, app
from mammi.errors import InputError
from mammi.pipeline import TEMPLATE
from mammi.reports import unit_page, write_report
from mammi.store.run import CERTAINTY
from mammi.store.tables import read_parquet, write_parquet


def run(*arguments: str, code: int = 0):
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "300"})
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    folder = tmp_path_factory.mktemp("job")
    run("phantoms", "write", str(folder / "data"), "--films", "90", "--seed", "5")
    run("concepts", "build", str(folder / "data" / "reports.jsonl"), "-o", str(folder / "concepts.csv"))
    return folder


def annotate(job, out, *more, code=0):
    return run(
        *("annotate", "--target", "phantom", "--layers", "head", "--vlm", "phantom", "--method", "calibrated"),
        *("--images", str(job / "data" / "images"), "--labels", str(job / "data" / "labels.csv")),
        *("--concepts", str(job / "concepts.csv"), "--out", str(out), "-O", "resamples=20", *more),
        code=code,
    )


@pytest.fixture(scope="module")
def made(job):
    said = annotate(job, job / "run")
    assert "recording films of an untrained copy: 90 of 90" in said.stderr
    return mammi.open_run(job / "run")


@pytest.fixture(scope="module")
def crafted(made, tmp_path_factory):
    """The same run with what every kind of unit can say: two senses, an absence, a formula, no concept, bare scores."""
    folder = tmp_path_factory.mktemp("crafted") / "run"
    shutil.copytree(made.folder, folder)
    units = made.units.copy()
    said = {
        0: ("atelectasis", ""),
        1: ("NOT cardiomegaly", ""),
        2: ("no concept", "it rests on 2 patients, 3 are needed"),
        3: ("0.40 haze - 0.21 mass", ""),
        4: ("mass", ""),
    }
    nothing = ("no concept", "no film stands out for it")
    units["name"], units["reason"] = ([said.get(unit, nothing)[place] for unit in units["unit"]] for place in (0, 1))
    units["n_concepts"] = [2, 1, 0, 2, 1] + [0] * (len(units) - 5)
    nan = np.nan
    rows = [
        (0, 1, "atelectasis", 0.5, True, 1.25, 0.0004, 0.86, 0.75, 1),
        (0, 2, "side marker", 0.3, True, 0.5, 0.0123, 1.0, 0.9, 2),
        (0, 3, "mass", 0.1, False, nan, nan, nan, nan, 0),
        (1, 1, "cardiomegaly", 0.7, True, -0.81, 0.002, 1.0, 1.0, 0),
        (2, 1, "effusion", 0.2, False, nan, nan, nan, nan, 0),
        (3, 1, "haze", 0.4, True, 0.6, nan, nan, nan, 0),
        (3, 2, "mass", nan, True, 0.6, nan, nan, nan, 0),
        (4, 1, "mass", 0.3, True, nan, nan, nan, nan, 0),
    ]
    columns = ["unit", "rank", "concept", "score", "kept", "effect", "q_value", "stability", "purity", "sense"]
    annotations = pd.DataFrame(rows, columns=columns)
    annotations.insert(0, "layer", "head")
    write_parquet(folder / "units.parquet", units)
    write_parquet(folder / "annotations.parquet", annotations)
    return mammi.open_run(folder)


def data_of(text: str):
    return json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.DOTALL)[1])


def test_every_kept_concept_carries_what_the_method_states(made):
    assert list(made.annotations)[6:] == ["effect", "q_value", "stability", "purity", "sense"]
    kept, other = made.annotations[made.annotations["kept"]], made.annotations[~made.annotations["kept"]]
    assert len(kept) > 10
    assert kept[["effect", "q_value", "stability", "purity"]].notna().all().all()
    assert kept["q_value"].between(0, 0.05).all()
    assert kept["stability"].between(0.5, 1).all()
    assert kept["effect"].abs().between(0, 9).all()
    assert kept["purity"].between(0, 1).all()
    assert other[["effect", "q_value", "stability", "purity"]].isna().all().all()
    assert (other["sense"] == 0).all()
    assert ((made.units["reason"] == "") == (made.units["n_concepts"] > 0)).all()
    with_sqlite = made.search(kept["concept"].iloc[0])
    assert (kept["layer"].iloc[0], kept["unit"].iloc[0]) in set(with_sqlite.itertuples(index=False, name=None))


def test_the_page_of_a_real_run_says_all_of_it(made, tmp_path):
    text = write_report(made, tmp_path / "page.html").read_text()
    units = data_of(text)["units"]
    rows = made.annotations.groupby("unit")
    for unit, record in zip(made.units.to_dict("records"), units, strict=True):
        assert record["r"] == unit["reason"]
        mine = rows.get_group(unit["unit"])
        for (_, score, is_kept, *sure), row in zip(record["c"], mine.to_dict("records"), strict=True):
            assert score == pytest.approx(row["score"], rel=1e-4)
            assert bool(is_kept) == row["kept"]
            assert len(sure) == int(row["kept"])
            if sure:
                named = [row[name] for name in ("effect", "q_value", "stability", "sense", "purity")]
                assert sure[0] == pytest.approx(named, rel=1e-4)
    assert "false discovery rate 0.05 over its layer" in text
    assert "above 0.2 and that of an untrained copy of the network" in text
    assert not re.search(r"film-\d{5}(?![0-9a-f])", text)
    assert str(made.folder) not in text


def test_the_page_names_absences_formulas_senses_and_reasons(crafted, tmp_path):
    data = data_of(write_report(crafted, tmp_path / "page.html").read_text())
    by_unit = {record["u"]: record for record in data["units"]}
    assert [by_unit[unit]["m"] for unit in range(5)] == ["", "NOT cardiomegaly", "", "0.40 haze - 0.21 mass", ""]
    assert by_unit[2]["r"] == "it rests on 2 patients, 3 are needed"
    sure = {unit: [entry[3:] for entry in record["c"]] for unit, record in by_unit.items()}
    assert sure[0] == [[[1.25, 0.0004, 0.86, 1, 0.75]], [[0.5, 0.0123, 1.0, 2, 0.9]], []]
    assert sure[1] == [[[-0.81, 0.002, 1.0, 0, 1.0]]]
    assert sure[3] == [[[0.6, None, None, 0, None]]] * 2
    assert by_unit[3]["c"][1][1] is None  # a concept of a sum may have no score of its own
    assert sure[2] == sure[4] == [[]]


def test_show_as_a_table(crafted):
    lines = run("show", str(crafted.folder), "--limit", "5").stdout.splitlines()
    shown = [line for line in lines if line.startswith("head:")]
    assert [re.sub(r"  +", " | ", line) for line in shown] == [
        "head:0 | atelectasis | atelectasis 1.25 (q < 0.001, sense 1); side marker 0.50 (q 0.012, sense 2) | 10",
        "head:1 | cardiomegaly | NOT cardiomegaly: cardiomegaly -0.81 (q 0.002) | 10",
        "head:2 | effusion | no concept: it rests on 2 patients, 3 are needed | 10",
        "head:3 | infiltration | 0.40 haze - 0.21 mass: haze 0.400; mass nan | 10",
        "head:4 | mass | mass 0.300 | 10",
    ]


def test_show_of_one_unit(crafted):
    lines = [
        run("show", str(crafted.folder), "--layer", "head", "--unit", str(u)).stdout.splitlines() for u in (0, 1, 2)
    ]
    assert lines[0][1] == "  atelectasis"
    assert "  * +0.5000  atelectasis  (effect 1.25; q < 0.001; kept in 86% of draws; sense 1, purity 0.75)" in lines[0]
    assert "    +0.1000  mass" in lines[0]
    assert lines[1][1] == "  NOT cardiomegaly"
    assert any("cardiomegaly  (effect -0.81; q 0.002; kept in 100% of draws)" in line for line in lines[1])
    assert lines[2][1] == "  no concept: it rests on 2 patients, 3 are needed"


def test_a_unit_is_named_alike_everywhere(crafted):
    frame = crafted.to_frame()
    for unit, name in enumerate(frame["name"]):
        annotation = crafted.unit("head", unit).annotation
        assert annotation.name == name
        assert annotation.formula == (name if unit in (1, 3) else "")
    compared = mammi.compare(crafted, crafted)
    assert compared.layers[0].pairs["name_a"].tolist() == frame["name"].tolist()


def test_runs_of_older_versions_open(crafted, tmp_path):
    shutil.copytree(crafted.folder, tmp_path / "old")
    path = tmp_path / "old" / "annotations.parquet"
    write_parquet(path, read_parquet(path).drop(columns=list(CERTAINTY)))
    old = mammi.open_run(tmp_path / "old")
    assert list(old.annotations)[-5:] == list(CERTAINTY)
    assert old.annotations["effect"].isna().all()
    assert (old.annotations["sense"] == 0).all()
    assert "atelectasis 0.500; side marker 0.300" in run("show", str(old.folder)).stdout
    assert "NOT cardiomegaly: cardiomegaly 0.700" in run("show", str(old.folder)).stdout
    page = run("show", str(old.folder), "--layer", "head", "--unit", "0").stdout
    assert "  * +0.5000  atelectasis\n" in page
    data = data_of(write_report(old, tmp_path / "old.html").read_text())
    assert all(len(entry) == 3 for record in data["units"] for entry in record["c"])
    assert data_of(unit_page(old, "head", 1))["units"][0]["m"] == "NOT cardiomegaly"
    assert len(mammi.compare(old, crafted).layers[0].pairs) == 19
    assert old.is_readable()


@pytest.mark.parametrize(
    ("text", "value"),
    [("false", False), ("No", False), ("0", False), ("False", False), ("TRUE", True), ("yes", True), ("1", True)],
)
def test_switches_are_read(text, value):
    assert annotating._options("calibrated", [f"control={text}", "shuffles=30"]) == {"control": value, "shuffles": 30}


def test_counts_that_may_be_left_open_are_read():
    assert annotating._options("invert", ["limit_search=12"]) == {"limit_search": 12}
    assert annotating._options("invert", ["limit-search=None", "source=labels"]) == {
        "limit_search": None,
        "source": "labels",
    }
    with pytest.raises(InputError, match="limit_search must be a whole number, got 'few'"):
        annotating._options("invert", ["limit_search=few"])
    for switch in ("maybe", "", "2", "on"):
        with pytest.raises(InputError, match=rf"control must be true or false \(yes or no, 1 or 0\), got '{switch}'"):
            annotating._options("calibrated", [f"control={switch}"])


def test_every_option_that_the_list_of_methods_shows_can_be_given_back():
    listed, name = {}, ""
    for line in run("methods").stdout.splitlines():
        if line.startswith("  --option "):
            listed[name].append(line.removeprefix("  --option "))
        else:
            name = line.split(":")[0]
            listed[name] = []
    assert listed["calibrated"]
    for method, pairs in listed.items():
        assert annotating._options(method, pairs) == mammi.methods.base.method_options(method)


def test_a_switch_reaches_the_run(job, tmp_path):
    said = annotate(job, tmp_path / "run", "-O", "control=false")
    assert "untrained" not in said.stderr
    opened = mammi.open_run(tmp_path / "run")
    assert opened.manifest["identity"]["method"]["options"]["control"] is False
    assert not (tmp_path / "run" / "control").exists()
    text = write_report(opened, tmp_path / "page.html").read_text()
    assert "untrained copy" not in text
    refused = annotate(job, tmp_path / "other", "-O", "control=maybe", code=2)
    assert "mammi: error: --option control must be true or false (yes or no, 1 or 0), got 'maybe'" in refused.stderr
    assert not (tmp_path / "other").exists()


def test_several_templates_are_averaged(job, tmp_path):
    templates = ["A chest x-ray image of a {}", "an x-ray that shows {}"]
    more = [word for template in templates for word in ("--template", template)]
    annotate(job, tmp_path / "both", "-O", "control=no", *more)
    both = mammi.open_run(tmp_path / "both")
    assert both.manifest["identity"]["template"] == templates
    same = mammi.annotate(
        mammi.create_target("phantom"),
        mammi.ProbingSet.open(job / "data" / "images", job / "data" / "labels.csv"),
        mammi.ConceptSet.read(job / "concepts.csv"),
        mammi.create_vlm("phantom"),
        layers=["head"],
        out=tmp_path / "library",
        template=templates,
        method="calibrated",
        control=False,
        resamples=20,
    )
    pd.testing.assert_frame_equal(both.annotations, same.annotations, check_exact=True)
    one = annotate(job, tmp_path / "one", "-O", "control=no", *more[:2])
    assert mammi.open_run(tmp_path / "one").manifest["identity"]["template"] == templates[0]
    assert "units have a concept" in one.stdout
    scores = [mammi.open_run(tmp_path / name).annotations["score"] for name in ("one", "both")]
    assert not np.array_equal(*(np.sort(score) for score in scores))
    refused = annotate(job, tmp_path / "none", *more[:2], "--template", "no place", code=2)
    assert "'template' must hold {} once" in refused.stderr


def test_the_default_template_is_the_papers():
    assert annotating.TEMPLATE == TEMPLATE
    assert f"else {TEMPLATE}]" in " ".join(run("annotate", "--help").stdout.split())
