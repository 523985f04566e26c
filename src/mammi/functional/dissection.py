"""How the places where a unit is strong overlap with the places where a concept is seen."""

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Areas"]


@dataclass(frozen=True)
class Areas:
    """Pixel counts over the films that have masks.

    Attributes:
        both: int64, shape ``(n_units, n_concepts)``: pixels where the unit is above its threshold and the concept is.
        units: int64, shape ``(n_units,)``: pixels where the unit is above its threshold.
        concepts: int64, shape ``(n_concepts,)``: pixels where the concept is; 0 for a concept without a mask.
    """

    both: Tensor
    units: Tensor
    concepts: Tensor
