"""A planted shortcut: an arrow of lead that goes with a finding and means nothing by itself.

The arrow is put on the film and not on the body: with or without it, every other pixel is the same. So for each film
the effect of the arrow on a network is known exactly, and an audit can be judged against it.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from mammi.errors import InputError, UnknownNameError
from mammi.phantoms.catalogue import OUTPUTS
from mammi.phantoms.plan import SIDES, Arrow, View
from mammi.phantoms.scene import FloatArray

__all__ = ["ARROW", "Shortcut", "draw_arrow"]

#: What the mark is called among a film's masks and boxes and in the column ``marker``; it is no label.
ARROW = "arrow"
#: The arrow pointing upwards, corner by corner, in units of half its height.
_CORNERS = ((0.0, -1.0), (0.8, 0.0), (0.3, 0.0), (0.3, 1.0), (-0.3, 1.0), (-0.3, 0.0), (-0.8, 0.0))
_OVERSAMPLE = 4


@dataclass(frozen=True)
class Shortcut:
    """How often the arrow lies on a film.

    Equal rates make the arrow independent of everything; 1 and 1 put it on every film of the cohort, so that the same
    cohort without a shortcut gives pairs of films that differ in the arrow alone.

    Attributes:
        finding: one of ``catalogue.OUTPUTS``.
        with_finding: share of the films with the finding that carry the arrow, in [0, 1].
        without: share of the other films that carry it, in [0, 1].

    Raises:
        UnknownNameError: if there is no such finding.
        InputError: if a rate is out of range.
    """

    finding: str
    with_finding: float = 0.9
    without: float = 0.05

    def __post_init__(self) -> None:
        if self.finding not in OUTPUTS:
            raise UnknownNameError.among("Finding", self.finding, OUTPUTS, f"It is one of {', '.join(OUTPUTS)}.")
        for name in ("with_finding", "without"):
            rate = getattr(self, name)
            if not 0 <= rate <= 1:
                raise InputError(f"{name!r} of a shortcut must be in [0, 1], got {rate}")

    def arrow(self, rng: np.random.Generator, view: View, present: bool) -> Arrow | None:
        """Return the arrow of a film, or nothing; where it would lie depends on ``rng`` and the letter's side alone.

        Args:
            rng: the film's own, for the arrow only.
            view: tells the side of the letter of lead: the arrow lies in the other upper corner.
            present: whether the film shows the finding.
        """
        drawn = rng.random()
        letter = {"L": SIDES["left"], "R": SIDES["right"]}.get(view.marker)
        other = SIDES["left"] if rng.random() < 0.5 else SIDES["right"]
        side = other if letter is None else -letter
        arrow = Arrow(
            x=side * float(rng.uniform(0.76, 0.84)),
            y=float(rng.uniform(-0.86, -0.76)),
            scale=float(rng.uniform(0.065, 0.085)),
            turn=float(rng.normal(0, 8)),
        )
        return arrow if drawn < (self.with_finding if present else self.without) else None


def draw_arrow(arrow: Arrow, size: int) -> FloatArray:
    """Return the arrow's brightness, float32 in [0, 1], shape ``(size, size)``; 0 wherever it does not lie."""
    turn, half = np.deg2rad(arrow.turn), size * _OVERSAMPLE / 2
    cos, sin = float(np.cos(turn)) * arrow.scale, float(np.sin(turn)) * arrow.scale
    corners = [(arrow.x + cos * x - sin * y, arrow.y + sin * x + cos * y) for x, y in _CORNERS]
    picture = Image.new("L", (size * _OVERSAMPLE, size * _OVERSAMPLE))
    ImageDraw.Draw(picture).polygon([((x + 1) * half, (y + 1) * half) for x, y in corners], fill=255)
    return np.asarray(picture.reduce(_OVERSAMPLE), dtype=np.float32) / np.float32(255)
