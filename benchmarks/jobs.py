"""The jobs that benchmarks time: models, films and concepts, loaded once and shared by both sides.

``real`` needs nothing from outside: the architectures are the published ones (a DenseNet-121 with 14 outputs, an open_clip
ViT-B/16), their weights random, which costs the same time; the films are drawn chests, enlarged to 1,024 x 1,024 with grain, 8-bit
grey PNG of some 400 kB. ``small`` takes a MobileNet, a small annotator and 320 x 320 films from a folder of real data.
"""

import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import mammi
from mammi.phantoms import Cohort
from mammi.phantoms.catalogue import SYNONYMS
from mammi.targets import Target
from mammi.vlms import Annotator

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
TEMPLATE = "A chest x-ray image of a {}"
SIDE, GRAIN, SEED = 1024, 1.4, 5
_TARGET = '''"""A DenseNet-121 as a user brings one, with random weights."""
from torchvision.models import densenet121

preprocessing = {"channels": 3, "size": 224, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def create():
    return densenet121(weights=None, num_classes=14)
'''


@dataclass(frozen=True)
class Job:
    """What both sides of a comparison work with.

    Attributes:
        target: the network under study.
        vlm: the annotator.
        folder: where the films are.
        films: how many of them to show, the first by name.
        concepts: the words.
        layers: the layers to record.
        command: the arguments of ``mammi annotate`` for the same job, without ``--out``.
    """

    target: Target
    vlm: Annotator
    folder: Path
    films: int
    concepts: mammi.ConceptSet
    layers: tuple[str, ...]
    command: tuple[str, ...]

    def probing_set(self) -> mammi.ProbingSet:
        """Open the films anew, so that nothing is remembered of an earlier round."""
        films = mammi.ProbingSet.open(self.folder)
        return films.subset(range(self.films))


def words(count: int) -> mammi.ConceptSet:
    """Return ``count`` concepts made of the names of drawn findings, their sides, sizes and places."""
    sizes, sides = ("", "small", "large", "subtle"), ("", "left", "right", "bilateral")
    places = ("", "upper zone", "lower zone")
    names = [name for synonyms in SYNONYMS.values() for name in synonyms]
    parts = ((size, side, place, name) for size, side, place in product(sizes, sides, places) for name in names)
    terms = list(dict.fromkeys(" ".join(filter(None, part)) for part in parts))
    return mammi.ConceptSet.from_terms(terms[:count])


def _draw(folder: Path, index: int) -> None:
    path = folder / f"film-{index:05d}.png"
    if not path.is_file():
        small = Cohort(index + 1, SEED).film(index).to_pil()
        grain = np.random.default_rng(index).normal(0, GRAIN, (SIDE, SIDE))
        pixels = np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.float64) + grain
        Image.fromarray(np.clip(np.round(pixels), 0, 255).astype(np.uint8)).save(path)


def draw_films(folder: Path, count: int) -> None:
    """Draw films that are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(_draw, folder), range(count), chunksize=8))


def _random_annotator(folder: Path) -> str:
    """Make an open_clip ViT-B/16 with random weights in a file, once; return its spec."""
    path = folder / "ViT-B-16.safetensors"
    if not path.is_file():
        import open_clip
        from safetensors.torch import save_file

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = open_clip.create_model("ViT-B-16")
        save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)
    return f"open_clip:ViT-B-16@{path}"


def real(folder: Path, films: int, concepts: int) -> Job:
    """Make, or take from an earlier call in ``folder``, the job of published size."""
    draw_films(folder / "films", films)
    (folder / "target.py").write_text(_TARGET, encoding="utf-8")
    spec, vlm = f"{folder / 'target.py'}:create", _random_annotator(folder)
    layers = ("features.norm5", "classifier")
    target = mammi.create_target(spec)
    return _job(folder, folder / "films", spec, target, vlm, films, words(concepts), layers)


def small(folder: Path, films: int, concepts: int, data: Path = DATA) -> Job:
    """Take the real, small models and films of the folder ``data``."""
    network, annotator = data / "mobilenet_nih", data / "cxr_mini_vlm" / "vlm.py"
    if not network.is_dir() or not annotator.is_file():
        sys.exit(f"the job 'small' needs real films and models, which are not at {data}: it is skipped")
    spec, weights = f"{network / 'model.py'}:MNV3S", str(network / "weights.pt")
    target = mammi.create_target(spec, weights)
    layers = ("linear4", "hs3", "hs2")
    folder.mkdir(parents=True, exist_ok=True)
    films = min(films, len(list((data / "nih" / "images").glob("*.png"))))
    return _job(
        folder, data / "nih" / "images", spec, target, f"{annotator}:create", films, words(concepts), layers, weights
    )


def _job(
    folder: Path,
    films: Path,
    spec: str,
    target: Target,
    vlm: str,
    count: int,
    concepts: mammi.ConceptSet,
    layers: tuple[str, ...],
    weights: str = "",
) -> Job:
    """Write down what the command line needs, and load the annotator."""
    concepts.write_csv(folder / "concepts.csv")
    table = folder / "films.csv"
    names = sorted(path.name for path in films.glob("*.png"))[:count]
    table.write_text("\n".join(["image", *names, ""]), encoding="utf-8")
    command = [
        *("--target", spec, "--vlm", vlm, "--layers", ",".join(layers), "--concepts", str(folder / "concepts.csv"))
    ]
    command += ["--images", str(films), "--labels", str(table), *(("--weights", weights) if weights else ())]
    return Job(target, mammi.create_vlm(vlm), films, count, concepts, layers, tuple(command))
