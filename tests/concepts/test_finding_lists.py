"""The built-in lists: as many names as their papers say, in the words of their papers."""

import pytest

from mammi.concepts import FINDING_LISTS, ConceptSet
from mammi.concepts.finding_lists import finding_list
from mammi.concepts.words import key
from mammi.errors import ReportError, UnknownNameError


def test_sizes_and_words():
    sizes = {name: len(ConceptSet.read(name)) for name in FINDING_LISTS}
    assert sizes == {"nih-14": 14, "chexpert-14": 14, "vindr-cxr": 22 + 6, "padchest": 174 + 19}
    nih = ConceptSet.read("NIH-14")
    assert nih.terms[12] == "Pleural Thickening"
    assert nih.find("pleural effusion").term == "Effusion"
    assert all(concept.source and concept.licence and concept.category for concept in nih)
    assert {c.term: c.category for c in ConceptSet.read("chexpert-14")}["Support Devices"] == "device"


@pytest.mark.parametrize("name", FINDING_LISTS)
def test_no_synonym_is_a_label_of_the_list(name):
    concepts = ConceptSet.read(name)
    for concept in concepts:
        assert not {key(synonym) for synonym in concept.synonyms} & {key(term) for term in concepts.terms}


@pytest.mark.parametrize("name", [pytest.param("padchest", marks=pytest.mark.slow), "nih-14"])
def test_names_agree_with_the_label_tables_of_torchxrayvision(name):
    """The tables that the library carries: a witness that is not ours."""
    import ast
    from pathlib import Path

    from mammi.targets.from_xrv import _import_xrv

    pytest.importorskip("skimage")
    xrv = _import_xrv().datasets
    import pandas as pd

    if name == "nih-14":
        table = pd.read_csv(
            Path(xrv.__file__).parent / "data" / "Data_Entry_2017_v2020.csv.gz", usecols=["Finding Labels"]
        )
        found = {label for cell in table["Finding Labels"].unique() for label in cell.split("|")} - {"No Finding"}
        assert {label.replace("_", " ") for label in found} == set(ConceptSet.read(name).terms)
    else:
        path = Path(xrv.__file__).parent / "data" / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz"
        cells = pd.read_csv(path, usecols=["Labels"], low_memory=False)["Labels"].dropna().unique()
        found = {label.strip() for cell in cells for label in ast.literal_eval(cell)} - {""}
        assert found == set(ConceptSet.read(name).terms)


def test_a_file_of_that_name_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nih-14").write_text("mine\n")
    assert ConceptSet.read("nih-14").terms == ["mine"]


def test_a_wrong_name_is_said():
    with pytest.raises(ReportError, match=r"no such file, and it is no built-in list \(nih-14, chexpert-14"):
        ConceptSet.read("nih-15")
    with pytest.raises(UnknownNameError, match="Did you mean 'nih-14'"):
        finding_list("nih14")
