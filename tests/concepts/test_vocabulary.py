"""The word tables say what they mean and do not contradict themselves."""

from pathlib import Path

from mammi.concepts.vocabulary import phrase_key, read_drop_list, read_synonyms, tagger_table
from mammi.concepts.words import key

NIH = (
    "atelectasis,cardiomegaly,effusion,infiltration,mass,nodule,pneumonia,pneumothorax,consolidation,edema,emphysema,"
    "fibrosis,pleural thickening,hernia"
)


def test_the_fourteen_findings_are_fourteen_rows() -> None:
    table = read_synonyms()
    rows = [table.rows[table.term_of[phrase_key(name)]] for name in NIH.split(",")]
    assert {row.category for row in rows} == {"finding"}
    assert len({row.term for row in rows}) == 14


def test_every_name_leads_to_a_row_and_no_term_is_dropped() -> None:
    table = read_synonyms()
    assert set(table.term_of.values()) == set(table.rows)
    heads = {term[-1] for term in table.rows if term[-1] in read_drop_list().words}
    assert heads <= {"change", "view", "film", "abnormality", "pain", "position"}, "only the table itself may save them"


def test_a_term_of_ours_that_the_user_calls_a_synonym_lends_its_names(tmp_path: Path) -> None:
    own = tmp_path / "own.csv"
    own.write_text('canonical;synonyms;category\nWater;"pleural effusion";finding\n;;\n')
    table = read_synonyms(own)
    assert table.term_of[("effusion",)] == table.term_of[("pleural", "effusion")] == ("water",)
    assert table.rows[("water",)].term == "Water"
    assert {"pleural effusion", "effusion"} <= set(table.rows[("water",)].synonyms)
    assert ("pleural", "effusion") not in table.rows
    assert read_synonyms().term_of[("effusion",)] == ("pleural", "effusion"), "ours is as it was"


def test_names_are_compared_without_articles_number_and_spelling() -> None:
    assert phrase_key("Enlargement of the Hearts") == ("enlargement", "of", "heart")
    assert phrase_key("heart is enlarged") == ("heart", "be", "enlarged")
    assert phrase_key("pulmonary_oedema") == ("pulmonary", "edema")
    assert phrase_key("the") == ("the",)
    assert key("  A_b ") == "a b"


def test_one_word_names() -> None:
    table = read_synonyms()
    assert table.single_word(table.rows[("pleural", "effusion")]) == "effusion"
    assert table.single_word(table.rows[("pleural", "thickening")]) == ""


def test_the_tagger_table_has_known_tags() -> None:
    words, suffixes = tagger_table()
    tags = {*words.values(), *(tag for _, tag in suffixes)}
    assert tags <= {"NN", "NNS", "JJ", "RB", "VB", "VBZ", "VBD", "VBG", "VBN", "MD", "IN", "CC", "EX"}
    assert [len(suffix) for suffix, _ in suffixes] == sorted((len(suffix) for suffix, _ in suffixes), reverse=True)
