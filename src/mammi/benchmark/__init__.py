"""Planted truth: units whose concept is known because we made them, and how every method names them."""

from mammi.benchmark.contest import Contestant, contestants, run_contest
from mammi.benchmark.material import Material, degraded, phantom_material
from mammi.benchmark.page import write_page
from mammi.benchmark.planting import KINDS, MEANINGLESS, Planted, plant

__all__ = [
    "KINDS",
    "MEANINGLESS",
    "Contestant",
    "Material",
    "Planted",
    "contestants",
    "degraded",
    "phantom_material",
    "plant",
    "run_contest",
    "write_page",
]
