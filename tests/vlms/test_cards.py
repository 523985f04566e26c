"""Every published model has a whole card; a licence and a shared collection have consequences."""

import pytest
from typer.testing import CliRunner

import mammi
from mammi.cli import app
from mammi.errors import VlmError
from mammi.types import VlmCard
from mammi.vlms import common_corpora, create_vlm, find_card, forbids_commerce, known_models
from mammi.vlms.cards import refuse_commerce
from mammi.vlms.corpora import canonical
from small_job import MODEL, VLM, draw


@pytest.mark.parametrize("known", known_models(), ids=lambda known: known.card.title)
def test_every_card_is_whole(known):
    card = known.card
    assert all([card.title, card.licence, card.modality, card.citation, card.training_corpora, known.specs])
    assert card.access in ("open", "gated", "file")
    assert card.image_size >= 0
    for spec in known.specs:
        assert "/" in spec or spec.endswith(":*")
        assert find_card(spec.replace("*", "x")).title == card.title


def test_a_copied_folder_is_known_by_the_name_of_its_repository():
    assert find_card("transformers:models/medsiglip-448").title == "MedSigLIP"
    assert find_card("transformers:/data/XraySigLIP__vit-l-16-siglip-384__webli/").title == "XraySigLIP"
    copied = find_card("open_clip:local-dir:/m/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224")
    assert copied.title == "BiomedCLIP"
    assert copied.name.startswith("open_clip:local-dir:")
    for other in ("transformers:models/other", "open_clip:local-dir:/m/medsiglip-448", "transformers:medsiglip-448"):
        assert find_card(other).title == ""


def test_no_two_cards_answer_to_one_spec():
    specs = [spec for known in known_models() for spec in known.specs]
    assert len(specs) == len(set(specs))
    titles = [known.card.title for known in known_models()]
    assert len(titles) == len(set(titles))


@pytest.mark.parametrize(
    ("licence", "forbidden"),
    [
        ("CC BY-NC-SA 4.0", True),
        ("CC BY-NC-ND 4.0", True),
        ("CC BY-ND 4.0", True),
        ("for non-commercial use", True),
        ("Noncommercial licence", True),
        ("research use only", True),
        ("MIT", False),
        ("CC BY-SA 4.0", False),
        ("Health AI Developer Foundations terms", False),
        ("BANDIT 2.0, not a NCSA one", False),
        ("not stated", False),
    ],
)
def test_what_a_licence_forbids_is_read_off_its_words(licence, forbidden):
    assert forbids_commerce(VlmCard("x", licence=licence)) is forbidden


def test_a_forbidden_model_is_refused_before_anything_is_loaded():
    with pytest.raises(VlmError, match="XraySigLIP is under CC BY-NC 4.0, which does not allow commercial use"):
        create_vlm("transformers:StanfordAIMI/XraySigLIP__vit-l-16-siglip-384__webli", commercial=True)
    refuse_commerce(find_card("transformers:google/medsiglip-448"))


def test_a_card_that_a_model_brings_itself_counts_too(tmp_path):
    file = tmp_path / "vlm.py"
    file.write_text(VLM + "\nfrom mammi.types import VlmCard\ncard = VlmCard('mine', licence='CC BY-NC 4.0')\n")
    assert create_vlm(f"{file}:create").card.licence == "CC BY-NC 4.0"
    with pytest.raises(VlmError, match="mine is under CC BY-NC 4.0"):
        create_vlm(f"{file}:create", commercial=True)
    file.write_text(VLM)
    assert any("licence is not stated" in note for note in create_vlm(f"{file}:create", commercial=True).notes)
    assert not any("licence" in note for note in create_vlm(f"{file}:create").notes)


@pytest.mark.parametrize(
    ("annotator", "target", "common"),
    [
        (["MIMIC-CXR", "CheXpert"], ["NIH ChestX-ray14"], ()),
        (["MIMIC-CXR v2.0", "chexpert plus"], ["CheXpert"], ("CheXpert",)),
        (["NIH Chest X-ray 14"], ["nih chestxray14"], ("NIH ChestX-ray14",)),
        (["ChestX-ray8"], ["RSNA Pneumonia Challenge"], ("NIH ChestX-ray14 (the target's are part of it)",)),
        (["RSNA pneumonia"], ["CXR14"], ("RSNA Pneumonia (films of NIH ChestX-ray14)",)),
        (["SIIM-ACR"], ["RSNA pneumonia"], ("SIIM-ACR Pneumothorax (films of NIH ChestX-ray14)",)),
        (["our own films"], ["our  own films"], ("our own films",)),
        (["CheXpert", "CheXpert Plus"], ["chexpert"], ("CheXpert",)),
        ([], ["CheXpert"], ()),
        (["CheXpert"], [], ()),
    ],
)
def test_collections_are_known_by_any_of_their_names_and_by_what_is_part_of_what(annotator, target, common):
    assert common_corpora(annotator, target) == common


def test_a_name_inside_a_sentence_is_found():
    assert canonical("reports of MIMIC-CXR, version 2") == "MIMIC-CXR"
    assert canonical("drawn films") == "drawn films"


def test_the_list_leaves_out_what_may_not_be_sold():
    every, allowed = (
        CliRunner().invoke(app, ["vlms", *more], env={"COLUMNS": "300"}).output for more in ([], ["--commercial"])
    )
    assert "XraySigLIP" in every
    assert "CC BY-NC" in every
    assert "CC BY-NC" not in allowed
    assert "BiomedCLIP" in allowed
    assert "open_clip" in every
    said = (
        CliRunner()
        .invoke(app, ["vlms", "card", "transformers:StanfordAIMI/XrayCLIP__x"], env={"COLUMNS": "300"})
        .output
    )
    assert "CC BY-NC 4.0: no commercial use" in said
    assert "2401.12208" in said


def test_a_run_says_what_its_annotator_saw_of_the_targets_data(tmp_path):
    (tmp_path / "vlm.py").write_text(
        VLM
        + "\nfrom mammi.types import VlmCard\ncard = VlmCard('mine', training_corpora=('RSNA Pneumonia', 'CheXpert'))\n"
    )
    (tmp_path / "model.py").write_text(MODEL)
    draw(tmp_path / "films", 30)
    (tmp_path / "concepts.txt").write_text("bright\ndark\n")
    call = ["annotate", "--target", f"{tmp_path / 'model.py'}:create", "--vlm", f"{tmp_path / 'vlm.py'}:create"]
    call += ["--layers", "head", "--images", str(tmp_path / "films"), "--concepts", str(tmp_path / "concepts.txt")]
    call += ["--out", str(tmp_path / "run"), "--trained-on", "NIH ChestX-ray14", "--trained-on", "our own"]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    assert "trained on RSNA Pneumonia (films of NIH ChestX-ray14), as the target was" in done.stderr
    manifest = mammi.open_run(tmp_path / "run").manifest
    assert manifest["vlm"]["shared_corpora"] == ["RSNA Pneumonia (films of NIH ChestX-ray14)"]
    assert manifest["target"]["training_corpora"] == ["NIH ChestX-ray14", "our own"]
    assert CliRunner().invoke(app, ["report", str(tmp_path / "run"), "-o", str(tmp_path / "report")]).exit_code == 0
    assert "no independent witness" in (tmp_path / "report" / "index.html").read_text()
