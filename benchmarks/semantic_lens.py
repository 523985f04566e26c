"""`mammi annotate` beside SemanticLens 0.2.1, which does its share of the same job in the same process, in turns.

SemanticLens (the package ``semanticlens``, BSD-3-Clause; Dreyer et al., Nature Machine Intelligence 2025) collects each unit's
strongest films, embeds every film with the same open_clip model, embeds every concept, and scores concepts for units. It gets
as many decoding workers as we do. It is no dependency of ours: install it where this is run.

    pip install semanticlens
    python benchmarks/semantic_lens.py [--films N] [--concepts N] [--rounds N] [--folder FOLDER]
"""

import argparse
import logging
import os
import shutil
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from bare import Clock
from floor import BATCH, WORKERS, annotate
from jobs import TEMPLATE, Job, real
from PIL import Image
from record import machine, save
from torch import Tensor, nn
from torch.utils.data import Dataset

from mammi.types import Film

TOP = 10  # films per unit


class _Films(Dataset):
    """The films as one of the two models wants them: tensors for the target, RGB pictures for the annotator."""

    def __init__(self, job: Job, kind: str) -> None:
        self.paths = sorted(job.folder.glob("*.png"))[: job.films]
        self.kind, self.name, self.preprocessing = kind, f"films for the {kind}", job.target.preprocessing

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        picture = Image.open(self.paths[index])
        if self.kind == "annotator":
            return picture.convert("RGB"), 0
        pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).reshape(
            picture.height, picture.width
        )
        return self.preprocessing.apply(Film(pixels.numpy().astype("float32") / 255)), 0


def pooled(activations: Tensor) -> Tensor:
    """Average maps; take a vector as it is."""
    return activations.flatten(2).mean(-1) if activations.ndim == 4 else activations.clone()


def _annotator(job: Job) -> Any:  # noqa: ANN401 - a class of an optional package
    """Wrap the open_clip model that both sides use."""
    from semanticlens.foundation_models import OpenClip

    wrapped = OpenClip.__new__(OpenClip)
    inner: Any = job.vlm.model
    wrapped.url, wrapped.model, wrapped.preprocessor, wrapped.tokenizer = (
        *("ViT-B-16", inner.model, inner.transform),
        inner.tokenizer,
    )
    wrapped.name = "ViT-B-16"
    return wrapped


def semantic_lens(job: Job, clock: Clock, folder: Path) -> list[Tensor]:
    """Do its share of the job through its public interface; return the best concept of every unit of every layer."""
    from semanticlens import Lens
    from semanticlens.component_visualization import ActivationComponentVisualizer

    target: nn.Module = job.target.model
    target.name = "target"  # type: ignore[assignment]
    clock.start()
    found = ActivationComponentVisualizer(
        *(target, _Films(job, "target"), _Films(job, "annotator")),
        layer_names=list(job.layers),
        num_samples=TOP,
        aggregate_fn=pooled,
        cache_dir=str(folder),
    )
    found.run(batch_size=BATCH, num_workers=WORKERS)
    clock.mark("films through the target")
    lens = Lens(_annotator(job))
    embedded = lens.compute_concept_db(found, batch_size=BATCH, num_workers=WORKERS)
    database = {layer: rows.mean(1) for layer, rows in embedded.items()}
    clock.mark("annotator, images")
    scores = lens.text_probing(list(job.concepts.terms), database, templates=[TEMPLATE], batch_size=64)
    clock.mark("annotator, texts and matching")
    return [scores[layer].argmax(0) for layer in job.layers]


def main() -> None:
    """Print seconds of both and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--films", type=int, default=64)
    parser.add_argument("--concepts", type=int, default=1361)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "mammi-benchmark")
    asked = parser.parse_args()
    try:
        import semanticlens  # noqa: F401
    except ImportError:
        sys.exit("this comparison needs SemanticLens: pip install semanticlens, best into an environment of its own")
    logging.getLogger("semanticlens").setLevel(logging.ERROR)
    job = real(asked.folder / "real", asked.films, asked.concepts)
    setting = f"{job.films:,} films, {len(job.layers)} layers, {len(job.concepts):,} concepts, float32"
    print(f"{machine()}\n{setting}, SemanticLens {version('semanticlens')}", flush=True)
    theirs: list[tuple[float, float]] = []
    ours: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(asked.rounds):
            for side in ("theirs", "ours") if number % 2 == 0 else ("ours", "theirs"):
                clock, before = Clock(), _children()
                began = time.perf_counter()
                if side == "theirs":
                    semantic_lens(job, clock, Path(scratch) / f"theirs-{number}")
                else:
                    annotate(job, clock, Path(scratch) / "run")
                    shutil.rmtree(Path(scratch) / "run")
                # Its decoding workers are processes: their seconds count as our threads' do.
                spent = time.perf_counter() - began, sum(clock.cpu.values()) + _children() - before
                (theirs if side == "theirs" else ours).append(spent)
                phases = ", ".join(f"{name} {seconds:.1f}" for name, seconds in clock.cpu.items())
                print(f"{side:<6s} {spent[0]:6.1f} s, {spent[1]:6.1f} CPU s ({phases})", flush=True)
    wall, cpu = (statistics.median(a[i] / b[i] for a, b in zip(theirs, ours, strict=True)) for i in (0, 1))
    print(f"SemanticLens takes {wall:.2f} x the time of mammi annotate ({cpu:.2f} x its CPU seconds)")
    figures = [
        (
            f"SemanticLens 0.2.1 over `mammi annotate` ({setting})",
            f"{cpu:.2f} x in CPU seconds, {wall:.2f} x in time passed",
        )
    ]
    save("semanticlens", figures, {"setting": setting, "theirs": theirs, "ours": ours, "wall": wall, "cpu": cpu})


def _children() -> float:
    times = os.times()
    return times.children_user + times.children_system


if __name__ == "__main__":
    main()
