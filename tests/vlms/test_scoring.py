"""An annotator that scores pairs itself names units as its scores say, through every method."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import mammi
from mammi.errors import InputError, RunError, VlmError
from mammi.explain.search import open_search
from mammi.types import Film, Scorer, VlmCard
from mammi.vlms import Annotator, comparable, refuse_too_many
from mammi.vlms.annotator import check_vlm
from small_job import draw

WORDS = ["bright", "dark", "left", "right", "textured"]


class Cosines(nn.Module):
    """Five numbers of a picture, and five words."""

    templates = ("{}",)

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(len(WORDS), 5, generator=torch.Generator().manual_seed(0)))

    def preprocess(self, image):
        return torch.from_numpy(np.asarray(image.convert("L").resize((16, 16)), dtype=np.float32) / 255)[None]

    def encode_images(self, images):
        m, s = images.mean((1, 2, 3)) - 0.5, images.std((1, 2, 3))
        side = images[..., 8:].mean((1, 2, 3)) - images[..., :8].mean((1, 2, 3))
        return nn.functional.normalize(torch.stack([m, side, s, torch.full_like(m, 0.1), m * side], 1), dim=1)

    def encode_texts(self, texts):
        rows = [self.table[WORDS.index(t)] if t in WORDS else self.table.mean(0) + len(t) for t in texts]
        return nn.functional.normalize(torch.stack(rows), dim=1)


class Pairs(Cosines):
    """The same, but it says what a pair is worth: text rows of another width, and twice the cosine."""

    def encode_texts(self, texts):
        return 7 * torch.cat([super().encode_texts(texts), torch.ones(len(texts), 2)], 1)

    def score(self, images, texts):
        return 2 * images @ (texts[:, :5] / 7).T


def annotator(model, name="pairs"):
    found = Annotator(name, model.eval(), VlmCard(name), "0" * 64)
    check_vlm(found)
    return found


def test_rows_are_kept_as_they_are_and_scored_by_the_model():
    ours = annotator(Pairs())
    assert isinstance(ours.model, Scorer)
    assert ours.scores_pairs
    assert not annotator(Cosines()).scores_pairs
    assert ours.d_embed == 5
    film = ours.view(Film(np.linspace(0, 1, 400, dtype=np.float32).reshape(20, 20)))
    images, texts = ours.embed_images(film[None]), ours.embed_texts(["left", "dark", "right"])
    assert texts.shape == (3, 7)
    expected = torch.tensor(
        [
            [
                2
                * float(
                    images[0]
                    @ ours.model.table[WORDS.index(w)].detach()
                    / ours.model.table[WORDS.index(w)].detach().norm()
                )
                for w in ("left", "dark", "right")
            ]
        ]
    )
    torch.testing.assert_close(ours.score(images, texts), expected)


@pytest.mark.parametrize("method", ["mammi", "calibrated", "clip-dissect", "correlation", "www"])
def test_scores_that_are_cosines_name_as_cosines_do(tmp_path, method):
    draw(tmp_path / "films", 60)
    net = nn.Sequential(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    torch.manual_seed(1)
    nn.init.normal_(net[0].weight)
    target = mammi.create_target(net, channels=1, size=16, mean=0.5, std=0.25, resize="squash")
    films, words = mammi.ProbingSet.open(tmp_path / "films"), mammi.ConceptSet.from_terms(WORDS)

    class Single(Pairs):
        def score(self, images, texts):
            return super().score(images, texts) / 2

    found = []
    for name, model in (("cosines", Cosines()), ("single", Single())):
        options = {"control": False} if method == "calibrated" else {}
        run = mammi.annotate(
            target, films, words, annotator(model, name), layers=["1"], out=tmp_path / name, method=method, **options
        )
        assert run.manifest["identity"]["template"] == "{}"
        found.append(run.annotations)
    pd.testing.assert_frame_equal(*found, rtol=1e-5, atol=1e-6)
    with pytest.raises(RunError, match="cannot be searched by words"):
        open_search(run, annotator(Single(), "single"))


def test_templates_are_averaged_over_scores():
    ours = annotator(Pairs())
    films = torch.randn(7, 5, generator=torch.Generator().manual_seed(2))
    texts = ours.embed_texts(["left", "dark", "right", "bright", "a film of"])
    rows, concepts, template = comparable(ours, films, texts, 2, 2)
    slow = [
        [
            (
                float(ours.score(films[n : n + 1], texts[2 * c : 2 * c + 1]))
                + float(ours.score(films[n : n + 1], texts[2 * c + 1 : 2 * c + 2]))
            )
            / 2
            for c in range(2)
        ]
        for n in range(7)
    ]
    torch.testing.assert_close(rows @ concepts.T, torch.tensor(slow, dtype=torch.float64), rtol=1e-6, atol=1e-6)
    assert template is None
    none, concepts, _ = comparable(ours, films[:0], texts, 2, 2)
    assert (none @ concepts.T).shape == (0, 2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda images, texts: (images @ texts[:, :5].T)[:, :1].T, r"must return \(1, 2\), got \(1, 1\)"),
        (lambda images, texts: torch.full((len(images), len(texts)), torch.nan), "not finite"),
        (lambda images, texts: 1 / 0, "failed: ZeroDivisionError"),
    ],
)
def test_a_score_that_cannot_be_used_is_said_when_the_model_is_loaded(wrong, message):
    model = Pairs()
    model.score = wrong
    with pytest.raises(VlmError, match=message):
        annotator(model)


def test_too_many_pairs_are_refused_before_anything_is_computed():
    refuse_too_many(annotator(Cosines()), 10**6, 10**6)
    refuse_too_many(annotator(Pairs()), 1000, 5000)
    with pytest.raises(InputError, match="at most 5,000 concepts"):
        refuse_too_many(annotator(Pairs()), 1000, 5001)
    with pytest.raises(InputError, match="at most 2,394 concepts"):
        refuse_too_many(annotator(Pairs()), 112_120, 3000)
