"""The floor: a bare loop of the work that cannot be left out, with the models, batch size, threads and precision of `mammi`.

Each film is decoded once and resized once for each model, in threads while the network computes; one forward of the target
with all layers hooked; one encoding of each film that any unit chose; one encoding of each text, batched by length and cut to
the longest; one matrix product. Nothing is checked, hashed, stored or reported.
"""

import io
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jobs import TEMPLATE, Job
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate

from mammi.functional.precision import as_input
from mammi.targets import Preprocessing

__all__ = ["PHASES", "Clock", "bare_loop", "forward_time"]

#: The phases of both sides, in the order in which they are printed.
PHASES = (
    "films through the target",
    "annotator, images",
    "annotator, texts",
    "matching",
    "trying precisions",
    "rest",
)


@dataclass
class Clock:
    """Seconds by phase, on the wall and of all threads of this process."""

    wall: dict[str, float] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)
    extra: dict[str, float] = field(default_factory=dict)
    _last: tuple[float, float] = (0.0, 0.0)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> None:
        """Begin to count."""
        self._last = (time.perf_counter(), time.process_time())

    def mark(self, phase: str) -> None:
        """Book what passed since the last mark to a phase."""
        now = (time.perf_counter(), time.process_time())
        self.wall[phase] = self.wall.get(phase, 0.0) + now[0] - self._last[0]
        self.cpu[phase] = self.cpu.get(phase, 0.0) + now[1] - self._last[1]
        self._last = now

    def add(self, what: str, seconds: float) -> None:
        """Add to one of the figures within a phase, from any thread."""
        with self._lock:
            self.extra[what] = self.extra.get(what, 0.0) + seconds


@contextmanager
def forward_time(model: nn.Module, clock: Clock) -> Iterator[None]:
    """Add up the seconds that a network computes."""
    began = [0.0]

    def before(_module: nn.Module, _inputs: Any) -> None:  # noqa: ANN401
        began[0] = time.perf_counter()

    def after(_module: nn.Module, _inputs: Any, _output: Any) -> None:  # noqa: ANN401
        clock.add("target forward, wall", time.perf_counter() - began[0])

    handles = (model.register_forward_pre_hook(before), model.register_forward_hook(after))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _target_view(pixels: np.ndarray, settings: Preprocessing) -> Tensor:
    """Resize and normalise as the target declares: squash, bilinear."""
    image = torch.from_numpy(pixels)[None, None].float().div_(255)
    image = interpolate(image, settings.size, mode="bilinear", antialias=True)[0]
    mean, std = (torch.tensor(values)[:, None, None] for values in (settings.mean, settings.std))
    return (image.expand(settings.channels, -1, -1) - mean) / std


def _batches(paths: Sequence[Path], job: Job, size: int, workers: int, clock: Clock) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of both views, decoded ahead in threads."""
    settings = job.target.preprocessing
    # open_clip's transform turns grey into three channels after resizing, at a third of the cost.
    preprocess = getattr(job.vlm.model, "transform", job.vlm.model.preprocess)

    def load(path: Path) -> tuple[Tensor, Tensor]:
        began = time.thread_time()
        picture = Image.open(io.BytesIO(path.read_bytes()))
        picture.load()
        clock.add("decode, CPU", time.thread_time() - began)
        views = _target_view(np.array(picture), settings), preprocess(picture)
        clock.add("decode and resize, CPU", time.thread_time() - began)
        return views

    batches = [paths[start : start + size] for start in range(0, len(paths), size)]
    with ThreadPoolExecutor(workers) as pool:
        ahead = [[pool.submit(load, path) for path in batch] for batch in batches[:2]]
        for number in range(len(batches)):
            seen = [future.result() for future in ahead.pop(0)]
            if number + 2 < len(batches):
                ahead.append([pool.submit(load, path) for path in batches[number + 2]])
            yield torch.stack([view for view, _ in seen]), torch.stack([view for _, view in seen])


@torch.inference_mode()
def bare_loop(job: Job, clock: Clock, *, batch_size: int, workers: int) -> list[list[str]]:
    """Do the job; return the first concept of every unit of every layer, ``""`` for a unit without one."""
    clock.start()
    paths = sorted(job.folder.glob("*.png"))[: job.films]
    modules = dict(job.target.model.named_modules())
    seen: dict[str, list[Tensor]] = {layer: [] for layer in job.layers}
    handles = [
        modules[layer].register_forward_hook(
            lambda _m, _i, out, layer=layer: seen[layer].append(
                (out.mean((2, 3)) if out.ndim == 4 else out.clone()).float()
            )
        )
        for layer in job.layers
    ]
    kept: list[Tensor] = []
    try:
        with forward_time(job.target.model, clock):
            for views, other in _batches(paths, job, batch_size, workers, clock):
                job.target.model(as_input(views, job.target.precision, job.target.device))
                kept.append(other)
    finally:
        for handle in handles:
            handle.remove()
    clock.mark(PHASES[0])

    chosen = {}
    for layer, parts in seen.items():
        units = torch.cat(parts).T.contiguous()
        low, high = (bound.double()[:, None] for bound in units.aminmax(dim=1))
        chosen[layer] = (units.double() > low + 0.93 * (high - low)).nonzero(as_tuple=True)
    films = torch.cat([images for _, images in chosen.values()]).unique()
    clock.mark("matching")

    views = torch.cat(kept)
    encode, shown = job.vlm.model.encode_images, films.split(batch_size)
    parts = [encode(as_input(views[part], job.vlm.precision, job.vlm.device)) for part in shown]
    rows = nn.functional.normalize(torch.cat(parts).float(), dim=1)
    clock.mark(PHASES[1])

    texts = [TEMPLATE.format(term) for term in job.concepts.terms]
    encoded = nn.functional.normalize(
        _encode_texts(job.vlm.text_model or job.vlm.model, [*texts, TEMPLATE.replace(" {}", "")]).float(), dim=1
    )
    clock.mark(PHASES[2])

    direction = encoded[:-1] - encoded[-1]
    names = []
    for layer, (units, images) in chosen.items():
        sums = torch.zeros(seen[layer][0].shape[1], rows.shape[1])
        sums.index_add_(0, units, rows[torch.searchsorted(films, images)])
        scores = (sums / units.bincount(minlength=len(sums))[:, None]) @ direction.T
        best = scores.max(dim=1)
        # What is kept is read off the scores too: all within a share of the best.
        (scores > 0.95 * best.values[:, None]).nonzero()
        names.append(
            [
                job.concepts.terms[place] if value > 0 else ""
                for value, place in zip(best.values.tolist(), best.indices.tolist(), strict=True)
            ]
        )
    clock.mark(PHASES[3])
    return names


def _encode_texts(model: Any, texts: list[str], size: int = 64) -> Tensor:  # noqa: ANN401
    """Encode texts of like length together; an open_clip text tower reads no token behind the longest."""
    inner = getattr(model, "model", None)
    if not hasattr(inner, "positional_embedding"):
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        parts = [
            model.encode_texts([texts[i] for i in order[start : start + size]]) for start in range(0, len(order), size)
        ]
        return torch.cat(parts)[torch.tensor(order).argsort()]
    tokens = model.tokenizer(texts)
    lengths = tokens.argmax(dim=1) + 1  # the end of a text has the highest number
    order = lengths.argsort()
    parts = []
    for rows in order.split(size):
        longest = int(lengths[rows].max())
        batch = tokens[rows, :longest]
        x = inner.token_embedding(batch) + inner.positional_embedding[:longest]
        x = inner.ln_final(inner.transformer(x, attn_mask=inner.attn_mask[:longest, :longest]))
        parts.append(x[torch.arange(len(x)), lengths[rows] - 1] @ inner.text_projection)
    return torch.cat(parts)[order.argsort()]
