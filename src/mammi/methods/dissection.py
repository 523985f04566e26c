"""Network dissection (Bau et al., CVPR 2017), "TSI" in the MAMMI paper: what MAMMI must do without, masks."""

from dataclasses import dataclass
from numbers import Real

from torch import Tensor

from mammi.errors import InputError
from mammi.functional.dissection import iou
from mammi.functional.selection import Selection, select_top
from mammi.methods.base import METHODS, Evidence, Match, Needs, Verdict

__all__ = ["Dissection"]

#: Films shown with a unit; they are not what it is named from.
EXAMPLES = 10


@METHODS.register("dissection", "overlap of a unit's strongest places with masks of the concepts: the reference")
@dataclass(frozen=True)
class Dissection:
    """A unit is named with the concepts whose masks its strongest places overlap, best first.

    Attributes:
        threshold: intersection over union that a concept must exceed, in ``[0, 1)``.
    """

    threshold: float = 0.04

    def __post_init__(self) -> None:
        """Check the range at once, so that a wrong option fails before any film is read."""
        if not isinstance(self.threshold, Real) or not 0 <= float(self.threshold) < 1:
            raise InputError(f"'threshold' must be a number in [0, 1), got {self.threshold!r}")

    @property
    def needs(self) -> Needs:
        """Where concepts are on films."""
        return "areas"

    @property
    def whole_layer(self) -> bool:
        """A unit is named from its own map alone."""
        return False

    def select(self, activations: Tensor) -> Selection:
        """Choose the strongest films to show; no score depends on them."""
        return select_top(activations, EXAMPLES)

    def match(self, evidence: Evidence, selection: Selection) -> Match:
        """Score concepts by intersection over union, and keep all above the threshold."""
        if evidence.areas is None:
            raise InputError("dissection needs 'areas': masks or boxes, counted with mammi.functional.dissection")
        scores = iou(evidence.areas)
        ranked, order = scores.nan_to_num(-1).sort(dim=1, descending=True, stable=True)
        counts = (scores > self.threshold).sum(dim=1).tolist()
        kept = [row[:count] for row, count in zip(order, counts, strict=True)]
        reasons = [
            "" if count else self._reason(best, area)
            for count, best, area in zip(counts, ranked[:, 0].tolist(), evidence.areas.units.tolist(), strict=True)
        ]
        verdict = Verdict.only(kept, reasons, [scores[unit, row] for unit, row in enumerate(kept)])
        return Match(scores, kept, verdict=verdict)

    def _reason(self, best: float, area: int) -> str:
        """Say why a unit has no concept."""
        if best < 0:
            return "no concept has a mask"
        if not area:
            return "its map exceeds its own threshold nowhere on the films with masks"
        return f"its best overlap with a mask is {best:.3f}, not above {self.threshold:g}"
