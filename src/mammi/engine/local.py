"""One process: record the target's layers block by block, encode films and texts chunk by chunk, losing nothing."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mammi.capture import LayerPlan, Recorder
from mammi.data import ProbingSet, pixel_fingerprint
from mammi.engine.prefetch import decoded_batches
from mammi.errors import ImageError
from mammi.store.embeddings import embedding_chunks
from mammi.store.files import read_array, write_array
from mammi.store.shards import ActivationStore
from mammi.targets import Target
from mammi.types import Progress
from mammi.vlms import Annotator

__all__ = ["embed_films", "embed_texts", "record_blocks"]

_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")


@dataclass(frozen=True)
class _View:
    """A film as the target sees it, or why it could not be read."""

    pixels: Tensor | None
    reason: str = ""
    fingerprint: str = ""
    warnings: tuple[str, ...] = ()


def record_blocks(
    target: Target,
    plans: Sequence[LayerPlan],
    images: ProbingSet,
    store: ActivationStore,
    *,
    batch_size: int,
    workers: int,
    progress: Progress,
) -> None:
    """Show the target every film of the blocks that are not stored yet.

    An unreadable film costs nothing but itself: its rows hold NaN and its block's record the reason.

    Args:
        target: the network under study.
        plans: the layers to record.
        images: the probing set.
        store: where blocks go; its finished blocks are left alone.
        batch_size: films per forward pass.
        workers: threads that decode.
        progress: told of every batch.
    """

    def load(row: int) -> _View:
        try:
            film = images.film(row)
            view = target.view(film)
        except ImageError as error:
            return _View(None, reason=str(error))
        # Warnings go into a table for everyone; the file's name, and what a library quotes of its header, do not.
        warnings = tuple(_QUOTED.sub("'…'", text.replace(images.paths[row].name, "the file")) for text in film.warnings)
        return _View(view, fingerprint=pixel_fingerprint(film), warnings=warnings)

    finished = store.done()
    seen = sum(len(store.rows(block)) for block in finished)
    progress("recording films", seen, len(images))
    with Recorder(target.model, plans) as recorder:
        for block in range(store.n_blocks):
            if block in finished:
                continue
            rows = store.rows(block)
            layers = {plan.name: np.full((len(rows), plan.n_units), np.nan, dtype=np.float32) for plan in plans}
            views: list[_View] = []
            for batch in decoded_batches(load, rows, batch_size, workers):
                readable = [place for place, view in enumerate(batch) if view.pixels is not None]
                if readable:
                    pixels = torch.stack([view.pixels for view in batch if view.pixels is not None])
                    for name, units in recorder.record(pixels.to(target.device)).items():
                        layers[name][[len(views) + place for place in readable]] = units.numpy()
                # The pictures are dropped at once: memory is bounded by two batches, not by the block.
                views += [_View(None, view.reason, view.fingerprint, view.warnings) for view in batch]
                seen += len(batch)
                progress("recording films", seen, len(images))
            record = {
                "unreadable": {str(rows[i]): view.reason for i, view in enumerate(views) if view.reason},
                "warnings": {str(rows[i]): list(view.warnings) for i, view in enumerate(views) if view.warnings},
                "pixels": [view.fingerprint for view in views],
            }
            store.write(block, layers, record)


def _chunked(
    folder: Path,
    kind: str,
    keys: Sequence[str],
    encode: Callable[[range], Tensor],
    progress: Progress,
) -> NDArray[np.float32]:
    """Encode items in chunks, each stored under the hash of what it encodes; return all, ``(n, d_embed)``."""
    done = 0
    rows: list[NDArray[np.float32]] = []
    for chunk, path in embedding_chunks(folder, kind, keys):
        if not path.is_file():
            write_array(path, encode(chunk).float().cpu().numpy())
        rows.append(read_array(path))
        done += len(chunk)
        progress(f"encoding {kind}", done, len(keys))
    return np.concatenate(rows) if rows else np.empty((0, 0), dtype=np.float32)


def embed_films(
    vlm: Annotator,
    images: ProbingSet,
    rows: Sequence[int],
    keys: Sequence[str],
    folder: Path,
    *,
    batch_size: int,
    workers: int,
    progress: Progress,
) -> NDArray[np.float32]:
    """Encode films once each; chunks that are stored already are read back.

    Args:
        vlm: the vision-language model.
        images: the probing set.
        rows: which films, in this order.
        keys: one content hash per film of ``rows``.
        folder: where chunks are stored.
        batch_size: films per call of the model.
        workers: threads that decode.
        progress: told of every chunk.

    Returns:
        Shape ``(len(rows), d_embed)``, float32, rows of unit length.
    """

    def encode(chunk: range) -> Tensor:
        wanted = [rows[i] for i in chunk]
        batches = decoded_batches(lambda row: vlm.view(images.film(row)), wanted, batch_size, workers)
        return torch.cat([vlm.embed_images(torch.stack(views)) for views in batches])

    return _chunked(folder, "films", keys, encode, progress)


def embed_texts(vlm: Annotator, texts: Sequence[str], folder: Path, *, progress: Progress) -> NDArray[np.float32]:
    """Encode texts once each, as `embed_films` does films; shape ``(len(texts), d_embed)``, float32."""
    return _chunked(folder, "texts", texts, lambda chunk: vlm.embed_texts([texts[i] for i in chunk]), progress)
