"""Who does the work; the only room that knows there is more than one process or thread."""

from mammi.engine.local import embed_films, embed_texts, record_blocks
from mammi.engine.maps import declared_preprocessing, measure_areas

__all__ = ["declared_preprocessing", "embed_films", "embed_texts", "measure_areas", "record_blocks"]
