"""Where the embeddings of a run lie: chunks of films or texts, each under the hash of what it encodes."""

from collections.abc import Sequence
from pathlib import Path

from mammi.functional.fingerprint import fingerprint_value

__all__ = ["CHUNK", "embedding_chunks"]

#: Films or texts per chunk of stored embeddings: at most this much encoding is lost in a kill.
CHUNK = 64


def embedding_chunks(folder: Path, kind: str, keys: Sequence[str]) -> list[tuple[range, Path]]:
    """Return which items each chunk holds, and its file: ``.npy``, float32 ``(n, d_embed)``, rows of unit length.

    Args:
        folder: ``embeddings/`` of a run.
        kind: ``"films"`` or ``"texts"``.
        keys: content hash of every film, or every text, in the order in which they were encoded.
    """
    chunks = [range(start, min(start + CHUNK, len(keys))) for start in range(0, len(keys), CHUNK)]
    return [(chunk, folder / f"{kind}-{fingerprint_value([keys[i] for i in chunk])[:24]}.npy") for chunk in chunks]
