"""One published recipe a file, composed from ``functional/``; a method sees arrays, never a model."""

from mammi.methods.base import METHODS, Evidence, Match, Method, Verdict, create_method, list_methods
from mammi.methods.invert import Invert
from mammi.methods.linear import Linear
from mammi.methods.mammi import Mammi
from mammi.methods.units import match_units, select_units

__all__ = [
    "METHODS",
    "Evidence",
    "Invert",
    "Linear",
    "Mammi",
    "Match",
    "Method",
    "Verdict",
    "create_method",
    "list_methods",
    "match_units",
    "select_units",
]
