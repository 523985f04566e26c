"""A small job: a network, an annotator and films of the tests' own, and what a run of it holds."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

import mammi

N_FILMS = 600  # more than two blocks of 256
TERMS = ["bright", "dark", "left", "right", "textured"]

MODEL = '''
import torch
from torch import nn

class Net(nn.Module):
    """Unit by unit: mean, minus the mean, left-right difference, contrast, and one that never varies."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1)
        self.head = nn.Linear(5, 5, bias=False)
        self.head.weight.data = torch.eye(5)
        self.output_names = ("bright", "dark", "right", "textured", "dead")
        self.preprocessing = dict(channels=1, size=(16, 16), mean=[0.0], std=[1.0])

    def forward(self, x):
        self.conv(x)
        m = x.mean((1, 2, 3))
        side = x[..., 8:].mean((1, 2, 3)) - x[..., :8].mean((1, 2, 3))
        return self.head(torch.stack([m, -m, side, x.std((1, 2, 3)), 0 * m], 1))

def create():
    torch.manual_seed(0)
    return Net()
'''
VLM = """
import os, time
import numpy as np
import torch

class Tiny:
    words = ["bright", "dark", "left", "right", "textured"]

    def preprocess(self, image):
        time.sleep(float(os.environ.get("MAMMI_TEST_SLOW_VLM", "0")))
        pixels = torch.from_numpy(np.asarray(image.convert("L").resize((16, 16)), dtype=np.float32) / 255)
        return pixels[None]

    def encode_images(self, images):
        m = 3 * (images.mean((1, 2, 3)) - 0.5)
        side = 3 * (images[..., 8:].mean((1, 2, 3)) - images[..., :8].mean((1, 2, 3)))
        return torch.stack([m, -m, -side, side, 6 * images.std((1, 2, 3)) - 0.5, torch.full_like(m, 0.05)], 1)

    def encode_texts(self, texts):
        rows = torch.zeros(len(texts), 6)
        for row, text in zip(rows, texts):
            word = text.split()[-1]
            row[self.words.index(word) if word in self.words else 5] = 1
        return rows

def create():
    return Tiny()
"""


#: `call` as a script of its own: the folder of the parts, the run folder; prints every step.
SCRIPT = """
import sys
from pathlib import Path
import mammi
parts, out = Path(sys.argv[1]), sys.argv[2]
mammi.annotate(
    mammi.create_target(f"{parts / 'model.py'}:create"), mammi.ProbingSet.open(parts / "films"),
    mammi.ConceptSet.read(parts / "concepts.txt"), mammi.create_vlm(f"{parts / 'vlm.py'}:create"),
    layers=["head", "conv"], out=out, template="a film that is {}",
    progress=lambda step, done, total: print(step, done, flush=True))
"""


def draw(folder: Path, n_films: int = N_FILMS) -> None:
    rng = np.random.default_rng(0)
    folder.mkdir()
    for i in range(n_films):
        level, side, noise = rng.uniform(40, 200), rng.uniform(-30, 30), rng.uniform(0, 50)
        pixels = level + side * np.sign(np.arange(20) - 9.5)[None] + noise * rng.normal(size=(24, 20))
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / f"plate-{i:04d}.png")


def write_parts(folder: Path, n_films: int = N_FILMS) -> Path:
    """Write the network, the annotator, the concepts and the films into a folder."""
    (folder / "model.py").write_text(MODEL)
    (folder / "vlm.py").write_text(VLM)
    (folder / "concepts.txt").write_text("\n".join(TERMS) + "\n")
    draw(folder / "films", n_films)
    return folder


def call(parts, out, **changes):
    arguments = {
        "target": mammi.create_target(f"{parts / 'model.py'}:create"),
        "images": mammi.ProbingSet.open(parts / "films"),
        "concepts": mammi.ConceptSet.read(parts / "concepts.txt"),
        "vlm": mammi.create_vlm(f"{parts / 'vlm.py'}:create"),
        "layers": ["head", "conv"],
        "out": out,
        "template": "a film that is {}",
    }
    return mammi.annotate(**(arguments | changes))


def contents(run) -> dict[str, object]:
    """Everything a run holds but its secret ids."""
    films = run.images.drop(columns=["id", "patient"])
    tables = {"units": run.units, "examples": run.examples, "annotations": run.annotations, "films": films}
    arrays = {layer: np.array(run.activations(layer)) for layer in run.layers}
    embeddings = {path.name: path.read_bytes() for path in sorted((run.folder / "embeddings").iterdir())}
    return {**tables, **arrays, **embeddings}


def assert_same(run, other):
    left, right = contents(run), contents(other)
    assert list(left) == list(right)
    for name, value in left.items():
        if isinstance(value, pd.DataFrame):
            pd.testing.assert_frame_equal(value, right[name], check_exact=True)
        elif isinstance(value, bytes):
            assert value == right[name], name
        else:
            np.testing.assert_array_equal(value, right[name])
