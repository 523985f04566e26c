"""An annotator is fitted, saved, moved, loaded and used; and refused where it is not what it was."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import mammi
from mammi.errors import InputError, VlmError
from mammi.fitting import Pairs, fit_vlm, read_pairs
from mammi.fitting.lessons import TEMPLATES
from mammi.fitting.model import Projection, Projections
from mammi.fitting.train import Training, train
from mammi.functional.auroc import auroc
from mammi.types import VlmCard

CARD = VlmCard("", "Tiny", "Apache-2.0", ("drawn discs",), "drawn films")
TRAINING = Training(d_embed=8, members=3, dropout=0.1, rate=1e-2, decay=0.01, steps=150)
LAYERS = ["first", "second"]


def fit(films, target, sentences, out, table="labels.csv", **options):
    options = {"card": CARD, "training": TRAINING, "sentences": sentences} | options
    return fit_vlm(target, LAYERS, read_pairs(films / "images", films / table), out, **options)


@pytest.fixture(scope="module")
def fitted(films, network, sentences_folder, tmp_path_factory):
    target = mammi.create_target(f"{network / 'net.py'}:Net", network / "net.pt")
    return fit(films, target, sentences_folder, tmp_path_factory.mktemp("fit") / "mine")


def embedded(annotator, films, names):
    picked = [mammi.read_film(films / "images" / f"{name}.png") for name in names]
    return annotator.embed_images(torch.stack([annotator.view(film) for film in picked]))


def test_it_learns_to_tell_what_it_was_shown(fitted, films):
    annotator = mammi.create_vlm(f"fitted:{fitted.folder}")
    names = [f"f{i}" for i in range(120)]
    scores = embedded(annotator, films, names) @ annotator.embed_texts(["disc", "bar"]).T
    truth = torch.tensor([[i % 2, (i // 2) % 2] for i in range(120)]).float()
    areas = auroc(scores, truth)
    assert (areas.diagonal() > 0.65).all()
    assert areas[1, 0] < 0.35  # a film with a disc, and so most often without a bar alone, does not look like one
    assert min(fitted.measured["validation_auroc"]) > 0.65


def test_the_card_says_what_it_is(fitted):
    card = mammi.create_vlm(f"fitted:{fitted.folder}").card
    assert (card.title, card.licence, card.modality, card.image_size) == ("Tiny", "Apache-2.0", "drawn films", 32)
    assert card.training_corpora == ("drawn discs",)
    assert "120 films of 40 patients" in card.notes[0]
    assert mammi.create_vlm(f"fitted:{fitted.folder}").templates == TEMPLATES
    text = (fitted.folder / "fitted.json").read_text()
    assert "/" not in json.loads(text)["backbone"]["code"]
    assert str(fitted.folder.parent) not in text
    assert not [path for path in fitted.folder.rglob("*") if path.suffix in (".py", ".pt", ".bin", ".pkl")]


def test_its_embedding_is_that_of_the_parts(fitted, films, target, sentences_folder):
    from safetensors.torch import load_file
    from sentence_transformers import SentenceTransformer

    weights = load_file(fitted.folder / "projections.safetensors")
    picture = Image.open(films / "images" / "f7.png").resize((32, 32), Image.Resampling.BILINEAR)
    annotator = mammi.create_vlm(f"fitted:{fitted.folder}")
    film = mammi.read_film(films / "images" / "f7.png")
    view = (torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255)[None] - 0.4) / 0.3
    torch.testing.assert_close(annotator.view(film), view, atol=0.02, rtol=0)  # PIL rounds to whole levels
    with torch.no_grad():
        first = target.model.first(annotator.view(film)[None])
        second = target.model.second(first)
    features = torch.cat([first.mean((2, 3)), second.mean((2, 3))], dim=1)
    parts = [
        features @ weights[f"images.{i}.layers.0.weight"].T + weights[f"images.{i}.layers.0.bias"] for i in range(3)
    ]
    expected = torch.cat([part / part.norm() for part in parts], dim=1) / 3**0.5
    torch.testing.assert_close(annotator.embed_images(annotator.view(film)[None]), expected, atol=1e-5, rtol=0)
    row = torch.tensor(SentenceTransformer(str(sentences_folder), device="cpu").encode(["a disc is seen"]))
    row = row / row.norm()
    parts = [row @ weights[f"texts.{i}.layers.0.weight"].T for i in range(3)]
    expected = torch.cat([part / part.norm() for part in parts], dim=1) / 3**0.5
    torch.testing.assert_close(annotator.embed_texts(["a disc is seen"]), expected, atol=1e-5, rtol=0)


def test_the_same_twice_gives_the_same_and_another_seed_does_not(fitted, films, target, sentences_folder, tmp_path):
    again = fit(films, target, sentences_folder, tmp_path / "again")
    name = "projections.safetensors"
    assert (again.folder / name).read_bytes() == (fitted.folder / name).read_bytes()
    other = Training(**(vars(TRAINING) | {"seed": 1}))
    third = fit(films, target, sentences_folder, tmp_path / "third", training=other)
    assert (third.folder / name).read_bytes() != (fitted.folder / name).read_bytes()


def test_neighbours_and_batches_change_nothing(fitted, films):
    annotator = mammi.create_vlm(f"fitted:{fitted.folder}")
    names = ["f1", "f2", "f3"]
    together = embedded(annotator, films, names)
    alone = torch.cat([embedded(annotator, films, [name]) for name in names])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    assert annotator.text_batch == 64
    assert not annotator.notes


def test_it_can_be_moved_with_its_code(fitted, tmp_path):
    before = mammi.create_vlm(f"fitted:{fitted.folder}")
    moved = tmp_path / "moved"
    shutil.copytree(fitted.folder, moved)
    assert mammi.create_vlm(f"fitted:{moved}").fingerprint == before.fingerprint
    shutil.rmtree(moved / "private")
    with pytest.raises(
        VlmError, match=r"defined in 'net.py', which is not at 'net.py': write where it is into .*private"
    ):
        mammi.create_vlm(f"fitted:{moved}")


def test_reports_and_a_small_network_for_the_projection(films, target, sentences_folder, tmp_path):
    training = Training(**(vars(TRAINING) | {"hidden": 16}))
    fitted = fit(films, target, sentences_folder, tmp_path / "told", table="reports.csv", training=training)
    assert fitted.measured["learned_from"] == "reports"
    annotator = mammi.create_vlm(f"fitted:{fitted.folder}")
    assert annotator.templates == ("{}",)
    scores = embedded(annotator, films, [f"f{i}" for i in range(120)]) @ annotator.embed_texts(["a disc is seen"]).T
    assert auroc(scores, torch.tensor([[i % 2] for i in range(120)]).float()).item() > 0.8


def test_what_is_not_what_it_was_is_refused(fitted, network, tmp_path):
    def changed(name):
        folder = tmp_path / name
        shutil.copytree(fitted.folder, folder)
        return folder

    folder = changed("code")
    (tmp_path / "net.py").write_text((network / "net.py").read_text() + "\n# more\n")
    (folder / "private" / "backbone.json").write_text(json.dumps({"code": str(tmp_path / "net.py")}))
    with pytest.raises(VlmError, match="has changed since .* and was not run"):
        mammi.create_vlm(f"fitted:{folder}")
    folder = changed("cut")
    weights = folder / "projections.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(VlmError, match="not a whole safetensors file"):
        mammi.create_vlm(f"fitted:{folder}")
    folder = changed("backbone")
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "backbone.safetensors")
    save_file({**state, "head.bias": state["head.bias"] + 1}, folder / "backbone.safetensors")
    with pytest.raises(VlmError, match="backbone of .* is another"):
        mammi.create_vlm(f"fitted:{folder}")
    folder = changed("json")
    (folder / "fitted.json").write_text('{"schema": 1}')
    with pytest.raises(VlmError, match="damaged"):
        mammi.create_vlm(f"fitted:{folder}")
    with pytest.raises(VlmError, match="no fitted annotator"):
        mammi.create_vlm(f"fitted:{tmp_path / 'nothing'}")


def test_mistakes_are_named(films, target, sentences_folder, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(InputError, match="is not empty"):
        fit(films, target, sentences_folder, tmp_path / "full")
    few = read_pairs(films / "images", films / "labels.csv").films.subset(range(12))
    with pytest.raises(InputError, match="4 patients are too few"):
        fit_vlm(target, LAYERS, Pairs(few), tmp_path / "few", card=CARD, training=TRAINING, sentences=sentences_folder)
    with pytest.raises(VlmError, match="given as a module"):
        fit(films, mammi.create_target(target.model), sentences_folder, tmp_path / "module")
    with pytest.raises(VlmError, match="no sentence encoder"):
        fit(films, target, tmp_path, tmp_path / "none")
    with pytest.raises(InputError, match="2 members"):
        Training(members=1)


def test_standardising_is_taken_in():
    torch.manual_seed(0)
    x, mean, std = torch.randn(5, 4), torch.randn(4), torch.rand(4) + 0.5
    for hidden in (0, 6):
        projection = Projection(4, 3, hidden)
        expected = projection((x - mean) / std)
        projection.absorb(mean, std)
        torch.testing.assert_close(projection(x), expected, atol=1e-5, rtol=1e-5)


def test_the_cosine_is_the_mean_over_the_pairs():
    torch.manual_seed(0)
    both = Projections(4, 5, 3, members=2)
    films, texts = torch.randn(6, 4), torch.randn(7, 5)
    ours = both.side_by_side(both.images, films) @ both.side_by_side(both.texts, texts).T
    cosine = torch.nn.functional.cosine_similarity
    each = [cosine(both.images[i](films)[:, None], both.texts[i](texts)[None], dim=2) for i in range(2)]
    torch.testing.assert_close(ours, (each[0] + each[1]) / 2)


def test_a_pair_never_sees_the_patients_that_stop_it():
    """Labels that are only true in one part of the patients cannot be learned from the others."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(90, 300, generator=generator)  # more features than films: anything seen is learned by heart

    class Noise:
        texts = ("disc",)

        def draw(self, films, generator):
            return torch.tensor([0])

        def exam(self, films):
            return torch.tensor([0])

        def truth(self, films, texts):
            return (torch.arange(90) % 2).float()[films][:, None]

    patients = torch.arange(90) // 3
    found = train(features, torch.ones(1, 4), Noise(), patients, Training(members=3, dropout=0.0, rate=1e-2, steps=100))
    assert max(found.validation) < 0.75
