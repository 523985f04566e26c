"""From a table about films to columns of numbers: kinds, levels, rows that match, and what is left out."""

import numpy as np
import pandas as pd
import pytest
from tests.explain.made_up import made_up_account

from mammi.errors import InputError, RunError
from mammi.explain.attributes import read_attributes
from mammi.store import open_run


def run_of(n_films, labels=None):
    return made_up_account(np.ones((n_films, 1)), [[1.0]], labels or {}, range(n_films)).run


def read(column, n_films=None, **options):
    column = pd.Series(column)
    patients = np.arange(len(column)) if n_films is None else n_films
    return read_attributes(run_of(len(column)), patients, pd.DataFrame({"x": column}), **options)


def test_yes_and_no():
    for yes, no in (("yes", "No"), ("TRUE", "false"), (1, 0), (1.0, 0.0), ("present", "absent"), (True, False)):
        column = [yes] * 12 + [no] * 15
        ((found,), notes) = read(column)
        assert (found.label, found.kind, found.against, found.step) == ("x", "binary", "", 1.0)
        assert found.values.tolist() == [1.0] * 12 + [0.0] * 15
        assert notes == []
    assert found.between == "with x against without"


def test_something_against_none():
    ((found,), _) = read(["arrow"] * 11 + ["none"] * 12)
    assert (found.label, found.against, found.kind) == ("x = arrow", "none", "binary")
    assert found.values.tolist() == [1.0] * 11 + [0.0] * 12


def test_two_levels_and_blanks():
    ((found,), _) = read(["PA"] * 11 + ["AP"] * 12 + ["", None, " "])
    assert (found.label, found.against, found.kind) == ("x = PA", "AP", "binary")
    assert found.values[:23].tolist() == [1.0] * 11 + [0.0] * 12
    assert np.isnan(found.values[23:]).all()
    assert found.count(np.arange(26)) == {"films": 23, "patients": 23, "films_with": 11, "patients_with": 11}


def test_levels_against_the_rest_and_rare_ones_left_out():
    found, notes = read(["a"] * 10 + ["b"] * 20 + ["c"] * 30 + ["d"] * 9)
    assert [attribute.label for attribute in found] == ["x = a", "x = b", "x = c"]
    assert {attribute.against for attribute in found} == {"the rest"}
    assert np.isnan(found[0].values[60:]).all()
    assert found[1].values[:60].sum() == 20
    assert notes == ["x: 1 level of fewer than 10 patients left out (9 films)"]


def test_a_level_counts_by_patients_not_films():
    with pytest.raises(InputError, match="needs two levels of 10 patients or more, has 1"):
        read(["a"] * 40 + ["b"] * 40, n_films=np.r_[np.arange(40), np.full(40, 99)])


def test_numbers_are_counted_in_standard_deviations():
    numbers = np.r_[np.arange(20.0), np.nan, np.inf]
    ((found,), _) = read(numbers)
    assert found.kind == "numeric"
    assert found.step == pytest.approx(np.std(np.arange(20)))
    assert found.values[:20].mean() == pytest.approx(0)
    assert found.values[:20].std() == pytest.approx(1)
    assert np.isnan(found.values[20:]).all()
    assert "standard deviation" in found.between
    assert found.count(np.arange(22)) == {"films": 20, "patients": 20}


def test_a_constant_and_a_name_of_each_film_are_no_attributes():
    for column in (["a"] * 30, [f"name {n}" for n in range(30)]):
        with pytest.raises(InputError, match="no attribute of the films is left"):
            read(column)
    with pytest.raises(InputError, match="needs 10 patients or more, has 4"):
        read([1.0, 2.0, 3.0, 4.0] + [np.nan] * 20)


def test_findings_are_taken_only_when_asked_for():
    run = run_of(30, {"mass": [0.0, 1.0] * 15, "tube": [1.0] * 15 + [0.0] * 15})
    table = pd.DataFrame({"Mass": [0, 1] * 15, "site_name": ["a", "b", "b"] * 10, "Head": [1, 0] * 15})
    found, _ = read_attributes(run, np.arange(30), table, outputs=("head",))
    assert [attribute.label for attribute in found] == ["site name = b"]
    found, _ = read_attributes(run, np.arange(30), table, ["MASS"], outputs=("head",))
    assert found[0].label == "mass"
    found, _ = read_attributes(run, np.arange(30), None, outputs=("mass",))
    assert [attribute.label for attribute in found] == ["tube"]


def test_a_table_of_another_length():
    with pytest.raises(InputError, match="holds 3 rows for the 30 films"):
        read_attributes(run_of(30), np.arange(30), pd.DataFrame({"x": [1, 2, 3]}))


def test_rows_are_matched_by_id_or_path_in_any_order(phantom_run, drawn, tmp_path):
    lines = (drawn / "labels.csv").read_text().splitlines()
    header, rows = lines[0].split(","), [line.split(",") for line in lines[1:]]
    view, path = header.index("view"), header.index("path")
    by_id = {row[0]: float(row[view] == "PA") for row in rows}
    kept = list(reversed(rows[3:]))
    (tmp_path / "id.csv").write_text("image,spot\n" + "\n".join(f"{row[0]}.png,{row[view]}" for row in kept))
    (tmp_path / "path.csv").write_text("path,spot\n" + "\n".join(f"{row[path]},{row[view]}" for row in kept))
    patients = np.arange(60)
    expected = np.array([np.nan] * 3 + [by_id[row[0]] for row in rows[3:]])
    for name in ("id.csv", "path.csv"):
        ((found,), notes) = read_attributes(phantom_run, patients, tmp_path / name)
        assert np.array_equal(found.values, expected, equal_nan=True)
        assert notes == ["3 of 60 films have no row in the table: unknown"]
    found, _ = read_attributes(phantom_run, patients, drawn / "labels.csv", outputs=phantom_run.labels.columns)
    assert [attribute.label for attribute in found] == ["view = PA", "age", "sex = M"]


def test_without_the_private_folder_rows_cannot_be_matched(phantom_run, drawn, tmp_path):
    (tmp_path / "manifest.json").write_bytes((phantom_run.folder / "manifest.json").read_bytes())
    for name in ("images", "labels"):
        (tmp_path / f"{name}.parquet").write_bytes((phantom_run.folder / f"{name}.parquet").read_bytes())
    with pytest.raises(RunError, match="put 'private' back"):
        read_attributes(open_run(tmp_path), np.arange(60), drawn / "labels.csv")
