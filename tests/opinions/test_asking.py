"""What an annotator says of a run is what it would have said had it been the first."""

import shutil

import numpy as np
import pandas as pd
import pytest
from tests.opinions.conftest import TEMPLATES

import mammi
from mammi.engine import LocalEngine
from mammi.errors import InputError, RunError, StaleRunError, VlmError
from mammi.opinions import ask_second_opinions
from mammi.opinions.asking import Witness, ask, open_asked
from mammi.types import no_progress

COLUMNS = ["layer", "unit", "rank", "concept", "score", "kept", "effect"]


def opinion(run, vlm, template):
    """Return the rows of one opinion, as annotations."""
    found = run.opinions
    number = next(i for i, one in enumerate(found.note["asked"]) if (one["vlm"], one["template"]) == (vlm, template))
    return found.table[found.table["opinion"] == number][COLUMNS].reset_index(drop=True)


def assert_same_annotations(left, right):
    pd.testing.assert_frame_equal(left[COLUMNS], right[COLUMNS].reset_index(drop=True), rtol=1e-6, atol=1e-9)


LOOSE = {"shuffles": 20, "resamples": 10, "min_effect": 0.0, "false_discovery_rate": 0.5}


@pytest.mark.parametrize(
    ("method", "options", "n_named"),
    [
        ("clip-dissect", {"top_k": 20}, 7),
        ("calibrated", {**LOOSE, "control": False}, 7),
        ("calibrated", {**LOOSE, "control": True}, 0),  # an untrained copy shows as much of so small a network
    ],
)
def test_it_says_what_it_would_have_said_first(make, other, tmp_path, method, options, n_named):
    seconded = make(tmp_path / "a", method=method, second_opinions=[other], **options)
    first = make(tmp_path / "b", method=method, vlm=other, **options)
    assert (first.units["n_concepts"] > 0).sum() == n_named
    assert_same_annotations(opinion(seconded, 1, None), first.annotations)


def test_each_wording_says_what_it_would_have_said_alone(run, make, other, tmp_path):
    first = make(tmp_path / "first", vlm=other)
    assert_same_annotations(opinion(run, 1, None), first.annotations)
    alone = make(tmp_path / "alone", template=TEMPLATES[1])
    assert_same_annotations(opinion(run, 0, TEMPLATES[1]), alone.annotations)


def test_the_naming_annotator_repeats_itself(run, naming):
    asked = open_asked(run)
    said, scores = ask(Witness(asked, naming, True, 16, LocalEngine(), no_progress), 0, [None], with_scores=True)
    (table,) = said.values()
    pd.testing.assert_frame_equal(table, run.annotations, check_exact=True)
    for row in table.to_dict("records"):
        column = asked.concepts.index(row["concept"])
        assert float(scores[row["layer"]][row["unit"], column]) == row["score"]
    assert bool(scores["head"][4].isnan().all())  # a unit that never varies has no example


def test_the_run_itself_is_not_touched(run, other, tmp_path):
    folder = shutil.copytree(run.folder, tmp_path / "run")
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "manifest.json"]
    before = {path: path.read_bytes() for path in files if "opinions" not in path.parts}
    seconded = ask_second_opinions(folder, [other], templates=["quite {}"])
    assert all(path.read_bytes() == content for path, content in before.items())
    without = [{name: v for name, v in one.manifest.items() if name != "opinions"} for one in (run, seconded)]
    assert without[0] == without[1]
    assert len(seconded.opinions.labels) == 8
    pd.testing.assert_frame_equal(opinion(seconded, 1, TEMPLATES[0]), opinion(run, 1, TEMPLATES[0]))


def test_nothing_is_asked_twice(run, other, monkeypatch):
    monkeypatch.setattr(type(other.model), "encode_images", None)
    monkeypatch.setattr(type(other.model), "encode_texts", None)
    before = (run.folder / "opinions" / "opinions.parquet").stat().st_mtime_ns
    ask_second_opinions(run, [other])
    assert (run.folder / "opinions" / "opinions.parquet").stat().st_mtime_ns == before


def test_a_failing_annotator_costs_no_run_and_no_work(make, other, tmp_path, monkeypatch):
    seen, encode = [], type(other.model).encode_images

    def failing(self, images):
        seen.append(len(images))
        if sum(seen) > 64:
            raise RuntimeError("out of memory")
        return encode(self, images)

    monkeypatch.setattr(type(other.model), "encode_images", failing)
    method = {"method": "clip-dissect", "batch_size": 8}  # all 70 films
    with pytest.raises(VlmError, match=r"out of memory.*the run itself is complete, and 'mammi opinion .*run --vlm"):
        make(tmp_path / "run", second_opinions=[other], **method)
    run = mammi.open_run(tmp_path / "run")
    assert run.opinions is None
    assert (run.units["n_concepts"] > 0).any()
    seen.clear()
    monkeypatch.setattr(
        type(other.model), "encode_images", lambda self, images: seen.append(len(images)) or encode(self, images)
    )
    run = make(tmp_path / "run", second_opinions=[other], **method)
    assert sum(seen) == 6  # the chunk of 64 was kept
    assert len(run.opinions.table) > 0


def test_tables_half_written_are_not_read(run, other, tmp_path, monkeypatch):
    folder = shutil.copytree(run.folder, tmp_path / "run")
    monkeypatch.setattr("mammi.opinions.second.write_parquet", lambda path, table: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ask_second_opinions(folder, [other], templates=["quite {}"])
    assert mammi.open_run(folder).opinions is None


def test_damaged_tables_are_made_again(run, other, tmp_path):
    folder = shutil.copytree(run.folder, tmp_path / "run")
    (folder / "opinions" / "units.parquet").write_bytes(b"torn")
    mended = ask_second_opinions(folder, [other])
    pd.testing.assert_frame_equal(mended.opinions.units, run.opinions.units)


def test_names_made_again_lose_the_opinions_on_the_old_ones(run, make, tmp_path):
    folder = shutil.copytree(run.folder, tmp_path / "run")
    (folder / "annotations.parquet").unlink()
    mended = make(folder)
    pd.testing.assert_frame_equal(mended.annotations, run.annotations)
    assert mended.opinions is None


def test_three_annotators_are_compared_in_pairs_too(run, other, parts, tmp_path):
    folder = shutil.copytree(run.folder, tmp_path / "run")
    (tmp_path / "third.py").write_text((parts / "other.py").read_text().replace("- 0.45", "- 0.6"))
    third = mammi.create_vlm(f"{tmp_path / 'third.py'}:create")
    note = ask_second_opinions(folder, [other, third]).opinions.note
    asked = [(one["over"], one["vlms"]) for one in note["agreement"] if one["layer"] == "head"]
    pairs = [[0, 1], [0, 2], [1, 2]]
    assert asked == [*(("annotators", who) for who in ([0, 1, 2], *pairs)), *(("wordings", [who]) for who in range(3))]
    assert note["agreement"][1] == run.opinions.note["agreement"][0]
    assert len({(one["namer"], one["scorer"]) for one in note["scored"]}) == 6
    assert note["n_voters"] == 6


def test_other_wordings_of_one_annotator(make, naming, tmp_path):
    run = make(tmp_path / "run", template=TEMPLATES[0])
    with pytest.raises(InputError, match=r"one annotator in one wording.*--vlm\) or another wording \(--template"):
        ask_second_opinions(run)
    found = ask_second_opinions(run, templates=["a {} film", TEMPLATES[0]]).opinions
    assert [one["template"] for one in found.note["asked"]] == [TEMPLATES[0], "a {} film"]
    assert found.note["scored"] == []
    assert len(found.scored) == 0
    assert {one["over"] for one in found.note["agreement"]} == {"wordings"}
    assert found.units["over_annotators"].isna().all()


@pytest.mark.parametrize(
    ("method", "options", "reason"),
    [
        ("linear", {"source": "vlm"}, "a formula of several concepts"),
        ("linear", {"source": "labels"}, "names units from a label table, not through an annotator"),
        ("invert", {"source": "vlm"}, "a formula of several concepts"),
    ],
)
def test_methods_without_a_second_opinion(make, other, tmp_path, method, options, reason):
    with pytest.raises(InputError, match=reason):
        make(tmp_path / "run", method=method, second_opinions=[other], **options)
    assert not (tmp_path / "run").exists()


def test_dissection_has_no_second_opinion(other):
    from mammi.methods import create_method
    from mammi.opinions import refuse_opinions

    with pytest.raises(InputError, match="'dissection' names units from masks"):
        refuse_opinions("dissection", create_method("dissection"), [other])


def test_what_is_refused(run, make, naming, other, parts, tmp_path):
    with pytest.raises(InputError, match=r"vlm.py:create has the weights .* of vlm.py:create"):
        make(tmp_path / "twice", second_opinions=[naming])
    with pytest.raises(InputError, match=r"hold \{\} once each.* got 'no place'"):
        ask_second_opinions(run, [other], templates=["no place"])
    with pytest.raises(StaleRunError, match="is not the annotator that named the units"):
        ask_second_opinions(run, [naming], naming=other)
    folder = shutil.copytree(run.folder, tmp_path / "run")
    (folder / "concepts.csv").write_text("term\nbright\n")
    with pytest.raises(StaleRunError, match="is not the concept set"):
        ask_second_opinions(folder, [other], templates=["x {}"])
    (folder / "concepts.csv").unlink()
    with pytest.raises(RunError, match="has lost its concepts.csv"):
        ask_second_opinions(folder, [other], templates=["x {}"])


def test_a_film_that_changed_is_not_shown_to_another_annotator(make, other, parts, tmp_path):
    films = shutil.copytree(parts / "films", tmp_path / "films")
    run = make(tmp_path / "run", images=mammi.ProbingSet.open(films))
    row = int(run.images["row"].iloc[run.examples["film"].iloc[0]])
    path = sorted(films.iterdir())[row]
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(StaleRunError, match="1 films were changed since"):
        ask_second_opinions(run, [other])


def test_activations_are_read_as_recorded(run):
    asked = open_asked(run)
    selection = asked.selection("head")
    table = run.examples[run.examples["layer"] == "head"]
    assert selection.counts.tolist() == run.units.loc[run.units["layer"] == "head", "n_examples"].tolist()
    np.testing.assert_array_equal(selection.images, table["film"])
    np.testing.assert_array_equal(selection.activations, table["activation"])
