"""Small runs on films of the tests' own: a network whose units are a line each, an annotator that reads grey levels."""

import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import mammi
from mammi.store.tables import write_parquet

N_FILMS = 60
TERMS = ["bright", "dark", "left", "right", "textured", "top"]
VLM = """
import numpy as np
import torch

class Tiny:
    words = ["bright", "dark", "left", "right", "textured", "top"]

    def preprocess(self, image):
        return torch.from_numpy(np.asarray(image.convert("L").resize((16, 16)), dtype=np.float32) / 255)[None]

    def encode_images(self, images):
        m = 3 * (images.mean((1, 2, 3)) - 0.5)
        side = 3 * (images[..., 8:].mean((1, 2, 3)) - images[..., :8].mean((1, 2, 3)))
        top = 3 * (images[..., :8, :].mean((1, 2, 3)) - images[..., 8:, :].mean((1, 2, 3)))
        texture = 6 * images.std((1, 2, 3)) - 0.5
        return torch.stack([m, -m, -side, side, texture, top, torch.full_like(m, 0.05)], 1)

    def encode_texts(self, texts):
        rows = torch.zeros(len(texts), 7)
        for row, text in zip(rows, texts):
            word = text.split()[-1]
            row[self.words.index(word) if word in self.words else 6] = 1
        return rows

def create():
    return Tiny()
"""


class Net(nn.Module):
    """Mean, minus the mean, right less left, top less bottom, contrast, one that never varies: in any order."""

    def __init__(self, order=range(6), odd=False):
        super().__init__()
        self.head = nn.Linear(6, 6, bias=False)
        self.head.weight.data = torch.eye(6)[list(order)]
        self.tail = nn.Linear(6, 4, bias=False)
        self.tail.weight.data = torch.eye(6)[[3, 0, 4, 2]]
        self.register_buffer("odd", torch.tensor(odd))  # another network, whose first unit is one pixel

    def forward(self, x):
        m = x.mean((1, 2, 3))
        side = x[..., 8:].mean((1, 2, 3)) - x[..., :8].mean((1, 2, 3))
        top = x[..., :8, :].mean((1, 2, 3)) - x[..., 8:, :].mean((1, 2, 3))
        first = x[:, 0, 3, 5] - m if self.odd else m
        features = torch.stack([first, -m, side, top, x.std((1, 2, 3)), 0 * m], 1)
        return self.tail(self.head(features))


class Parts:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "vlm.py").write_text(VLM)
        (folder / "films").mkdir()
        rng = np.random.default_rng(0)
        for i in range(N_FILMS):
            level, side, top, grain = rng.uniform(60, 180), *rng.uniform(-25, 25, 2), rng.uniform(0, 40)
            pixels = level + side * np.sign(np.arange(16) - 7.5)[None] - top * np.sign(np.arange(16) - 7.5)[:, None]
            pixels = np.clip(pixels + grain * rng.normal(size=(16, 16)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "films" / f"plate-{i:04d}.png")
        # 1, 2, 3, 1, 2, 3 ... films of a patient
        self.patients = [f"ward-{i // 6}-{'abbccc'[i % 6]}" for i in range(N_FILMS)]
        paths = sorted((folder / "films").iterdir())
        self.films = mammi.ProbingSet(paths, patients=self.patients)
        self.run = cache(self._run)

    def _run(self, name, order=tuple(range(6)), odd=False, layers=("head",), rows=None, patients=True, **changes):
        target = mammi.create_target(Net(order, odd), channels=1, size=16, mean=0.0, std=1.0)
        films = self.films if patients else mammi.ProbingSet(self.films.paths)
        arguments = {"concepts": mammi.ConceptSet.from_terms(TERMS), "template": "a film that is {}"} | changes
        return mammi.annotate(
            target,
            films if rows is None else films.subset(list(rows)),
            vlm=mammi.create_vlm(f"{self.folder / 'vlm.py'}:create"),
            layers=layers,
            out=self.folder / "runs" / name,
            **arguments,
        )

    def copy(self, run, out, **tables):
        """Copy a run with some tables in place of its own."""
        shutil.copytree(run.folder, out)
        for name, table in tables.items():
            write_parquet(out / f"{name}.parquet", table)
        return mammi.open_run(out)


@pytest.fixture(scope="session")
def parts(tmp_path_factory):
    return Parts(tmp_path_factory.mktemp("compare"))


@pytest.fixture(scope="session")
def before(parts):
    return parts.run("before", layers=("head", "tail"))


@pytest.fixture(scope="session")
def permuted(parts):
    """The same units in another order: another network as far as its weights go."""
    return parts.run("permuted", order=(4, 2, 5, 0, 3, 1), layers=("head", "tail"))


@pytest.fixture(scope="session")
def odd(parts):
    """A later checkpoint, one of whose units looks at something else."""
    return parts.run("odd", odd=True)


@pytest.fixture(scope="session")
def wider(parts):
    """The same network, named by a rule that keeps more concepts of fewer films."""
    return parts.run("wider", concept_threshold=0.3, example_threshold=0.8, min_examples=3)
