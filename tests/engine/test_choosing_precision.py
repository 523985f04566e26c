"""The precisions of a job, chosen on its own films."""

import re
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from mammi.capture import plan_layers
from mammi.engine import trial
from mammi.engine.precision import Precisions, choose_precisions
from mammi.errors import ImageError, InputError
from mammi.targets import create_target
from mammi.types import Film, VlmCard
from mammi.vlms import Annotator


class Films(SimpleNamespace):
    """Every third film cannot be read; notes which are asked for."""

    def __len__(self):
        return self.n

    def film(self, row):
        self.asked.append(row)
        if row % 3 == 0:
            raise ImageError(f"film {row} is torn")
        return Film(np.random.default_rng(row).random((20, 20), dtype=np.float32))


class Vlm(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 6)

    def preprocess(self, image):
        return torch.from_numpy(np.asarray(image.resize((8, 8)), dtype=np.float32) / 255)[None]

    def encode_images(self, images):
        return self.fc(images.flatten(1))

    def encode_texts(self, texts):
        raise AssertionError("texts are not tried")


class Stubborn(Vlm):
    def encode_images(self, images):
        return super().encode_images(images.float())


@pytest.fixture
def job():
    torch.manual_seed(0)
    target = create_target(
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), size=16, channels=1
    )
    vlm = Annotator("mine", Vlm().eval(), VlmCard("mine"), "0" * 64, d_embed=6)
    return target, plan_layers(target, ["0"]), vlm, Films(n=50, asked=[])


def test_a_small_job_shows_two_films_and_stays_float32(job):
    found = choose_precisions("auto", *job, n_embedded=50, batch_size=16)
    assert re.fullmatch(r"precision: target float32 \(\d s of work\), annotator float32 \(\d s of work\)", str(found))
    assert job[-1].asked == [0, 1, 2]


def test_a_long_job_is_tried_and_kept_by_the_manifest(job, monkeypatch):
    for name in ("SHORT", "WORTH", "QUICKER", "WORTH_TRYING"):
        monkeypatch.setattr(trial, name, -1e9)
    ticks = count()
    monkeypatch.setattr(trial.time, "perf_counter", lambda: float(next(ticks)))  # all take the same time
    found = choose_precisions("auto", *job, n_embedded=50, batch_size=4)
    assert (found.target.precision, found.annotator.precision) == ("bfloat16", "bfloat16")
    assert set(found.annotator.errors["bfloat16"]) == {"images"}
    assert 0 < found.target.errors["bfloat16"]["0"] < 0.05
    assert job[-1].asked == [0, 1, 2, 3, 4, 5]  # four that can be read, once for both models
    assert Precisions.from_dict(found.to_dict()) == found
    assert str(Precisions.from_dict(None)) == "precision: target float32, annotator float32"


def test_where_names_hang_on_single_films_bfloat16_must_be_asked_for(job, monkeypatch):
    for name in ("SHORT", "WORTH", "QUICKER"):
        monkeypatch.setattr(trial, name, -1e9)
    monkeypatch.setattr(trial, "WORTH_TRYING", 0)
    ticks = count()
    monkeypatch.setattr(trial.time, "perf_counter", lambda: float(next(ticks)))
    found = choose_precisions("auto", *job, n_embedded=50, batch_size=4, exact=True)
    assert found.target.precision == found.annotator.precision == "float32-channels-last"
    assert "bfloat16" not in found.target.seconds
    assert choose_precisions("bfloat16", *job, n_embedded=50, batch_size=4, exact=True).target.precision == "bfloat16"


def test_a_model_that_casts_itself_stays_float32(job):
    target, plans, _, films = job
    vlm = Annotator("mine", Stubborn().eval(), VlmCard("mine"), "0" * 64, d_embed=6)
    found = choose_precisions("bfloat16", target, plans, vlm, films, n_embedded=50, batch_size=16)
    assert found.target.precision == "bfloat16"
    assert found.annotator.precision == "float32"
    assert found.annotator.why.startswith("bfloat16 fails: encode_images() of mine failed")


def test_what_is_no_network_or_shown_nothing_is_not_tried(job):
    target, plans, _, films = job
    found = choose_precisions("bfloat16", *job, n_embedded=0, batch_size=16)
    assert str(found.annotator) == "float32 (it is shown no film)"
    bare = Annotator("mine", SimpleNamespace(encode_images=None), VlmCard("mine"), "0" * 64)
    found = choose_precisions("bfloat16", target, plans, bare, films, n_embedded=50, batch_size=16)
    assert str(found.annotator) == "float32 (it holds no network that could be cast)"


def test_films_that_cannot_be_read_choose_float32(job):
    target, plans, vlm, _ = job
    films = Films(n=1, asked=[])
    found = choose_precisions("auto", target, plans, vlm, films, n_embedded=1, batch_size=16)
    assert found.target.why == "nothing could be tried: none of the first films can be read"


def test_what_is_asked_for_must_be_known(job):
    with pytest.raises(InputError, match=r"one of auto, float32, float32-channels-last, bfloat16, got 'half'"):
        choose_precisions("half", *job, n_embedded=50, batch_size=16)
