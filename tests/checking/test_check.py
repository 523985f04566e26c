"""The self-test: figures against scikit-learn, an annotator that changed, one that is not steady, and what is marked."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

import mammi
from mammi.checking import Check, check_annotator
from mammi.checking.golden import draw_golden, golden_films
from mammi.concepts import ConceptSet
from mammi.errors import InputError, VlmError

VLM = """
import numpy as np
import torch
from mammi.types import VlmCard

SHIFT = 0.0
class Tiny:
    card = VlmCard("", "Tiny", "MIT", ("drawn",), "squares", 8)
    words = ("bright", "right", "left")

    def preprocess(self, image):
        return torch.from_numpy(np.asarray(image.convert("L").resize((8, 8)), dtype=np.float32) / 255)[None]

    def encode_images(self, images):
        mean = images.mean((1, 2, 3)) - 0.5
        side = images[..., 4:].mean((1, 2, 3)) - images[..., :4].mean((1, 2, 3))
        extra = BATCH * len(images)
        return torch.stack([mean + SHIFT, side, -side, torch.full_like(mean, 0.1) + extra], 1)

    def encode_texts(self, texts):
        rows = torch.zeros(len(texts), 4)
        for row, text in zip(rows, texts):
            row[[i for i, word in enumerate(self.words) if word in text.lower()] or [3]] = 1
        return rows

def create():
    return Tiny()
"""


def write_vlm(folder, name, shift=0.0, batch=0.0):
    (folder / name).write_text(VLM.replace("SHIFT = 0.0", f"SHIFT = {shift}\nBATCH = {batch}"))
    return mammi.create_vlm(f"{folder / name}:create")


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """80 squares: bright or dark, the right or the left half brighter; "noise" is a label that no pixel knows."""
    folder = tmp_path_factory.mktemp("squares")
    random = np.random.default_rng(0)
    rows = []
    for place in range(80):
        bright, right = place % 2, (place // 2) % 2
        pixels = random.normal(90 + 60 * bright, 25, (12, 12))
        pixels[:, 6:] += 25 if right else -25
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"s{place}.png")
        hidden = "" if place < 10 else bright
        rows.append((f"s{place}", f"p{place // 2}", hidden, right, (place // 4) % 2, 0))
    names = ["image", "patient", "bright", "right", "noise", "never"]
    pd.DataFrame(rows, columns=names).to_csv(folder / "labels.csv", index=False)
    return mammi.ProbingSet.open(folder, folder / "labels.csv")


@pytest.fixture(scope="module")
def annotator(tmp_path_factory):
    return write_vlm(tmp_path_factory.mktemp("vlm"), "tiny.py")


def test_figures_are_those_of_scikit_learn(annotator, films):
    found = {row.concept: row for row in check_annotator(annotator, films, n_resamples=200).concepts}
    views = torch.stack([annotator.view(films.film(row)) for row in range(len(films))])
    rows = annotator.embed_images(views)
    for name in ("bright", "right", "noise"):
        score = rows @ annotator.embed_texts([name])[0]
        label = films.labels[:, films.label_names.index(name)]
        known = ~np.isnan(label)
        one = found[name]
        assert one.auroc == pytest.approx(roc_auc_score(label[known], score[known]), abs=1e-6)
        assert one.average_precision == pytest.approx(average_precision_score(label[known], score[known]), abs=1e-6)
        assert one.low <= one.auroc <= one.high
        assert (one.positives, one.negatives) == (int((label == 1).sum()), int((label == 0).sum()))
    assert [found[name].told for name in ("bright", "right", "noise", "never")] == ["yes", "yes", "no", "not tested"]


def test_concepts_are_judged_by_the_label_of_their_name_or_synonym(annotator, films):
    from mammi.concepts import Concept

    asked = ConceptSet((Concept("right side", ("right",)), Concept("left"), Concept("Bright")))
    found = check_annotator(annotator, films, asked, templates=["{}", "a {} field"], n_resamples=50)
    assert [row.told for row in found.concepts] == ["yes", "not tested", "yes"]
    assert found.data == {"films": 80, "patients": 40, "concepts_without_label": 1}
    other = ConceptSet.from_terms(["right sides", "noises", "left"])
    again = check_annotator(annotator, films, n_resamples=50)
    assert again.unseen(other) == ["noises"]
    assert again.untested(other) == ["right sides", "left"]
    assert again.macro["concepts"] == 3
    with pytest.raises(InputError, match="none of the 1 concepts is a label"):
        check_annotator(annotator, films, ConceptSet.from_terms(["mass"]))
    with pytest.raises(InputError, match="no labels"):
        check_annotator(annotator, mammi.ProbingSet(films.paths))
    with pytest.raises(InputError, match=r"needs \{\}"):
        check_annotator(annotator, films, templates=["right"])


def test_a_check_is_read_as_it_was_written_and_names_nobody(annotator, films, tmp_path):
    found = check_annotator(annotator, films, n_resamples=50)
    found.write(tmp_path / "c.json")
    assert Check.read(tmp_path / "c.json") == found
    text = (tmp_path / "c.json").read_text()
    assert not [name for name in (*films.ids, str(films.paths[0].parent), "p39") if name in text]
    assert "not a diagnostic device" in text
    found.require(annotator.fingerprint, "tiny")
    with pytest.raises(VlmError, match="of another annotator"):
        found.require("0" * 64, "other")
    (tmp_path / "c.json").write_text("{}")
    with pytest.raises(VlmError, match="no check of an annotator"):
        Check.read(tmp_path / "c.json")


def test_golden_embeddings_tell_another_model(annotator, films, tmp_path):
    golden = tmp_path / "golden.safetensors"

    def status(one):
        return check_annotator(one, films, golden=golden, n_resamples=10).golden

    assert status(annotator)["status"] == "written"
    assert status(annotator) == {
        "status": "equal",
        "largest_difference": 0.0,
        "fingerprint_then": annotator.fingerprint,
    }
    assert status(write_vlm(tmp_path, "near.py", shift=1e-6))["status"] == "equal up to rounding"
    assert status(write_vlm(tmp_path, "other.py", shift=0.3))["status"] == "another model"
    (tmp_path / "size.py").write_text((tmp_path / "other.py").read_text().replace("resize((8, 8))", "resize((10, 10))"))
    assert status(mammi.create_vlm(f"{tmp_path / 'size.py'}:create"))["status"] == "another preprocessing"
    golden.write_bytes(b"no")
    with pytest.raises(VlmError, match="holds no golden embeddings"):
        status(annotator)


def test_an_annotator_whose_rows_depend_on_the_batch_is_found_out(annotator, films, tmp_path):
    assert check_annotator(annotator, films, n_resamples=10).steadiness["films"] < 1e-6
    swayed = write_vlm(tmp_path, "swayed.py", batch=0.2)
    assert check_annotator(swayed, films, n_resamples=10).steadiness["films"] > 0.1


def test_the_drawn_films_are_the_same_everywhere():
    drawn = golden_films()
    assert [film.pixels.shape for film in drawn] == [(600, 520), (480, 700), (90, 110), (256, 256)]
    assert [int(film.levels.astype(np.int64).sum()) for film in drawn] == [33461190, 38827460, 1225430, 8662973]
    assert all(len(np.unique(film.levels)) > 6 for film in drawn)


def test_golden_rows_are_alone(annotator):
    drawn = draw_golden(annotator)
    assert drawn.films.shape == (4, 4)
    assert not math.isclose(float((drawn.films[0] - drawn.films[1]).abs().max()), 0)
