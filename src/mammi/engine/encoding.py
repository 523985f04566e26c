"""Encoding: films and texts go through the annotator once each, chunk by chunk, losing nothing."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mammi.data import ProbingSet
from mammi.engine.kept_views import ViewTable
from mammi.engine.work import Engine, Piece, Work
from mammi.store.embeddings import TEXTS, embedding_chunks, read_embeddings
from mammi.store.files import write_array
from mammi.store.recorded import RecordedFilms
from mammi.types import Progress
from mammi.vlms import Annotator

__all__ = ["KeptViews", "embed_films", "embed_texts"]


@dataclass(frozen=True)
class KeptViews:
    """Where the views lie that recording kept.

    Attributes:
        recorded: their files.
        block_size: films per file.
        table: how a view is kept.
    """

    recorded: RecordedFilms
    block_size: int
    table: ViewTable

    def view(self, row: int) -> Tensor | None:
        """Return the view of a film; None if it was not kept."""
        packed = self.recorded.view(*divmod(row, self.block_size))
        return None if packed is None else self.table.unpack(packed)


@dataclass(frozen=True)
class EncodeFilms:
    """The stage that embeds films.

    Attributes:
        vlm: the annotator.
        images: the probing set.
        batch_size: films per call of the model.
        kept: views that need no decoding.
    """

    vlm: Annotator
    images: ProbingSet
    batch_size: int
    kept: KeptViews | None = None

    @property
    def device(self) -> str:
        """Where the annotator runs."""
        return self.vlm.device

    def loader(self) -> "EncodeFilms":
        """Return the stage with its model on the CPU."""
        return replace(self, vlm=replace(self.vlm, device="cpu"))

    def load(self, row: int) -> Tensor:
        """Return the annotator's view of a film."""
        view = None if self.kept is None else self.kept.view(row)
        return self.vlm.view(self.images.film(row)) if view is None else view

    @contextmanager
    def opened(self) -> Iterator[Callable[[list[Tensor]], NDArray[np.float32]]]:
        """Have the model ready."""
        yield lambda views: self.vlm.embed_images(torch.stack(views)).numpy()

    def join(self, _: Piece, outputs: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return the rows of a chunk."""
        return np.concatenate(outputs)


@dataclass(frozen=True)
class EncodeTexts:
    """The stage that embeds texts; a chunk is one batch."""

    vlm: Annotator
    texts: Sequence[str]
    batch_size: int = TEXTS

    @property
    def device(self) -> str:
        """Where the annotator runs."""
        return self.vlm.device

    def loader(self) -> "EncodeTexts":
        """Return the stage with its model on the CPU."""
        return replace(self, vlm=replace(self.vlm, device="cpu"))

    def load(self, row: int) -> str:
        """Return a text."""
        return self.texts[row]

    @contextmanager
    def opened(self) -> Iterator[Callable[[list[str]], NDArray[np.float32]]]:
        """Have the model ready."""
        yield lambda texts: self.vlm.embed_texts(texts).numpy()

    def join(self, _: Piece, outputs: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return the rows of a chunk."""
        return np.concatenate(outputs)


def _in_chunks(
    work: Work, kind: str, rows: Sequence[int], keys: Sequence[str], folder: Path, engine: Engine, progress: Progress
) -> NDArray[np.float32]:
    """Encode what is not stored yet, each chunk under the hash of what it encodes; return all, ``(n, d_embed)``."""
    chunks = embedding_chunks(folder, kind, keys)
    missing = {number: path for number, (_, path) in enumerate(chunks) if not path.is_file()}
    done = len(keys) - sum(len(chunks[number][0]) for number in missing)

    def on_batch(n_rows: int) -> None:
        nonlocal done
        done += n_rows
        progress(f"encoding {kind}", done, len(keys))

    on_batch(0)
    pieces = [Piece(number, [rows[i] for i in chunks[number][0]]) for number in missing]
    results: Iterator[tuple[Piece, Any]] = engine.run(work, pieces, on_batch) if pieces else iter(())
    for piece, embedded in results:
        write_array(missing[piece.number], embedded)
    return read_embeddings(folder, kind, keys)


def embed_films(
    vlm: Annotator,
    images: ProbingSet,
    rows: Sequence[int],
    keys: Sequence[str],
    folder: Path,
    *,
    batch_size: int,
    engine: Engine,
    progress: Progress,
    kept: KeptViews | None = None,
) -> NDArray[np.float32]:
    """Encode films once each; chunks that are stored already are read back.

    Args:
        vlm: the vision-language model.
        images: the probing set.
        rows: which films, in this order.
        keys: one content hash per film of ``rows``.
        folder: where chunks are stored.
        batch_size: films per call of the model.
        engine: who does the work.
        progress: told of every batch.
        kept: views that recording kept.

    Returns:
        Shape ``(len(rows), d_embed)``, float32, rows of unit length.
    """
    return _in_chunks(EncodeFilms(vlm, images, batch_size, kept), "films", rows, keys, folder, engine, progress)


def embed_texts(
    vlm: Annotator, texts: Sequence[str], folder: Path, *, engine: Engine, progress: Progress
) -> NDArray[np.float32]:
    """Encode texts once each, as `embed_films` does films; shape ``(len(texts), d_embed)``, float32."""
    return _in_chunks(EncodeTexts(vlm, texts), "texts", range(len(texts)), texts, folder, engine, progress)
