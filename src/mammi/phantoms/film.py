"""One drawn film: the layers become a density, the density a picture, and each finding a mask and a box."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mammi.phantoms.anatomy import draw_anatomy
from mammi.phantoms.catalogue import OUTPUTS
from mammi.phantoms.devices import DEVICES_DRAWN
from mammi.phantoms.findings import DRAWN
from mammi.phantoms.plan import Plan
from mammi.phantoms.scene import FloatArray, cloud, lay_out
from mammi.phantoms.shortcut import ARROW, draw_arrow

__all__ = ["SIZE", "PhantomFilm", "draw"]

#: Pixels along a side of a drawn film unless told otherwise.
SIZE = 256
_DRAWERS = {**DRAWN, **DEVICES_DRAWN}
#: Findings are drawn in this order, so that free air and fluid lie over what is in the lung.
_ORDER = [*OUTPUTS]
_ORDER.sort(key=["fibrosis", "emphysema"].__contains__, reverse=True)
_ORDER.sort(key=["pleural thickening", "effusion", "pneumothorax"].__contains__)
_VISIBLE = 0.35


@dataclass(frozen=True)
class PhantomFilm:
    """A drawn film and the truth about it.

    Attributes:
        plan: the patient, the acquisition and the findings.
        pixels: float32 in [0, 1], shape ``(size, size)``; bone and fluid bright, air dark.
        masks: where each label that is present lies, bool, shape ``(size, size)``; and, under ``"arrow"``, every pixel
            of a planted mark.
    """

    plan: Plan
    pixels: FloatArray
    masks: dict[str, NDArray[np.bool_]]

    @cached_property
    def labels(self) -> dict[str, int]:
        """1 or 0 for each of ``OUTPUTS``, in that order."""
        return {name: int(self.plan.has(name)) for name in OUTPUTS}

    @cached_property
    def boxes(self) -> dict[str, tuple[int, int, int, int]]:
        """The smallest box around each mask: left, top, right, bottom in pixels, right and bottom exclusive."""
        boxes = {}
        for name, mask in self.masks.items():
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            boxes[name] = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        return boxes

    def to_pil(self) -> Image.Image:
        """Return the film as an 8-bit ``L`` picture."""
        return Image.fromarray(np.round(self.pixels * 255).astype(np.uint8))


def _turn(layer: FloatArray, degrees: float) -> FloatArray:
    """Turn a layer about the film's centre, bilinear, empty (0) outside."""
    picture = Image.fromarray(layer).rotate(degrees, resample=Image.Resampling.BILINEAR)
    return np.asarray(picture, dtype=np.float32)


def _expose(density: FloatArray, plan: Plan, metal: FloatArray) -> FloatArray:
    """Turn density into grey levels: scatter, exposure, noise, borders."""
    view, size = plan.view, density.shape[0]
    rng = np.random.default_rng(view.seed)
    # Scattered rays veil the film, more so in heavy patients and at the bedside, where no grid is used.
    small = Image.fromarray(density).reduce(size // 16)
    veil = np.asarray(small.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32)
    share = np.float32(0.06 + 0.08 * view.portable + 0.05 * plan.patient.habitus)
    density = density + share * (veil - density)
    tilt_x, tilt_y = rng.normal(0, 0.02, 2)
    line = np.linspace(-1, 1, size, dtype=np.float32)
    density = density + np.float32(tilt_x) * line[None, :] + np.float32(tilt_y) * line[:, None]
    grey = (density - 0.10) * np.float32(0.78 * view.contrast) + np.float32(view.exposure + 0.02)
    # A film's curve: straight in the middle, a soft toe in the air and a soft shoulder in metal.
    grey = 0.5 + 0.5 * np.tanh((grey - 0.5) * np.float32(1.75)) / np.float32(np.tanh(0.875))
    grain = rng.standard_normal((size, size), dtype=np.float32) + 0.6 * cloud(rng, size // 3, size)
    grey = grey + grain * np.float32(view.noise) * (0.6 + 0.8 * grey)
    left, top, right, bottom = (round(border * size) for border in view.borders)
    inside = np.zeros((size, size), np.float32)
    inside[top : size - bottom, left : size - right] = 1
    grey = np.where(inside > 0, grey, 0.015)
    # Lead is put on the cassette: it shows also where the rest is dark.
    shown: FloatArray = np.clip(np.maximum(grey, np.clip(metal - 0.55, 0, 1) * 1.9), 0, 1).astype(np.float32)
    return shown


def draw(plan: Plan, size: int = SIZE) -> PhantomFilm:
    """Draw one film.

    Args:
        plan: what to draw; all of its randomness is in its seeds.
        size: pixels along a side, a multiple of 32.
    """
    scene = lay_out(plan, size)
    draw_anatomy(scene)
    soft_masks = {}
    for name in sorted((f.name for f in plan.findings), key=_ORDER.index):
        finding = next(f for f in plan.findings if f.name == name)
        soft_masks[name] = _DRAWERS[name](scene, finding, np.random.default_rng(finding.seed))
    lungs = sum(lung.shape for lung in scene.lungs.values())
    aerated = np.clip(scene.air, 0, 1.3)
    density = scene.soft - 0.66 * aerated + scene.vessels * np.minimum(aerated * 1.25, lungs) + scene.bone + scene.metal
    density = _turn(density, plan.view.tilt)
    letter = _turn(np.where(scene.metal > 0.9, scene.metal, 0).astype(np.float32), plan.view.tilt)
    pixels = _expose(density, plan, letter)
    masks = {name: _turn(mask, plan.view.tilt) > _VISIBLE for name, mask in soft_masks.items()}
    if plan.arrow:
        # On top of the finished film, so that no pixel beside it knows of it, not even through scatter.
        lead = draw_arrow(plan.arrow, size)
        pixels, masks[ARROW] = np.maximum(pixels, lead), lead > 0
    return PhantomFilm(plan, pixels, masks)
