"""Two runs over the same films: which units are the same, and what became of their names."""

from mammi.comparison.result import Comparison, Estimate, LayerComparison
from mammi.comparison.runs import compare

__all__ = ["Comparison", "Estimate", "LayerComparison", "compare"]
