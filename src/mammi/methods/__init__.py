"""One published recipe a file, composed from ``functional/``; a method sees arrays, never a model."""

from mammi.methods.base import METHODS, Match, Method, create_method, list_methods
from mammi.methods.mammi import Mammi

__all__ = ["METHODS", "Mammi", "Match", "Method", "create_method", "list_methods"]
