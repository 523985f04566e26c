"""Who does the work; the only room that knows there is more than one process or thread."""

from mammi.engine.create import create_engine
from mammi.engine.encoding import KeptViews, embed_films, embed_texts
from mammi.engine.kept_views import ViewTable
from mammi.engine.local import LocalEngine, n_cores
from mammi.engine.maps import declared_preprocessing, measure_areas
from mammi.engine.precision import Precisions, check_asked, choose_precisions
from mammi.engine.processes import ProcessEngine
from mammi.engine.recording import record_blocks
from mammi.engine.work import Engine, Piece, Work

__all__ = [
    "Engine",
    "KeptViews",
    "LocalEngine",
    "Piece",
    "Precisions",
    "ProcessEngine",
    "ViewTable",
    "Work",
    "check_asked",
    "choose_precisions",
    "create_engine",
    "declared_preprocessing",
    "embed_films",
    "embed_texts",
    "measure_areas",
    "n_cores",
    "record_blocks",
]
