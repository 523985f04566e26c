"""One spelling and one number for each word."""

import pytest

from mammi.concepts.words import lemma, normalise, word_set

PLURALS = {
    "opacities": "opacity",
    "effusions": "effusion",
    "masses": "mass",
    "metastases": "metastasis",
    "diagnoses": "diagnosis",
    "atelectases": "atelectasis",
    "scolioses": "scoliosis",
    "prostheses": "prosthesis",
    "pneumothoraces": "pneumothorax",
    "bronchi": "bronchus",
    "hila": "hilum",
    "pleurae": "pleura",
    "apices": "apex",
    "bases": "base",
    "vertebrae": "vertebra",
    "bullae": "bulla",
    "lungs": "lung",
    "patches": "patch",
    "diseases": "disease",
    "sinuses": "sinus",
    "doses": "dose",
    "boxes": "box",
    "patient's": "patient",
    "causes": "cause",
}
SINGULARS = word_set(
    "atelectasis pneumothorax emphysema thorax pelvis mass bronchus hilum process gas pancreas fibrosis edema abscess "
    "series ascites is us fibrous callus lens"
)


@pytest.mark.parametrize(("plural", "singular"), PLURALS.items())
def test_plurals(plural: str, singular: str) -> None:
    assert lemma(plural) == singular


@pytest.mark.parametrize("word", sorted(SINGULARS))
def test_singulars_stay(word: str) -> None:
    assert lemma(word) == word


@pytest.mark.parametrize("word", PLURALS.values())
def test_a_singular_is_its_own_singular(word: str) -> None:
    assert lemma(word) == word


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("Pulmonary OEDEMA", "pulmonary edema"),
        ("air space, air-space", "airspace, airspace"),
        ("haemothorax haematoma ischaemic", "hemothorax hematoma ischemic"),
        ("Oesophageal tumour", "esophageal tumor"),
        ("right-sided effusion", "right effusion"),
        ("T-spine", "thoracic spine"),
        ("Michael", "michael"),
    ],
)
def test_one_spelling(text: str, spelled: str) -> None:
    assert normalise(text) == spelled
