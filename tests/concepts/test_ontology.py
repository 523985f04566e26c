"""How names stand to one another: by hand on small hierarchies, with cycles, homonyms and several parents."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammi.concepts import Concept, ConceptSet, Ontology, relation
from mammi.concepts.chest import chest_ontology
from mammi.concepts.ontology import Entry
from mammi.errors import InputError, ReportError, UnknownNameError

#        vehicle
#       /       \
#     car       boat
#    /   \     /    \
# van    amphibian   canoe
THINGS = Ontology(
    {
        "1": Entry("vehicle"),
        "2": Entry("car", ("motor car", "auto"), ("1",)),
        "3": Entry("boat", ("vessel",), ("1",)),
        "4": Entry("van", (), ("2",)),
        "5": Entry("amphibian", ("duck",), ("2", "3")),
        "6": Entry("canoe", (), ("3",)),
        "7": Entry("blood vessel", ("vessel", "auto")),
        "8": Entry("duck", ("mallard",)),
    },
    "toys",
    "none",
)


@pytest.mark.parametrize(
    ("truth", "name", "expected", "steps", "similarity"),
    [
        ("car", "Cars", "same", 0, 1.0),
        ("engine", "engines", "same", 0, 1.0),  # the ontology need not have it
        ("car", "motor_car", "synonym", 0, 1.0),
        ("van", "car", "broader", 1, 2 * 2 / (1 + 0 + 2 * 2)),
        ("van", "vehicle", "broader", 2, 2 * 1 / (2 + 0 + 2 * 1)),
        ("vehicle", "van", "narrower", 2, 2 * 1 / (0 + 2 + 2 * 1)),
        ("boat", "amphibian", "narrower", 1, 4 / 5),
        ("amphibian", "car", "broader", 1, 4 / 5),
        ("amphibian", "canoe", "related", 2, 4 / 6),
        ("amphibian", "van", "related", 2, 4 / 6),
        ("van", "canoe", "other", 4, 2 / 6),
        ("car", "mallard", "other", None, 0.0),
        ("car", "unheard of", "other", None, 0.0),
        ("vessel", "canoe", "narrower", 1, 4 / 5),  # a homonym counts in its nearest sense
        ("blood vessel", "boat", "other", None, 0.0),  # sharing a synonym makes no two concepts one
        ("blood vessel", "auto", "synonym", 0, 1.0),
        ("amphibian", "duck", "other", None, 0.0),  # preferred elsewhere: not taken as a synonym here
    ],
)
def test_relations_by_hand(truth, name, expected, steps, similarity):
    assert relation(truth, name, THINGS) == expected
    assert THINGS.relate(truth, name) == expected
    assert THINGS.names(truth, name) == (expected in ("same", "synonym"))
    assert THINGS.distance(truth, name) == steps
    assert THINGS.similarity(truth, name) == pytest.approx(similarity, rel=1e-12)


def test_cycles_end_and_the_shorter_way_counts():
    ring = Ontology({"a": Entry("a", (), ("b",)), "b": Entry("b", (), ("c",)), "c": Entry("c", (), ("a",))})
    assert [ring.relate("a", name) for name in "abc"] == ["same", "broader", "narrower"]
    assert set(ring.subtree("a").terms) == {"a", "b", "c"}
    assert ring.similarity("a", "b") == 2 / 3
    pair = Ontology({"a": Entry("a", (), ("b",)), "b": Entry("b", (), ("a",))})
    assert (pair.relate("a", "b"), pair.relate("b", "a")) == ("broader", "broader")
    assert Ontology({"a": Entry("a", (), ("a",))}).relate("a", "b") == "other"


EDGES = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=14)


@settings(max_examples=25, deadline=None)
@given(EDGES)
def test_relations_obey_their_laws(edges):
    entries = {f"n{i}": Entry(f"n{i}", (), tuple(f"n{b}" for a, b in edges if a == i)) for i in range(8)}
    ontology = Ontology(entries)
    reach = {a: {a} for a in entries}
    for _ in entries:  # closure, written another way
        reach = {a: seen | {p for n in seen for p in entries[n].parents} for a, seen in reach.items()}
    for a in entries:
        for b in entries:
            found = ontology.relate(a, b)
            assert (ontology.distance(a, b) is None) == (not reach[a] & reach[b])
            assert ontology.distance(a, b) == ontology.distance(b, a)
            assert 0 <= ontology.similarity(a, b) <= 1
            assert ontology.similarity(a, b) == ontology.similarity(b, a)
            if a != b:
                assert (found in ("broader", "narrower")) == (b in reach[a] or a in reach[b])
                if found == "broader":
                    assert b in reach[a]
                if found == "narrower":
                    assert a in reach[b]
                    assert ontology.relate(b, a) == "broader"


def test_a_part_becomes_a_concept_set():
    found = THINGS.subtree("boat")
    assert found.terms == ["boat", "amphibian", "canoe"]
    assert [concept.parents for concept in found] == [(), ("boat",), ("boat",)]
    assert found[1].synonyms == ("duck",)
    assert (found[0].source, found[0].licence, found.mode) == ("toys", "none", "ontology")
    again = Ontology.from_concepts(found)
    assert again.relate("canoe", "boat") == "broader"
    with pytest.raises(
        InputError, match=r"'vessel' names 2 concepts, give the id of one: 3 \(boat\), 7 \(blood vessel\)"
    ):
        THINGS.subtree("vessel")
    with pytest.raises(UnknownNameError, match=r"'canoo' is not known. Did you mean 'canoe'\? toys holds 8 concepts"):
        THINGS.subtree("canoo")


def test_parents_survive_the_table(tmp_path):
    THINGS.subtree("vehicle").write_csv(tmp_path / "c.csv")
    read = ConceptSet.read(tmp_path / "c.csv")
    assert {c.term: c.parents for c in read}["amphibian"] == ("car", "boat")
    assert tuple(read) == tuple(THINGS.subtree("vehicle"))


def test_synonyms_and_parents_are_added_and_nothing_is_taken_away():
    mine = ConceptSet(
        (Concept("car", ("sedan",), "device"), Concept("vessel"), Concept("wheel"), Concept("auto pilot"))
    )
    found = THINGS.add_to(mine)
    assert found.terms == mine.terms
    assert found[0] == Concept("car", ("sedan", "motor car", "auto"), "device", parents=("vehicle",))
    assert found[1:] == mine[1:]
    assert found.notes == (
        "1 of 4 concepts found in toys",
        "1 left as they are, several concepts are called so: vessel",
    )
    taken = THINGS.add_to(ConceptSet((Concept("car"), Concept("auto"))))
    assert "auto" not in taken[0].synonyms


def test_what_cannot_be_an_ontology_is_refused():
    with pytest.raises(ReportError, match="'' is empty"):
        Ontology({})
    with pytest.raises(ReportError, match=r"Parent 'b' of 'a' \(x\) is no concept"):
        Ontology({"a": Entry("x", (), ("b",))})
    with pytest.raises(ReportError, match="Parents of 'a' hold a ';'"):
        Concept("a", parents=("b;c",))


def test_the_built_in_ontology_knows_the_lists():
    chest = chest_ontology()
    assert chest.relate("effusion", "pleural effusion") == "synonym"
    assert chest.relate("Effusion", "pleural abnormality") == "broader"
    assert chest.relate("hernia", "hiatal hernia") == "narrower"
    assert chest.relate("pleural effusion", "pericardial effusion") == "related"
    assert chest.relate("pneumonia", "scoliosis") == "other"
    for name, unknown in (("nih-14", 0), ("chexpert-14", 1), ("vindr-cxr", 3), ("padchest", 33)):
        assert sum(not chest.find(term) for term in ConceptSet.read(name).terms) == unknown
    assert all(len(places) == 1 for places in chest._preferred.values())
    for place in chest:  # ours has no cycle
        assert not any(place in chest.descendants(child) for child in chest.children.get(place, ()))
