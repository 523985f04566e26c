"""``mammi concepts sets``, ``from-ontology`` and ``add-ontology`` as a user types them."""

import pytest
from typer.testing import CliRunner

from mammi.cli import app
from mammi.concepts import FINDING_LISTS, ConceptSet


def run(*arguments, code=0):
    result = CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "200"})
    assert result.exit_code == code, result.output
    return result


def test_lists_are_listed():
    shown = run("concepts", "sets").stdout
    for name in FINDING_LISTS:
        assert name in shown
    assert "193" in shown
    assert "CVPR 2017" in shown


def test_a_part_of_an_ontology_is_written(tmp_path):
    made = run("concepts", "from-ontology", "chest", "--root", "pleural effusion", "-o", tmp_path / "c.csv")
    assert "5 concepts" in made.stdout
    assert "licence: that of the package" in made.stderr
    found = ConceptSet.read(tmp_path / "c.csv")
    assert found.terms[0] == "pleural effusion"
    assert "effusion" in found[0].synonyms
    assert all(concept.parents for concept in found[1:])


def test_an_ontology_is_added_to_a_list(tmp_path):
    made = run("concepts", "add-ontology", "nih-14", "chest", "-o", tmp_path / "c.csv")
    assert "14 of 14 concepts found" in made.stderr
    found = ConceptSet.read(tmp_path / "c.csv")
    assert found.terms == ConceptSet.read("nih-14").terms
    assert "pleural abnormality" in found[2].parents


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("from-ontology", "gone", "--root", "a"), ["No ontology at gone", "'chest'"]),
        (("from-ontology", "chest", "--root", "pnuemonia"), ["Did you mean 'pneumonia'?"]),
        (("from-ontology", "chest", "--root", "mass", "--source", "X"), ["sources are of the UMLS"]),
        (("add-ontology", "nih-15", "chest"), ["nih-15", "no built-in list"]),
    ],
)
def test_a_mistake_is_one_line(tmp_path, arguments, words):
    result = run("concepts", *arguments, "-o", tmp_path / "c.csv", code=2)
    assert len(result.stderr.strip().splitlines()) == 1
    for word in words:
        assert word in result.stderr
    assert not (tmp_path / "c.csv").exists()
