"""Tables of sentences: which phrases they name, and whether those are affirmed (+), negated (-) or uncertain (?)."""

import warnings

import pytest

from mammi.concepts.language import mentions, sentences
from mammi.concepts.vocabulary import read_synonyms

SIGN = {"affirmed": "+", "negated": "-", "uncertain": "?"}

STATUS = [
    # denial, and how far it reaches
    ("No pneumothorax.", "-pneumothorax"),
    (
        "No pneumothorax, pleural effusion or focal consolidation.",
        "-pneumothorax -pleural effusion -focal consolidation",
    ),
    ("The heart is normal without focal consolidation.", "+heart -focal consolidation"),
    ("No signs of effusion or edema.", "-sign -effusion -edema"),
    ("Negative for pneumonia.", "-pneumonia"),
    ("The lungs are free of consolidation.", "+lung -consolidation"),
    ("The left effusion has resolved.", "-left effusion"),
    ("Resolved left effusion.", "-left effusion"),
    ("Pneumothorax is not seen.", "-pneumothorax"),
    ("Pneumothorax, effusion and consolidation are not seen.", "-pneumothorax -effusion -consolidation"),
    ("Neither effusion nor pneumothorax is present.", "-effusion -pneumothorax"),
    ("No effusion or pneumothorax is seen.", "-effusion -pneumothorax"),
    ("Pneumonia is unlikely.", "-pneumonia"),
    ("No focal infiltrate to suggest pneumonia.", "-focal infiltrate -pneumonia"),
    ("There are no XXXX of a pleural effusion.", "-pleural effusion"),
    ("Endotracheal tube and chest tube have been removed.", "-endotracheal tube -chest tube"),
    ("The film does not show a nodule.", "+film -nodule"),
    # where denial ends
    ("No effusion, heart size is normal.", "-effusion +heart size"),
    ("No pneumothorax and the left effusion is unchanged.", "-pneumothorax +left effusion"),
    ("No effusion but there is cardiomegaly.", "-effusion +cardiomegaly"),
    ("Cardiomegaly is present, pneumothorax is not seen.", "+cardiomegaly -pneumothorax"),
    ("The effusion is no longer seen, edema persists.", "-effusion +edema"),
    ("There is no pneumothorax; the nodule persists.", "-pneumothorax +nodule"),
    ("No mass is identified in the right lung.", "-mass +right lung"),
    ("The lungs are clear, no effusion.", "+lung -effusion"),
    # what only looks like denial
    ("No change in the effusion.", "+change +effusion"),
    (
        "No significant interval change in the effusion, no pneumothorax.",
        "+significant interval change +effusion -pneumothorax",
    ),
    ("Without change in cardiomegaly.", "+change +cardiomegaly"),
    # doubt
    ("Cannot exclude pneumonia.", "?pneumonia"),
    ("Pneumonia cannot be excluded.", "?pneumonia"),
    ("Pneumonia cannot be ruled out.", "?pneumonia"),
    ("Pneumonia is ruled out.", "-pneumonia"),
    ("Left opacity may represent atelectasis or pneumonia.", "+left opacity ?atelectasis ?pneumonia"),
    ("Opacity suspicious for pneumonia.", "+opacity ?pneumonia"),
    ("? pneumonia", "?pneumonia"),
    ("Atelectasis versus infiltrate.", "?atelectasis ?infiltrate"),
    ("Stable cardiomegaly with possible effusion.", "+stable cardiomegaly ?effusion"),
    ("Possible small left effusion, no pneumothorax.", "?small left effusion -pneumothorax"),
    ("Questionable nodule.", "?nodule"),
]
PHRASES = [
    ("Left lower lobe opacities and old rib fractures.", "left lower lobe opacity|old rib fracture"),
    ("Elevation of the right hemidiaphragm.", "right hemidiaphragm elevation"),
    ("Left and right pleural effusions.", "right pleural effusion|left pleural effusion"),
    ("Calcified granuloma seen.", "calcified granuloma"),
    ("A small loculated effusion.", "small loculated effusion"),
    ("Effusion loculated nodule.", "effusion|nodule"),
    ("The opacity has improved since.", "opacity"),
    ("Midline sternotomy XXXX XXXX mass", "midline sternotomy|mass"),
    ("Nodule ___ hernia [**2101-1-1**] mass", "nodule|hernia|mass"),
    ("CARDIOMEGALY AND PULMONARY OEDEMA", "cardiomegaly|pulmonary edema"),
    ("The heart is mildly enlarged.", "heart be enlarged"),
    ("The heart is not enlarged.", "heart"),
    ("Nodule of 3.4 cm at T12, 5 mm.", "nodule|cm|mm"),
    ("Bronchiectasis, scarring and peribronchial thickening.", "bronchiectasis|scarring|peribronchial thickening"),
]


def read(text: str) -> list[tuple[str, str]]:
    clauses = read_synonyms().clauses
    (found,) = sentences([text])
    return [(SIGN[m.status], " ".join(m.words)) for one in found for m in mentions(one, clauses)]


@pytest.mark.parametrize(("text", "expected"), STATUS, ids=[text for text, _ in STATUS])
def test_status(text: str, expected: str) -> None:
    assert " ".join(sign + phrase for sign, phrase in read(text)) == expected


@pytest.mark.parametrize(("text", "expected"), PHRASES, ids=[text for text, _ in PHRASES])
def test_phrases(text: str, expected: str) -> None:
    assert "|".join(phrase for _, phrase in read(text)) == expected


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("Mass. No effusion.", ["mass.", "no effusion."]),
        ("Seen: 3.4 cm at 10:15 a.m. today.", ["seen: 3.4 cm at 10:15 a.m. today."]),
        ("No effusion\nNo mass", ["no effusion", "no mass"]),
        ("No pleural\neffusion", ["no pleural effusion"]),
        ("- Mass\n- hernia", ["mass", "hernia"]),
        ("Mass\n\nhernia", ["mass", "hernia"]),
        ("XXXX. 12.", []),
    ],
)
def test_sentences(text: str, split: list[str]) -> None:
    assert sentences([text]) == [split]


def test_nouns_are_told_from_adjectives() -> None:
    (mention,) = mentions("left basilar pneumothorax")
    assert mention.nouns == ("pneumothorax",)


def test_the_libraries_are_quiet(recwarn: pytest.WarningsRecorder) -> None:
    from mammi.concepts import language

    language._parser.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mentions("no effusion.")
    assert len(recwarn) == 0
