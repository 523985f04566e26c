"""One published recipe a file, composed from ``functional/``; a method sees arrays, never a model."""

from mammi.methods.base import (
    METHODS,
    Evidence,
    LayerMethod,
    Match,
    Method,
    Verdict,
    create_method,
    list_methods,
    wants_control,
)
from mammi.methods.calibrated import Calibrated
from mammi.methods.clip_dissect import ClipDissect
from mammi.methods.correlation import Correlation
from mammi.methods.dissection import Dissection
from mammi.methods.falcon import Falcon
from mammi.methods.invert import Invert
from mammi.methods.layer_match import RANKING, LayerMatch
from mammi.methods.linear import Linear
from mammi.methods.mammi import Mammi
from mammi.methods.units import match_units, select_units
from mammi.methods.www import Www

__all__ = [
    "METHODS",
    "RANKING",
    "Calibrated",
    "ClipDissect",
    "Correlation",
    "Dissection",
    "Evidence",
    "Falcon",
    "Invert",
    "LayerMatch",
    "LayerMethod",
    "Linear",
    "Mammi",
    "Match",
    "Method",
    "Verdict",
    "Www",
    "create_method",
    "list_methods",
    "match_units",
    "select_units",
    "wants_control",
]
