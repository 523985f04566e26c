"""Devices and the letter of lead: bright, sharp, man-made shapes; each function returns a soft mask like a finding's."""

from itertools import pairwise

import numpy as np

from mammi.phantoms.findings import Drawer
from mammi.phantoms.plan import SIDES, Finding
from mammi.phantoms.scene import FloatArray, Line, Scene, ramp, stroke

__all__ = ["DEVICES_DRAWN"]


def pacemaker(scene: Scene, finding: Finding, rng: np.random.Generator) -> FloatArray:
    """A generator below one clavicle and one or two leads through the great veins into the heart."""
    sign = SIDES[finding.sides[0]]
    cx, cy = sign * rng.uniform(0.44, 0.54), rng.uniform(-0.42, -0.33)
    x, y = scene.offset(cx, cy)
    half = 0.085 + 0.02 * finding.severity
    corner = 0.045
    outside = np.hypot(np.clip(np.abs(x) - half + corner, 0, None), np.clip(np.abs(y) - half * 0.85 + corner, 0, None))
    case = ramp((corner - outside).astype(np.float32), 0.010)
    vein, bottom = -0.09, scene.lungs["left"].bottom
    leads: list[Line] = []
    for number in range(1 + int(finding.severity > 0.4)):
        tip = (0.20 + rng.uniform(-0.03, 0.05), bottom - 0.08) if number == 0 else (-0.06, bottom - 0.28)
        path = [(cx - sign * half, cy - 0.05), (sign * 0.25, -0.50 - 0.02 * number), (sign * 0.02 + vein * 0.5, -0.44)]
        path += [(vein, -0.30), (vein - 0.02, bottom - 0.30), (vein + 0.05, bottom - 0.14), tip]
        leads.append((_smooth(path), 0.014, 1.0))
        leads.append(((tip, (tip[0] + 0.02, tip[1] + 0.008)), 0.024, 1.0))
    wire = scene.draw(leads)
    scene.metal += 0.75 * case * (1 - 0.2 * ramp(np.float32(0.035) - np.hypot(x, y + 0.02).astype(np.float32), 0.01))
    scene.metal += 0.42 * wire
    return np.maximum(case, wire)


def sternal_wires(scene: Scene, finding: Finding, rng: np.random.Generator) -> FloatArray:
    """Five to seven small wire loops one above the other over the sternum."""
    lines: list[Line] = []
    middle = 0.01 + 0.05 * scene.view.rotation
    count = 5 + int(finding.severity * 2.9)
    for y in np.linspace(-0.42, 0.12 + 0.08 * finding.severity, count):
        cx, cy = middle + rng.normal(0, 0.008), float(y) + rng.normal(0, 0.008)
        turn = np.linspace(0, 2 * np.pi, 12)
        lean = rng.normal(0, 0.15)
        loop = [(cx + 0.036 * np.cos(t), cy + 0.017 * np.sin(t) + 0.036 * lean * np.cos(t)) for t in turn]
        lines.append((loop, 0.011, 1.0))
        lines.append((((cx, cy + 0.01), (cx + 0.012, cy + 0.03)), 0.012, 1.0))
    wires = scene.draw(lines)
    scene.metal += 0.6 * wires
    return wires


def _smooth(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Round a path's corners by cutting them twice (Chaikin)."""
    for _ in range(2):
        cut = [points[0]]
        for (ax, ay), (bx, by) in pairwise(points):
            cut += [(0.75 * ax + 0.25 * bx, 0.75 * ay + 0.25 * by), (0.25 * ax + 0.75 * bx, 0.25 * ay + 0.75 * by)]
        points = [*cut, points[-1]]
    return points


def chest_tube(scene: Scene, finding: Finding, rng: np.random.Generator) -> FloatArray:
    """A wide drain that enters between the lower ribs and runs up to the apex: pale walls and a bright stripe."""
    side = finding.sides[0]
    lung = scene.lungs[side]
    depth = rng.uniform(0.66, 0.86)
    entry = scene.place(side, depth, 1.02)
    outside = (lung.sign * 1.05, entry[1] + rng.uniform(0.02, 0.15))
    bend = scene.place(side, depth - 0.12, rng.uniform(0.60, 0.80))
    middle = scene.place(side, 0.42, rng.uniform(0.45, 0.75))
    tip = scene.place(side, rng.uniform(0.16, 0.26), rng.uniform(0.35, 0.6))
    path = _smooth([outside, entry, bend, middle, tip])
    wide = 0.040
    tube = scene.draw([(path, wide, 0.55), (path, wide * 0.62, 0.25), (path, 0.012, 1.0)])
    hole = path[-4]
    scene.metal += 0.40 * tube
    x, y = scene.offset(*hole)
    scene.metal -= 0.2 * np.exp(-(x * x + y * y) / 0.012**2).astype(np.float32)
    return np.clip(tube * 2, 0, 1)


def endotracheal_tube(scene: Scene, finding: Finding, rng: np.random.Generator) -> FloatArray:
    """A tube down the windpipe with a bright stripe; it ends above the fork of the windpipe."""
    middle = 0.01 + 0.02 * scene.view.rotation + rng.normal(0, 0.006)
    path = [(middle + 0.02, -1.2), (middle + 0.005, -0.75), (middle, -0.42 + 0.07 * finding.severity)]
    left = [(x - 0.018, y) for x, y in path]
    right = [(x + 0.018, y) for x, y in path]
    tube = scene.draw([(path, 0.046, 0.35), (left, 0.011, 0.75), (right, 0.011, 1.0)])
    scene.metal += 0.50 * tube
    return np.clip(tube * 3, 0, 1)


def side_marker(scene: Scene, finding: Finding, rng: np.random.Generator) -> FloatArray:
    """A letter of lead, L or R, in the upper or lower corner of its side, placed on the film and not on the body."""
    side = finding.sides[0]
    scale = 0.045 + 0.02 * finding.severity
    cx, cy = SIDES[side] * rng.uniform(0.78, 0.86), -0.82 if rng.random() < 0.8 else 0.80
    tilt = rng.normal(0, 0.08)
    if side == "left":
        shapes = [[(-0.6, -1.0), (-0.6, 1.0), (0.7, 1.0)]]
    else:
        turn = np.linspace(-np.pi / 2, np.pi / 2, 8)
        bow = [(0.1 + 0.6 * float(np.cos(t)), -0.45 + 0.55 * float(np.sin(t))) for t in turn]
        shapes = [[(-0.6, 1.0), (-0.6, -1.0), *bow, (-0.6, 0.1)], [(0.0, 0.1), (0.7, 1.0)]]
    lines: list[Line] = [
        ([(cx + scale * (px - tilt * py), cy + scale * (py + tilt * px)) for px, py in shape], scale * 0.42, 1.0)
        for shape in shapes
    ]
    letter = stroke(scene.size, lines)
    scene.metal += 1.1 * letter
    return letter


#: The drawer of each device.
DEVICES_DRAWN: dict[str, Drawer] = {
    "pacemaker": pacemaker,
    "sternal wires": sternal_wires,
    "chest tube": chest_tube,
    "endotracheal tube": endotracheal_tube,
    "side marker": side_marker,
}
