"""What is said of films: from labels with unknown ones, from reports, and read from tables."""

import math

import pytest
import torch

from mammi.errors import InputError
from mammi.fitting.lessons import LabelLessons, ReportLessons
from mammi.fitting.pairs import read_pairs

NAN = math.nan


def test_statements_from_labels_know_what_is_not_known():
    labels = torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [0.0, NAN], [NAN, 1.0], [0.0, 0.0], [NAN, NAN]])
    lessons = LabelLessons.of(["disc", "bar"], labels, ["{}", "a {}"])
    assert lessons.texts == ["disc", "a disc", "bar", "a bar", "no finding", "a no finding"]
    truth = lessons.truth(torch.arange(7), torch.tensor([3, 4]))
    bar = [1, 1, 1, NAN, 1, 0, NAN]
    nothing = [0, 0, 0, NAN, 0, 1, NAN]
    torch.testing.assert_close(truth, torch.tensor([bar, nothing]).T, equal_nan=True)
    assert lessons.exam(torch.arange(7)).tolist() == [0, 2]
    drawn = lessons.draw(torch.arange(7), torch.Generator().manual_seed(0))
    assert (drawn // 2).tolist() == [0, 1, 2]


def test_labels_that_teach_nothing_are_refused():
    with pytest.raises(InputError, match="nothing to learn"):
        LabelLessons.of(["disc"], torch.zeros(3, 1))
    with pytest.raises(InputError, match=r"needs \{\}"):
        LabelLessons.of(["disc"], torch.ones(3, 1), ["disc"])


def test_a_sentence_is_true_of_every_film_whose_report_has_it():
    lessons = ReportLessons.of(["A disc is seen. No bar.", "No bar.\nClear field; large disc.", "Clear."])
    row = {text: i for i, text in enumerate(lessons.texts)}
    assert set(row) == {
        *("A disc is seen. No bar.", "A disc is seen", "No bar", "No bar. Clear field; large disc.", "Clear field"),
        *("large disc", "Clear."),
    }
    truth = lessons.truth(torch.tensor([2, 0, 1]), torch.tensor([row["No bar"], row["large disc"]]))
    assert truth.tolist() == [[0, 0], [1, 0], [1, 1]]
    assert lessons.exam(torch.arange(3))[0] == row["No bar"]
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        drawn = lessons.draw(torch.tensor([0, 2]), generator)
        assert set(drawn.tolist()) <= {*lessons.owned[0].tolist(), *lessons.owned[2].tolist()}
        assert row["Clear."] in drawn


@pytest.mark.parametrize("name", ["reports.csv", "reports.jsonl"])
def test_reports_are_read_from_both_kinds_of_table(films, name):
    pairs = read_pairs(films / "images", films / name)
    assert len(pairs.films) == len(pairs.reports) == 120
    assert pairs.notes == ("1 of 121 films left out: their report is empty",)
    assert pairs.reports[1] == "a disc is seen. no bar is seen."  # the history is no finding
    assert pairs.films.patients[:4].tolist() == ["p0", "p0", "p0", "p1"]


def test_a_table_without_either_is_refused(films, tmp_path):
    (tmp_path / "t.csv").write_text("image,patient\nf0,p0\n")
    with pytest.raises(InputError, match="neither a report"):
        read_pairs(films / "images", tmp_path / "t.csv")
    (tmp_path / "t.jsonl").write_text('{"image": "f0"}\n{"picture": 1}\n')
    with pytest.raises(InputError, match="line 2"):
        read_pairs(films / "images", tmp_path / "t.jsonl")
    (tmp_path / "t.jsonl").write_text('{"image": "f0"}\n{"image": "f0.png"}\n')
    with pytest.raises(InputError, match="'f0' twice"):
        read_pairs(films / "images", tmp_path / "t.jsonl")
