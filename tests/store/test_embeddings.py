"""Chunks of embeddings: whole, in order, named by what they hold."""

from mammi.store.embeddings import CHUNK, embedding_chunks


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
