"""Planted truth: units whose concept is known because we made them, and how every method names them."""

from mammi.benchmark.contest import Contestant, contestants, first_names, run_contest, says_absent
from mammi.benchmark.material import Material, degraded, held_out_truth, phantom_material
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
    "first_names",
    "held_out_truth",
    "phantom_material",
    "plant",
    "run_contest",
    "says_absent",
    "write_page",
]
