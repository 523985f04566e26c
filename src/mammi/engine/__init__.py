"""Who does the work; the only room that knows there is more than one process or thread."""

from mammi.engine.local import embed_films, embed_texts, record_blocks

__all__ = ["embed_films", "embed_texts", "record_blocks"]
