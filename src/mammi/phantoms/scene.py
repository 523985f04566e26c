"""The film while it is being drawn: its coordinates, the lungs' outlines, and the layers that add up to a density."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mammi.phantoms.plan import SIDES, Patient, Plan, View

__all__ = ["FloatArray", "Line", "Lung", "Scene", "cloud", "lay_out", "ramp", "stroke"]

FloatArray = NDArray[np.float32]
#: Points, width and brightness of one line.
Line = tuple[Sequence[tuple[float, float]], float, float]
#: Lines are drawn this many times larger and averaged down, which smooths their edges.
_OVERSAMPLE = 2


def ramp(distance: FloatArray, width: float) -> FloatArray:
    """Return a soft step: 0 where ``distance < -width``, 1 where ``distance > width``, straight between."""
    step: FloatArray = np.clip(distance * np.float32(0.5 / width) + np.float32(0.5), 0, 1)
    return step


def cloud(rng: np.random.Generator, cells: int, size: int) -> FloatArray:
    """Return smooth noise of standard deviation near 1, shape ``(size, size)``, with about ``cells`` bumps a side."""
    grid = rng.standard_normal((cells + 3, cells + 3)).astype(np.float32)
    edge = 1.5
    picture = Image.fromarray(grid).resize(
        (size, size), Image.Resampling.BICUBIC, box=(edge, edge, cells + edge, cells + edge)
    )
    return np.asarray(picture, dtype=np.float32) * np.float32(1.25)


def stroke(size: int, lines: Sequence[Line]) -> FloatArray:
    """Draw lines, later ones over earlier ones.

    Args:
        size: pixels along a side.
        lines: ``(points, width, brightness)`` each: points in film coordinates [-1, 1], the width in the same unit, the
            brightness in [0, 1].

    Returns:
        float32 in [0, 1], shape ``(size, size)``.
    """
    large = size * _OVERSAMPLE
    picture = Image.new("L", (large, large))
    pen = ImageDraw.Draw(picture)
    half = large / 2
    for points, width, brightness in lines:
        pixels = [((x + 1) * half, (y + 1) * half) for x, y in points]
        pen.line(pixels, fill=round(255 * brightness), width=max(1, round(width * half)), joint="curve")
    return np.asarray(picture.reduce(_OVERSAMPLE), dtype=np.float32) / np.float32(255)


@dataclass
class Lung:
    """One lung's outline.

    Attributes:
        sign: -1 for the patient's right (the picture's left), 1 for the left.
        u: distance from the midline towards this lung, shape ``(size, size)``.
        inner: u of the mediastinal border by row, shape ``(size, 1)``.
        outer: u of the chest wall by row, shape ``(size, 1)``.
        floor: y of the diaphragm by column, shape ``(1, size)``.
        top: y of the apex.
        bottom: y of the highest point of the dome.
        shape: soft mask of the lung, shape ``(size, size)``, in [0, 1].
    """

    sign: int
    u: FloatArray
    inner: FloatArray
    outer: FloatArray
    floor: FloatArray
    top: float
    bottom: float
    shape: FloatArray


@dataclass
class Scene:
    """A film in the making.

    Attributes:
        size: pixels along a side.
        x: film coordinate by column, shape ``(1, size)``; the patient's left is positive.
        y: film coordinate by row, shape ``(size, 1)``; downwards.
        midline: x of the middle of the body by row, shape ``(size, 1)``.
        lungs: outline of the lung of each side.
        air: thickness of aerated lung, 1 where the chest is deepest, shape ``(size, size)``.
        soft: density of soft tissue and fluid, shape ``(size, size)``.
        bone: density of bone, shape ``(size, size)``.
        metal: density of devices, shape ``(size, size)``.
        vessels: density of lung vessels before the lung's mask, shape ``(size, size)``.
        heart: soft mask of the heart, shape ``(size, size)``.
    """

    size: int
    patient: Patient
    view: View
    x: FloatArray
    y: FloatArray
    midline: FloatArray
    lungs: dict[str, Lung]
    air: FloatArray
    soft: FloatArray
    bone: FloatArray
    metal: FloatArray
    vessels: FloatArray
    heart: FloatArray
    emphysema: float = 0.0
    notes: dict[str, float] = field(default_factory=dict)

    @property
    def pixel(self) -> float:
        """Width of one pixel in film coordinates."""
        return 2 / self.size

    def place(self, side: str, depth: float, across: float) -> tuple[float, float]:
        """Return (x, y) of a point of a lung: ``depth`` 0 apex to 1 dome, ``across`` 0 midline side to 1 chest wall."""
        lung = self.lungs[side]
        y = lung.top + depth * (lung.bottom - lung.top)
        row = int(np.clip(np.searchsorted(self.y[:, 0], y), 0, self.size - 1))
        inner, outer = float(lung.inner[row, 0]), float(lung.outer[row, 0])
        return float(self.midline[row, 0]) + lung.sign * (inner + across * (outer - inner)), y

    def draw(self, lines: Sequence[Line]) -> FloatArray:
        """Draw lines given in the body's coordinates; see ``stroke``."""
        (dx, dy), zoom = self.view.shift, self.view.zoom
        moved = [
            ([((px + dx) * zoom, (py + dy) * zoom) for px, py in line], w * zoom, light) for line, w, light in lines
        ]
        return stroke(self.size, moved)

    def offset(self, x: float, y: float) -> tuple[FloatArray, FloatArray]:
        """Return the distances of every column and row from a point, shapes ``(1, size)`` and ``(size, 1)``."""
        return self.x - np.float32(x), self.y - np.float32(y)


def _heart_width(plan: Plan) -> float:
    """Return the heart's width over the chest's as it appears on this film."""
    ratio = plan.patient.heart
    for finding in plan.findings:
        if finding.name == "cardiomegaly":
            ratio = 0.565 + 0.15 * finding.severity
        elif finding.name == "emphysema" and not plan.has("cardiomegaly"):
            ratio *= 0.88
    # A tube nearer to the heart and a poor breath both widen the shadow a little, as on real AP films.
    return ratio * (1.03 if plan.view.projection == "AP" else 1.0) * (1.02 - 0.02 * plan.view.inspiration)


def lay_out(plan: Plan, size: int) -> Scene:
    """Place the body on the film: coordinates and the lungs' outlines, with every layer still empty."""
    patient, view = plan.patient, plan.view
    emphysema = max((f.severity for f in plan.findings if f.name == "emphysema"), default=-1.0)
    inflated = 0.0 if emphysema < 0 else 0.5 + 0.5 * emphysema
    line = ((np.arange(size, dtype=np.float32) + 0.5) * np.float32(2 / size) - 1) / np.float32(view.zoom)
    x = (line - np.float32(view.shift[0]))[None, :]
    y = (line - np.float32(view.shift[1]))[:, None]
    bend = patient.scoliosis * np.cos(1.6 * y) + 0.012 * view.rotation
    midline = bend.astype(np.float32)
    chest = patient.chest * (1 + 0.03 * inflated)
    lungs = {}
    for side, sign in SIDES.items():
        # Turning the body widens the lung that comes nearer to the tube and narrows the other.
        half = chest * (1 - 0.05 * sign * view.rotation)
        top = patient.apex - 0.02 * inflated
        bottom = patient.dome - 0.14 * (1 - view.inspiration) + (patient.dome_gap if sign > 0 else 0) + 0.15 * inflated
        depth = np.clip((y - top) / (bottom + 0.25 - top), 0, 1)
        outer = half * (1 - (1 - depth) ** 3.1) ** 0.55 * (1 - 0.03 * depth**2)
        inner = 0.10 + 0.13 * np.exp(-depth / 0.05) + (0.012 if sign < 0 else 0.0) + 0.006 * np.sin(5 * y)
        u = (sign * (x - midline)).astype(np.float32)
        arch = np.clip((sign * x - 0.36) / (half - 0.3), -1.3, 1.3)
        floor = bottom + (0.2 - 0.155 * inflated) * np.abs(arch) ** 2.2 - 0.02 * inflated
        shape = (
            ramp(outer.astype(np.float32) - u, 0.012)
            * ramp(u - inner.astype(np.float32), 0.018)
            * ramp(floor.astype(np.float32) - y, 0.010)
            * ramp(y - np.float32(top), 0.02)
        )
        lungs[side] = Lung(
            sign, u, inner.astype(np.float32), outer.astype(np.float32), floor.astype(np.float32), top, bottom, shape
        )
    air, soft, bone, metal, vessels, heart = np.zeros((6, size, size), np.float32)
    scene = Scene(size, patient, view, x, y, midline, lungs, air, soft, bone, metal, vessels, heart, inflated)
    scene.notes["heart"] = _heart_width(plan) * 2 * chest
    return scene
