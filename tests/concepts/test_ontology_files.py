"""Tiny files in the published layouts of RadLex, UMLS and SNOMED CT, with everyday entries of our own."""

import pytest

from mammi.concepts import ConceptSet, read_ontology
from mammi.errors import InputError, ReportError, UnknownNameError

OWL = """<?xml version="1.0"?>
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:owl="http://www.w3.org/2002/07/owl#"
  xmlns:rdfs="http://www.w3.org/2000/01/rdf-schema#" xmlns:RID="http://www.radlex.org/RID/">
 <owl:Ontology rdf:about="http://www.radlex.org/RID/"/>
 <owl:Class rdf:about="http://www.radlex.org/RID/RID1">
  <RID:Preferred_name xml:lang="en">boat &amp; ship</RID:Preferred_name>
  <RID:Preferred_name_German>Boot</RID:Preferred_name_German>
  <rdfs:label>RID1 label</rdfs:label><rdfs:label xml:lang="de">Boot</rdfs:label>
 </owl:Class>
 <owl:Class rdf:about="http://www.radlex.org/RID/RID2">
  <RID:Preferred_name>canoe</RID:Preferred_name><RID:Synonym>dugout</RID:Synonym><RID:Synonym>kayak</RID:Synonym>
  <rdfs:subClassOf rdf:resource="http://www.radlex.org/RID/RID1"/>
  <rdfs:subClassOf><owl:Restriction><owl:onProperty rdf:resource="http://x/RID9"/></owl:Restriction></rdfs:subClassOf>
 </owl:Class>
 <owl:Class rdf:about="http://www.radlex.org/RID/RID3">
  <RID:Preferred_name>raft</RID:Preferred_name><owl:deprecated>true</owl:deprecated>
  <rdfs:subClassOf rdf:resource="http://www.radlex.org/RID/RID1"/>
 </owl:Class>
</rdf:RDF>
"""
CSV = (
    "Class ID,Preferred Label,Synonyms,Definitions,Obsolete,CUI,Semantic Types,Parents,"
    "http://www.radlex.org/RID/Preferred_name\n"
    "http://www.radlex.org/RID/RID1,boat,,,false,,,http://www.w3.org/2002/07/owl#Thing,boat\n"
    'http://www.radlex.org/RID/RID2,canoe,dugout|kayak,"long,\nslim",false,,,http://www.radlex.org/RID/RID1,canoe\n'
    "http://www.radlex.org/RID/RID3,raft,,,true,,,http://www.radlex.org/RID/RID1,raft\n"
    "http://www.radlex.org/RID/RID4,RID4,,,false,,,http://www.radlex.org/RID/RID1|http://www.radlex.org/RID/RID2,punt\n"
)


@pytest.mark.parametrize(("name", "text", "boat"), [("r.owl", OWL, "boat & ship"), ("r.csv", CSV, "boat")])
def test_radlex(tmp_path, name, text, boat):
    (tmp_path / name).write_text(text, encoding="utf-8")
    for place in (tmp_path, tmp_path / name):
        found = read_ontology(place)
        assert found.entries["RID2"].name == "canoe"
        assert found.entries["RID2"].synonyms == ("dugout", "kayak")
        assert found.entries["RID2"].parents == ("RID1",)
        assert found.entries["RID1"].name == boat
        assert "RID3" not in found.entries
        assert not found.find("Boot")
    assert read_ontology(tmp_path, "canoe").subtree("RID2").terms == (
        ["canoe", "punt"] if name == "r.csv" else ["canoe"]
    )
    if name == "r.csv":
        assert found.entries["RID4"].name == "punt"
        assert found.entries["RID4"].parents == ("RID1", "RID2")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("r.csv", CSV.replace("Parents", "Above"), r"r.csv, line 1: no column 'parents'; columns found: 'class id'"),
        ("r.csv", CSV.replace(",,,true", ",,true"), r"r.csv, line 5: 8 columns, expected 9"),
        ("r.csv", CSV.replace('"long', '"long"x'), r"r.csv, line \d: .*double quotes"),
        ("r.csv", CSV.splitlines()[0] + "\n", "r.csv holds no concept with a name"),
        ("r.owl", OWL.replace("</rdf:RDF>", ""), r"r.owl, line \d+, column \d+: not well-formed XML: no element found"),
        ("r.owl", OWL.replace("<owl:Ontology", "<owl:Ontology<"), r"r.owl, line 4, column \d+: not well-formed"),
        (
            "r.owl",
            OWL.replace("<rdf:RDF", '<!DOCTYPE rdf:RDF [<!ENTITY a "boat">]>\n<rdf:RDF', 1),
            r"r.owl, line 2, column \d+: a document type .* is refused",
        ),
        (
            "r.owl",
            '<Ontology xmlns="http://www.w3.org/2002/07/owl#"/>',
            r"the first element is <Ontology>, expected <rdf:",
        ),
        ("r.owl", OWL.replace("canoe", "c" * 1_000_001), r"r.owl, line 11, .*: a name of more than 1,000,000"),
        ("r.owl", OWL.replace("canoe", "<a>" * 200 + "</a>" * 200), "nested more than 100 deep"),
        ("r.txt", CSV, "r.txt: expected .csv or .owl"),
    ],
)
def test_a_wrong_radlex_file_is_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ReportError, match=message):
        read_ontology(tmp_path / name)


def conso(cui, text, lat="ENG", ts="P", stt="PF", pref="Y", sab="TOYS", suppress="N"):
    return f"{cui}|{lat}|{ts}|L1|{stt}|S1|{pref}|A1||M1|D1|{sab}|PT|1|{text}|0|{suppress}|256|\n"


def rel(cui1, kind, cui2, sab="TOYS", suppress="N"):
    return f"{cui1}|A1|AUI|{kind}|{cui2}|A2|AUI|isa|R1||{sab}|{sab}|||{suppress}||\n"


CONSO = [
    conso("C0000001", "boat"),
    conso("C0000002", "old canoe", ts="S", pref="N"),
    conso("C0000002", "canoe"),
    conso("C0000002", "canoa", "SPA"),
    conso("C0000002", "bad word", suppress="O"),
    conso("C0000002", "log boat", sab="SHIPS", ts="S"),
    conso("C0000003", "punt"),
    conso("C0000003", "vessel", ts="S"),
    conso("C0000004", "vehicle"),
    conso("C0000005", "vessel"),
    conso("C0000007", "dinghy", sab="SHIPS"),
]
REL = [
    rel("C0000001", "CHD", "C0000002"),
    rel("C0000002", "PAR", "C0000001"),
    rel("C0000002", "CHD", "C0000003"),
    rel("C0000001", "CHD", "C0000003"),
    rel("C0000004", "CHD", "C0000001"),
    rel("C0000001", "CHD", "C0000005", suppress="Y"),
    rel("C0000001", "RO", "C0000005"),
    rel("C0000001", "CHD", "C0000006"),  # has no name here
    rel("C0000001", "CHD", "C0000007", sab="SHIPS"),
    rel("", "CHD", "C0000004"),
]


@pytest.fixture
def umls(tmp_path):
    def write(conso=CONSO, rel=REL, sty="C0000002|T074|A1|Medical Device|AT1|256|\n"):
        (tmp_path / "MRCONSO.RRF").write_text("".join(conso), encoding="utf-8")
        (tmp_path / "MRREL.RRF").write_text("".join(rel), encoding="utf-8")
        (tmp_path / "MRSTY.RRF").write_text(sty, encoding="utf-8")
        return tmp_path

    return write


def test_umls(umls):
    found = read_ontology(umls())
    assert found.entries["C0000002"] == ("canoe", ("old canoe", "log boat"), ("C0000001",), "device")
    assert found.entries["C0000003"].parents == ("C0000002", "C0000001")
    assert found.entries["C0000005"].parents == ()
    assert found.relate("canoe", "vehicle") == "broader"
    assert found.notes == ("1 concepts without a wanted name left out of the hierarchy",)
    assert "C0000006" not in found.entries
    assert read_ontology(umls(), languages=["es"]).entries == {"C0000002": ("canoa", (), (), "device")}
    toys = read_ontology(umls(), sources=["toys"])
    assert toys.entries["C0000002"].synonyms == ("old canoe",)
    assert "C0000007" not in toys.entries


@pytest.mark.parametrize("root", ["canoe", "C0000002", "c0000002", " Old Canoe "])
def test_a_part_of_the_umls(umls, root):
    found = read_ontology(umls(), root)
    assert list(found) == ["C0000002", "C0000003"]
    assert found.entries["C0000002"].parents == ()
    assert found.entries["C0000003"].parents == ("C0000002",)


def test_roots_that_are_none_or_several(umls):
    assert list(read_ontology(umls(), "vessel")) == ["C0000005"]  # preferred before synonym
    with pytest.raises(UnknownNameError, match="No concept of UMLS .* is called 'train'"):
        read_ontology(umls(), "train")
    with pytest.raises(InputError, match="'boat' names 2 concepts, give the id of one: C0000001, C0000009"):
        read_ontology(umls([*CONSO, conso("C0000009", "boat")]), "boat")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"conso": [*CONSO, "C0000001|ENG\n"]},
            r"MRCONSO.RRF, line 12: 2 columns, expected 18 separated by '\|': CUI, LAT",
        ),
        ({"conso": [CONSO[0][:-2] + "\n"]}, r"MRCONSO.RRF, line 1: the row does not end with '\|'"),
        ({"conso": [conso("X1", "boat")]}, r"MRCONSO.RRF, line 1, column 1 \(CUI\): got 'X1', expected C and 7 digits"),
        ({"rel": [rel("C0000001", "CHD", "C12")]}, r"MRREL.RRF, line 1, column 5 \(CUI2\): got 'C12'"),
        ({"sty": "C0000002|T074\n"}, r"MRSTY.RRF, line 1: 2 columns, expected 6"),
    ],
)
def test_a_wrong_umls_file_is_refused(umls, files, message):
    with pytest.raises(ReportError, match=message):
        read_ontology(umls(**files))


def test_a_byte_that_is_no_text_is_placed(umls):
    folder = umls()
    raw = (folder / "MRCONSO.RRF").read_bytes().replace(b"vehicle", b"v\xffhicle")
    (folder / "MRCONSO.RRF").write_bytes(raw)
    with pytest.raises(ReportError, match=r"MRCONSO.RRF, line 9, column 15 \(STR\): not UTF-8, byte 1"):
        read_ontology(folder)
    (folder / "MRREL.RRF").unlink()
    with pytest.raises(ReportError, match="has no MRREL.RRF"):
        read_ontology(folder)


HEADS = {
    "Concept_Snapshot_INT_20260101": "id effectiveTime active moduleId definitionStatusId",
    "Description_Snapshot-en_INT_20260101": (
        "id effectiveTime active moduleId conceptId languageCode typeId term caseSignificanceId"
    ),
    "Relationship_Snapshot_INT_20260101": (
        "id effectiveTime active moduleId sourceId destinationId relationshipGroup typeId characteristicTypeId modifierId"
    ),
}
FSN, SYN, ISA = "900000000000003001", "900000000000013009", "116680003"
RF2 = {
    "Concept_Snapshot_INT_20260101": ["1000001|1", "1000002|1", "1000003|0", "1000004|1", "1000005|1"],
    "Description_Snapshot-en_INT_20260101": [
        f"1|1|1000001|en|{FSN}|Boat (physical object)",
        f"2|1|1000002|en|{SYN}|dugout",
        f"3|1|1000002|en|{FSN}|Canoe, long (slim) (physical object)",
        f"4|0|1000002|en|{SYN}|wrong",
        f"5|1|1000002|es|{SYN}|canoa",
        f"6|1|1000003|en|{FSN}|Raft (physical object)",
        f'7|1|1000004|en|{FSN}|"Sinking" (disorder)',
        f"9|1|1000005|en|{FSN}|Race (event)",
        "8|1|1000002|en|900000000000550004|a definition",
    ],
    "Relationship_Snapshot_INT_20260101": [
        f"1|1|1000002|1000001|{ISA}",
        f"2|0|1000004|1000001|{ISA}",
        f"3|1|1000003|1000001|{ISA}",
        "4|1|1000004|1000001|363698007",
    ],
}


def write_rf2(folder, change=lambda name, text: text):
    folder = folder / "Snapshot" / "Terminology"
    folder.mkdir(parents=True)
    for name, rows in RF2.items():
        lines = ["\t".join(HEADS[name].split())]
        for row in rows:
            cells = row.split("|")
            if name.startswith("Concept"):
                full = [cells[0], "20260101", cells[1], "9", "9"]
            elif name.startswith("Desc"):
                full = [cells[0], "20260101", cells[1], "9", *cells[2:], "9"]
            else:
                full = [cells[0], "20260101", cells[1], "9", *cells[2:4], "0", cells[4], "9", "9"]
            lines.append("\t".join(full))
        text = change(name, "\r\n".join(lines) + "\r\n")
        if text is not None:
            (folder / f"sct2_{name}.txt").write_bytes(text.encode())


def test_snomed(tmp_path):
    write_rf2(tmp_path)
    found = read_ontology(tmp_path)
    assert found.entries == {
        "1000001": ("Boat", (), (), "device"),
        "1000002": ("Canoe, long (slim)", ("dugout",), ("1000001",), "device"),
        "1000004": ('"Sinking"', (), (), "finding"),
        "1000005": ("Race", (), (), "other"),
    }
    assert read_ontology(tmp_path, "boat").subtree("boat").terms == ["Boat", "Canoe, long (slim)"]
    assert read_ontology(tmp_path, languages=["es"]).entries["1000002"].name == "canoa"
    with pytest.raises(InputError, match="sources are of the UMLS"):
        read_ontology(tmp_path, sources=["X"])


@pytest.mark.parametrize(
    ("part", "old", "new", "message"),
    [
        ("Concept", "1000002\t", "12\t", r"sct2_Concept_Snapshot_INT_20260101.txt, line 3, column 1 \(id\): got '12'"),
        (
            "Concept",
            "active",
            "Active",
            r"line 1: columns id, effectiveTime, Active.*; expected id, effectiveTime, active",
        ),
        (
            "Relationship",
            "\t1\t9\t1000002",
            "\tyes\t9\t1000002",
            r"line 2, column 3 \(active\): got 'yes', expected 0 or 1",
        ),
        ("Description", "\tdugout", "", r"line 3: 8 columns, expected 9 separated by '\\t': id"),
    ],
)
def test_a_wrong_snomed_file_is_refused(tmp_path, part, old, new, message):
    write_rf2(tmp_path, lambda name, text: text.replace(old, new, 1) if name.startswith(part) else text)
    with pytest.raises(ReportError, match=message):
        read_ontology(tmp_path)


def test_what_is_missing_is_said(tmp_path):
    write_rf2(tmp_path, lambda name, text: None if name.startswith("Rel") else text)
    with pytest.raises(ReportError, match="holds no sct2_Relationship_Snapshot file"):
        read_ontology(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReportError, match=r"holds neither MRCONSO.RRF \(UMLS\), nor sct2"):
        read_ontology(tmp_path / "empty")
    with pytest.raises(ReportError, match="'chest' for the built-in one"):
        read_ontology(tmp_path / "gone")


def test_a_concept_table_is_an_ontology(tmp_path):
    (tmp_path / "mine.csv").write_text("term,synonyms,parents\ncanoe,dugout,ship\nboat,ship,\n")
    found = read_ontology(tmp_path / "mine.csv")
    assert found.relate("dugout", "boat") == "broader"
    assert next(iter(read_ontology("chest", "lung infection"))) == "pulmonary infection"
    with pytest.raises(InputError, match="languages are of UMLS and SNOMED CT"):
        read_ontology("chest", languages=["de"])
    assert isinstance(found.subtree("boat"), ConceptSet)
