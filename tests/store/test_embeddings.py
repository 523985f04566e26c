"""Chunks of embeddings: whole, in order, named by what they hold."""

import numpy as np
import pytest

from mammi.errors import RunError
from mammi.functional.fingerprint import fingerprint_value
from mammi.store.embeddings import CHUNK, TEXTS, embedding_chunks, read_embeddings
from mammi.store.files import write_array


def test_chunks(tmp_path):
    keys = [f"key {n}" for n in range(2 * CHUNK + 1)]
    chunks = embedding_chunks(tmp_path, "films", keys)
    assert [place for chunk, _ in chunks for place in chunk] == list(range(len(keys)))
    assert [len(chunk) for chunk, _ in chunks] == [CHUNK, CHUNK, 1]
    assert len({path for _, path in chunks}) == 3
    moved = embedding_chunks(tmp_path, "films", [*keys[:CHUNK], "another", *keys[CHUNK + 1 :]])
    assert [a[1] == b[1] for a, b in zip(chunks, moved, strict=True)] == [True, False, True]
    assert embedding_chunks(tmp_path, "texts", keys[:1])[0][1].name.startswith("texts-")
    assert embedding_chunks(tmp_path, "films", []) == []


def test_texts_lie_shortest_first_and_are_read_in_their_own_order(tmp_path):
    texts = [f"a film of {'x' * (n * 37 % 90)}" for n in range(TEXTS + 9)]
    chunks = embedding_chunks(tmp_path, "texts", texts)
    assert [len(chunk) for chunk, _ in chunks] == [TEXTS, 9]
    lengths = [len(texts[place]) for chunk, _ in chunks for place in chunk]
    assert lengths == sorted(lengths)
    rows = np.random.default_rng(0).random((len(texts), 3), dtype=np.float32)
    for chunk, path in chunks:
        write_array(path, rows[list(chunk)])
    np.testing.assert_array_equal(read_embeddings(tmp_path, "texts", texts), rows)
    chunks[1][1].unlink()
    with pytest.raises(RunError, match="cannot be read"):
        read_embeddings(tmp_path, "texts", texts)


def test_texts_that_lie_in_their_own_order_are_read_still(tmp_path):
    texts = [f"{'x' * (90 - n)}" for n in range(CHUNK + 9)]
    rows = np.random.default_rng(0).random((len(texts), 3), dtype=np.float32)
    for start in (0, CHUNK):
        name = fingerprint_value(texts[start : start + CHUNK])[:24]
        write_array(tmp_path / f"texts-{name}.npy", rows[start : start + CHUNK])
    np.testing.assert_array_equal(read_embeddings(tmp_path, "texts", texts), rows)
    assert read_embeddings(tmp_path, "films", []).shape == (0, 0)
