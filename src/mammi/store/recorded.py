"""What recording leaves for the annotator: embeddings of all films of a block, or their views; gone when a run is complete."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mammi.store.embeddings import embedding_chunks
from mammi.store.files import read_array, write_array
from mammi.store.shards import ActivationStore

__all__ = ["RecordedFilms"]


@dataclass(frozen=True)
class RecordedFilms:
    """Files beside the blocks of activations, one a block, written before the block's record.

    Attributes:
        folder: the run folder.
    """

    folder: Path

    def _embeddings_path(self, block: int) -> Path:
        return self.folder / "recorded" / f"embeddings-{block:06d}.npy"

    def _views_path(self, block: int) -> Path:
        return self.folder / "recorded" / f"views-{block:06d}.npy"

    def write(
        self, block: int, embeddings: NDArray[np.float32] | None = None, views: NDArray[np.uint8] | None = None
    ) -> None:
        """Store what there is of a block.

        Args:
            block: its number.
            embeddings: rows of unit length, NaN for unreadable films, ``(n_films_of_block, d_embed)``.
            views: levels of the annotator's views, ``(n_films_of_block, height, width)``.
        """
        for path, array in ((self._embeddings_path(block), embeddings), (self._views_path(block), views)):
            if array is not None:
                write_array(path, array)

    def view(self, block: int, place: int) -> NDArray[np.uint8] | None:
        """Return the kept view of one film of a block; None if none was kept."""
        path = self._views_path(block)
        if not path.is_file():
            return None
        levels: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)[place]
        return np.array(levels)

    def deal(self, store: ActivationStore, rows: NDArray[np.int64], keys: Sequence[str], folder: Path) -> None:
        """Turn the blocks' embeddings into chunks of readable films, as `embedding_chunks` names them.

        A block whose file is gone leaves its chunks to be encoded.

        Args:
            store: the run's activations.
            rows: the readable films, rising.
            keys: one content hash per film of ``rows``.
            folder: where chunks lie.
        """
        at = -1
        rows_of_block: NDArray[np.float32] | None = None
        for chunk, path in embedding_chunks(folder, "films", keys):
            if path.is_file():
                continue
            parts = []
            for row in rows[list(chunk)].tolist():
                if row // store.block_size != at:
                    at = row // store.block_size
                    found = self._embeddings_path(at)
                    rows_of_block = read_array(found) if found.is_file() else None
                if rows_of_block is None:
                    break
                parts.append(rows_of_block[row - at * store.block_size])
            if len(parts) == len(chunk):
                write_array(path, np.stack(parts))

    def room(self) -> int:
        """Return how many bytes are free where the run lies, and what these files take already."""
        folder = self.folder / "recorded"
        taken = sum(path.stat().st_size for path in folder.glob("*.npy")) if folder.is_dir() else 0
        return shutil.disk_usage(self.folder).free + taken

    def clear(self) -> None:
        """Remove everything: what it was kept for is done."""
        shutil.rmtree(self.folder / "recorded", ignore_errors=True)
