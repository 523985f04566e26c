"""Counts are of reports, synonyms are merged, and the laws of counting hold."""

import random
import time
from pathlib import Path

import pytest

from mammi.concepts import ConceptSet, Report, Reports, build_concepts, read_reports
from mammi.concepts.words import word_set
from mammi.errors import InputError, ReportError
from mammi.phantoms import Cohort, write_report

FINDINGS = word_set(
    "Atelectasis Cardiomegaly Effusion Infiltration Mass Nodule Pneumonia Pneumothorax Consolidation Edema Emphysema "
    "Fibrosis Pleural_Thickening Hernia"
)
REPORTS = [
    "Small left pleural effusion. No pneumothorax.",
    "No effusion. The heart is mildly enlarged.",
    "Possible effusion. No pneumothorax, no effusion.",
    "Effusions. No effusion. Cardiomegaly.",
    "Left small effusion with infiltrates.",
    "Small right pleural effusion, no mass. Normal examination of the patient.",
]


def counts(concepts: ConceptSet) -> dict[str, tuple[int, int, int]]:
    return {concept.term: (concept.affirmed, concept.negated, concept.uncertain) for concept in concepts}


def test_counts_by_hand() -> None:
    concepts = build_concepts(REPORTS, min_reports=1)
    assert counts(concepts) == {
        "pleural effusion": (4, 1, 1),
        "small pleural effusion": (3, 0, 0),
        "cardiomegaly": (2, 0, 0),
        "infiltration": (1, 0, 0),
        "mass": (0, 1, 0),
        "pneumothorax": (0, 2, 0),
        "left pleural effusion": (2, 0, 0),
        "right pleural effusion": (1, 0, 0),
        "small left pleural effusion": (2, 0, 0),
        "small right pleural effusion": (1, 0, 0),
    }
    assert [concept.term for concept in concepts][:3] == ["pleural effusion", "small pleural effusion", "cardiomegaly"]


def test_nouns_are_single_words() -> None:
    concepts = build_concepts(REPORTS, min_reports=1, mode="nouns")
    assert counts(concepts) == {
        "effusion": (4, 1, 1),
        "cardiomegaly": (1, 0, 0),
        "heart": (1, 0, 0),
        "infiltration": (1, 0, 0),
        "mass": (0, 1, 0),
        "pneumothorax": (0, 2, 0),
    }
    assert concepts.mode == "nouns"


def test_names_categories_and_provenance() -> None:
    reports = Reports(tuple(Report(str(i), text) for i, text in enumerate(REPORTS)), ("a note",), "Own", "CC0")
    concepts = build_concepts(reports, min_reports=1)
    effusion = concepts.find("Effusion")
    assert effusion is not None
    assert (effusion.term, effusion.category, effusion.source, effusion.licence) == (
        "pleural effusion",
        "finding",
        "Own",
        "CC0",
    )
    small = concepts.find("small effusion")
    assert small is not None
    assert (small.term, small.category) == ("small pleural effusion", "finding")
    assert (concepts.mode, concepts.n_reports, concepts.notes[0]) == ("phrases", 6, "a note")
    assert build_concepts(REPORTS, min_reports=2).notes == ("4 terms dropped: in fewer than 2 of 6 reports",)


def test_max_concepts_keeps_what_most_reports_mention() -> None:
    concepts = build_concepts(REPORTS, min_reports=1, max_concepts=3)
    assert concepts.terms == ["pleural effusion", "small pleural effusion", "cardiomegaly"]
    most = build_concepts(["No hernia."] * 3 + ["Mass."], min_reports=1, max_concepts=1)
    assert most.terms == ["hernia"], "what is mostly denied is a concept too"
    assert most.notes[-1] == "1 terms dropped: only the 1 most mentioned are kept"


def test_a_phrase_that_never_stands_alone_is_no_term() -> None:
    concepts = build_concepts(["Left lower zone haze.", "Left lower zone haze.", "Haze."], min_reports=1)
    assert set(concepts.terms) == {"left lower zone haze", "lower zone haze", "haze"}
    assert counts(concepts)["haze"] == (3, 0, 0)


def test_tables_of_the_user_win(tmp_path: Path) -> None:
    table = tmp_path / "own.csv"
    table.write_text("canonical,synonyms,category\nWater,effusion;pleural effusion,other\nblob,mass;tumor,finding\n")
    concepts = build_concepts([*REPORTS, "Mass."], min_reports=1, synonyms=table)
    assert counts(concepts)["Water"] == (4, 1, 1)
    assert counts(concepts)["blob"] == (1, 1, 0)
    assert concepts.find("mass") == concepts.find("blob")
    drop = tmp_path / "drop.txt"
    drop.write_text("# mine\neffusion\n=mass\n\n")
    kept = build_concepts(["Mass.", "Small mass.", "A patient."], min_reports=1, drop=drop)
    assert set(kept.terms) == {"mass", "small mass", "patient"}, "a name of the synonym table is never dropped by '='"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("canonical,synonyms\na,x\nb,x\n", "own.csv, line 3: 'x' already means 'a'"),
        ("canonical,category\na,thing\n", "own.csv, line 2: category 'thing' is not one of finding"),
        ("term\na\n", "no column 'canonical'; columns found: 'term'"),
    ],
)
def test_bad_synonym_tables(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "own.csv").write_text(content)
    with pytest.raises(ReportError, match=message):
        build_concepts(REPORTS, synonyms=tmp_path / "own.csv")


def test_bad_drop_list(tmp_path: Path) -> None:
    (tmp_path / "drop.txt").write_text("patient\nold patient\n")
    with pytest.raises(ReportError, match="line 2: 'old patient' is a phrase; write '=old patient'"):
        build_concepts(REPORTS, drop=tmp_path / "drop.txt")


def test_bad_options() -> None:
    with pytest.raises(InputError, match="mode must be one of phrases, nouns, got 'words'"):
        build_concepts(REPORTS, mode="words")
    with pytest.raises(InputError, match="min_reports must be 1 or more, got 0"):
        build_concepts(REPORTS, min_reports=0)
    with pytest.raises(InputError, match="one string"):
        build_concepts("No mass.")
    with pytest.raises(InputError, match="must hold Report or str, got dict"):
        build_concepts(["Mass.", {"text": "Mass."}])
    with pytest.raises(ReportError, match="no report to build"):
        build_concepts([])
    with pytest.raises(ReportError, match="in at least 50 of 6 reports"):
        build_concepts(REPORTS, min_reports=50)


def test_order_of_reports_does_not_matter() -> None:
    shuffled = REPORTS.copy()
    random.Random(3).shuffle(shuffled)
    assert shuffled != REPORTS
    assert build_concepts(shuffled, min_reports=1).concepts == build_concepts(REPORTS, min_reports=1).concepts


def test_halves_add_up_to_the_whole() -> None:
    whole = counts(build_concepts(REPORTS, min_reports=1))
    halves = [counts(build_concepts(REPORTS[rows], min_reports=1)) for rows in (slice(0, 3), slice(3, 6))]
    nothing = (0, 0, 0)
    whole, *halves = ({frozenset(term.split()): count for term, count in part.items()} for part in (whole, *halves))
    summed = {
        term: tuple(map(sum, zip(*(half.get(term, nothing) for half in halves), strict=True)))
        for term in {*halves[0], *halves[1]}
    }
    assert summed == whole


def test_saying_it_twice_counts_once() -> None:
    assert build_concepts([text + " " + text for text in REPORTS], min_reports=1).concepts == (
        build_concepts(REPORTS, min_reports=1).concepts
    )


def test_progress_ends_at_the_total() -> None:
    seen: list[tuple[str, int, int]] = []
    build_concepts(REPORTS, min_reports=1, progress=lambda *call: seen.append(call))
    assert seen[-1][0] == "concepts: sentences"
    assert seen[-1][1] == seen[-1][2] > 0


def test_truth_of_drawn_films() -> None:
    plans = list(map(Cohort(120, seed=5).plan, range(120)))
    reports = [write_report(plan) for plan in plans]
    concepts = build_concepts([f"{report.findings}\n{report.impression}" for report in reports])
    for name in FINDINGS:
        concept = concepts.find(name)
        truth = sum(plan.has(name.lower().replace("_", " ")) for plan in plans)
        assert concept is not None, name
        assert 0.5 * truth < concept.affirmed <= truth, name
        assert concept.negated <= len(plans) - truth, name


@pytest.fixture(scope="module")
def real(shared_data: Path) -> Reports:
    return read_reports(shared_data / "reports.jsonl")


def test_real_reports(real: Reports) -> None:
    start = time.process_time()
    concepts = build_concepts(real)
    assert time.process_time() - start < 60
    found = {name: concepts.find(name) for name in FINDINGS}
    assert [name for name, concept in found.items() if concept is None] == []
    assert len({concept.term for concept in found.values() if concept}) == 14
    assert 200 < len(concepts) < 1500
    assert all(concept.reports <= concepts.n_reports == len(real) for concept in concepts)
    pneumothorax, effusion, cardiomegaly = (found[name] for name in ("Pneumothorax", "Effusion", "Cardiomegaly"))
    assert pneumothorax is not None
    assert effusion is not None
    assert cardiomegaly is not None
    assert pneumothorax.negated > 50 * pneumothorax.affirmed > 0, "most reports deny a pneumothorax"
    assert effusion.negated > 10 * effusion.affirmed > 1000
    assert cardiomegaly.affirmed > 20 * cardiomegaly.negated > 0
    words = {word for concept in concepts for word in concept.term.lower().split()}
    assert not words & {"xxxx", "comparison", "evidence", "no", "is", "seen"}
    assert max(len(concept.term.split()) for concept in concepts) <= 6


def test_real_nouns(real: Reports) -> None:
    concepts = build_concepts(real, mode="nouns")
    assert [name for name in FINDINGS if concepts.find(name) is None] == ["Pleural_Thickening"], "two words"
    assert [term for term in concepts.terms if " " in term] == []
