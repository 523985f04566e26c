"""Where the embeddings of a run lie: chunks of films or texts, each under the hash of what it encodes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mammi.functional.fingerprint import fingerprint_value
from mammi.store.files import read_array

__all__ = ["CHUNK", "TEXTS", "embedding_chunks", "read_embeddings"]

#: Films per chunk of stored embeddings: at most this much encoding is lost in a kill.
CHUNK = 64
#: Texts per chunk: enough of them that the annotator finds batches of one length among them.
TEXTS = 512


def embedding_chunks(folder: Path, kind: str, keys: Sequence[str]) -> list[tuple[Sequence[int], Path]]:
    """Return which items each chunk holds, and its file: ``.npy``, float32 ``(n, d_embed)``, rows of unit length.

    Films lie in the order of ``keys``. Texts lie shortest first: what is encoded together is of one length, and wastes
    no padding.

    Args:
        folder: ``embeddings/`` of a run.
        kind: ``"films"`` or ``"texts"``.
        keys: content hash of every film, or every text itself.

    Returns:
        Per chunk the places of its items in ``keys``, in the order of its rows, and its file.
    """
    order = sorted(range(len(keys)), key=lambda i: (len(keys[i]), i)) if kind == "texts" else range(len(keys))
    return _chunks(folder, kind, keys, order, TEXTS if kind == "texts" else CHUNK)


def read_embeddings(folder: Path, kind: str, keys: Sequence[str]) -> NDArray[np.float32]:
    """Read the embeddings of all items, ``(len(keys), d_embed)`` float32, in the order of ``keys``.

    Args:
        folder: ``embeddings/`` of a run.
        kind: ``"films"`` or ``"texts"``.
        keys: as in `embedding_chunks`.

    Raises:
        RunError: if a chunk is not there or cannot be read.
    """
    chunks = embedding_chunks(folder, kind, keys)
    if not all(path.is_file() for _, path in chunks):
        chunks = _chunks(
            folder, kind, keys, range(len(keys)), CHUNK
        )  # texts as version 0.1 laid them, in their own order
    if not chunks:
        return np.empty((0, 0), dtype=np.float32)
    found = np.empty((len(keys), read_array(chunks[0][1]).shape[1]), dtype=np.float32)
    for chunk, path in chunks:
        found[list(chunk)] = read_array(path)
    return found


def _chunks(
    folder: Path, kind: str, keys: Sequence[str], order: Sequence[int], size: int
) -> list[tuple[Sequence[int], Path]]:
    chunks = [order[start : start + size] for start in range(0, len(order), size)]
    return [(chunk, folder / f"{kind}-{fingerprint_value([keys[i] for i in chunk])[:24]}.npy") for chunk in chunks]
