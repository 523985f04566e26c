"""The concept table: safe in a spreadsheet, and the same when read again."""

import csv
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mammi.concepts import Concept, ConceptSet
from mammi.errors import ReportError

NAMES = st.text(st.characters(codec="utf-8", exclude_characters=";"), min_size=1, max_size=12).map(
    lambda text: " ".join(text.replace("\x00", "").split())
)
NAMES = NAMES.filter(lambda text: len(text.splitlines()) == 1 and text.replace("_", " ").strip() == text)
HARD = [
    "=1+1",
    "-mass",
    "+a",
    "@x",
    "'=quoted",
    "''-twice",
    "'plain",
    'a "b", c',
    "a,b",
    "Größe",
    "a;b"[:1],
    "\uff1dwide",
]


def test_round_trip_of_hard_cells(tmp_path: Path) -> None:
    concepts = tuple(
        Concept(term, ("-x", term + " s"), "device", 3, 2, 1, source='=HYPERLINK("x")', licence="CC BY 4.0, see note")
        for term in HARD
    )
    ConceptSet(concepts).write_csv(tmp_path / "c.csv")
    again = ConceptSet.read(tmp_path / "c.csv")
    assert again.concepts == concepts
    assert (again.notes, again.mode) == ((), "file")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(NAMES, min_size=1, max_size=5, unique_by=lambda name: name.replace("_", " ").casefold()))
def test_round_trip_of_any_text(tmp_path: Path, names: list[str]) -> None:
    try:
        before = ConceptSet(tuple(Concept(name, tuple(names)) for name in names))
    except ReportError:  # two names differ by blanks only
        return
    before.write_csv(tmp_path / "c.csv")
    assert ConceptSet.read(tmp_path / "c.csv").concepts == before.concepts


def test_no_cell_is_a_formula(tmp_path: Path) -> None:
    ConceptSet(tuple(Concept(term, (term,)) for term in HARD)).write_csv(tmp_path / "c.csv")
    with (tmp_path / "c.csv").open(encoding="utf-8-sig", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert [cell for cell in cells if cell[:1] in set("=+-@\t\r\uff1d")] == []
    assert (tmp_path / "c.csv").read_bytes().startswith(b"\xef\xbb\xbf"), "spreadsheets need the byte order mark"


def test_what_a_spreadsheet_makes_of_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "edited.csv"
    file.write_bytes(
        b"Category;TERM;my remark;affirmed\r\nfinding;pleural effusion;keep;12\r\n;;;\r\n;hernia\r\n;Hernia;;4\r\n\r\n"
    )
    concepts = ConceptSet.read(file)
    assert concepts.concepts == (Concept("pleural effusion", (), "finding", 12), Concept("hernia"))
    assert concepts.notes == ("2 blank lines dropped", "1 repeated line dropped: 'Hernia'")


def test_text_has_one_concept_a_line(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_bytes("\ufeffmass\r\n\r\n  pleural   effusion \nMASS\n=odd, one\n".encode())
    concepts = ConceptSet.read(str(file))
    assert concepts.terms == ["mass", "pleural effusion", "=odd, one"]
    assert concepts.notes == ("1 blank line dropped", "1 repeated line dropped: 'MASS'")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name,synonyms\nmass,\n", r"no column 'term'; columns found: 'name', 'synonyms'\. "),
        (b"", "no column 'term'; columns found: none"),
        (b"term\n\n\n", "holds no concept"),
        (b"term,affirmed\nmass,\nhernia,many\n", "line 3: column 'affirmed' holds 'many'"),
        (b"term,affirmed\nmass,-3\n", "line 2: column 'affirmed' holds '-3'"),
        (b"term,category\nmass,finding\n\nhernia,fnding\n", "line 4: Category of 'hernia' is 'fnding'"),
        (b"term,source\nmass,a,b\n", "line 2: 3 cells, but 2 columns"),
        (b'term\n"mass\n', "line 2: .*check its double quotes"),
        (b"term\nGr\xf6sse\n", "not UTF-8 .*'CSV UTF-8'"),
    ],
)
def test_errors_name_the_place(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "bad.csv"
    file.write_bytes(content)
    with pytest.raises(ReportError, match=message) as caught:
        ConceptSet.read(file)
    assert "\n" not in str(caught.value)


def test_absent_files(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"Cannot read .*none\.csv: No such file"):
        ConceptSet.read(tmp_path / "none.csv")
    with pytest.raises(ReportError, match="Cannot write the concept table"):
        ConceptSet.from_terms(["a"]).write_csv(tmp_path / "no folder" / "c.csv")


def test_a_failed_write_leaves_the_old_table_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "c.csv"
    ConceptSet.from_terms(["old"]).write_csv(file)

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(ReportError, match="No space left"):
        ConceptSet.from_terms(["new"]).write_csv(file)
    assert ConceptSet.read(file).terms == ["old"]
    assert list(tmp_path.iterdir()) == [file]
