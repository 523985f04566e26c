"""Reports are cut to what describes the films, whatever file they come in."""

import json
from pathlib import Path

import pytest

from mammi.concepts.reports import Report, described, read_reports
from mammi.errors import ReportError


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Clear lungs.", "Clear lungs."),
        ("HISTORY: Cough. FINDINGS: Clear lungs. IMPRESSION: Normal.", "Clear lungs.\nNormal."),
        ("Impression:\n1. Mass.\nTechnique: PA\nFindings: Large mass.", "Large mass.\n1. Mass."),
        ("COMPARISON: effusion in May\nINDICATION: pneumothorax", ""),
        ("Chest, two views.\nINDICATION: pneumonia?", "Chest, two views."),
        ("Portable chest.\nFINDINGS: Mass.", "Mass."),
        ("FINDINGS: Mass.\nFINDINGS: Hernia.", "Mass.\nHernia."),
        ("The findings: are odd", "The findings: are odd"),
        ("REASON FOR EXAM: fall\nCONCLUSION: Rib fracture", "Rib fracture"),
    ],
)
def test_sections_of_one_text(text: str, kept: str) -> None:
    assert described(text) == kept


def test_json_lines(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "findings": "Mass.", "impression": None, "indication": "hernia", "source": "S", "license": "L"},
        {"Report": "History: old. Impression: Nodule.", "source": "S", "license": "L"},
        {"findings": " ", "impression": "", "source": "S", "license": "L"},
    ]
    file = tmp_path / "r.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    reports = read_reports(file)
    assert list(reports) == [Report("a", "Mass."), Report("2", "Nodule.")]
    assert reports.notes == ("1 of 3 reports dropped: no text in findings or impression",)
    assert (reports.source, reports.licence) == ("S", "L")
    assert (len(reports), reports[0].id, len(reports[:1])) == (2, "a", 1)


def test_table(tmp_path: Path) -> None:
    file = tmp_path / "r.csv"
    file.write_text('ID,Findings,Impression,History\nx,"Mass,\nlarge.",Tumor.,hernia\ny,,Nodule.,\n')
    assert list(read_reports(file)) == [Report("x", "Mass,\nlarge.\nTumor."), Report("y", "Nodule.")]
    file.write_text("report\nIMPRESSION: Mass.\n")
    assert list(read_reports(file)) == [Report("2", "Mass.")]


def test_text_and_folder(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("FINDINGS:\nMass.\n\nIMPRESSION:\nTumor.\n")
    (tmp_path / "a.txt").write_text("Nodule.")
    (tmp_path / "notes.md").write_text("Hernia.")
    assert list(read_reports(tmp_path)) == [Report("a", "Nodule."), Report("b", "Mass.\nTumor.")]
    lines = tmp_path / "lines.text"
    lines.write_text("Nodule.\n\nFINDINGS: Mass.\n")
    reports = read_reports(lines)
    assert list(reports) == [Report("1", "Nodule."), Report("3", "Mass.")]
    assert reports.notes == ("1 of 3 reports dropped: no text in findings or impression",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.jsonl", '{"text": "a"}\n{"text": \n', r"r\.jsonl, line 2: not JSON"),
        ("r.jsonl", "[1]\n", "line 1: expected an object .*got list"),
        ("r.jsonl", '{"body": "a"}\n', "line 1: none of findings, impression, text, report; found: body"),
        ("r.jsonl", '{"findings": ["a"]}\n', "line 1: 'findings' must be a string, got list"),
        ("r.csv", "body\na\n", "no column 'text' or 'report' or 'findings' or 'impression'; columns found: 'body'"),
        ("r.txt", "Mass.\nFINDINGS:\nNodule.\n", "line 2: 'FINDINGS:' is a heading alone"),
        ("r.txt", "\n\n", "holds no report"),
        ("r.jsonl", "", "holds no report"),
    ],
)
def test_errors_name_the_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ReportError, match=message) as caught:
        read_reports(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_empty_folder_and_absent_file(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"holds no \.txt file"):
        read_reports(tmp_path)
    with pytest.raises(ReportError, match="No such file"):
        read_reports(tmp_path / "none.csv")
