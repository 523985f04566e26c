"""The findings, each drawn in its own way: one function takes the scene, changes its layers and returns a soft mask."""

from collections.abc import Callable

import numpy as np

from mammi.phantoms.plan import Finding
from mammi.phantoms.scene import FloatArray, Scene, cloud, ramp

__all__ = ["DRAWN", "Drawer"]

#: Draws one finding into the scene and returns where, float32 in [0, 1], shape ``(size, size)``.
Drawer = Callable[[Scene, Finding, np.random.Generator], FloatArray]

_DEPTHS = {"upper": (0.18, 0.40), "mid": (0.42, 0.66), "lower": (0.68, 0.92)}


def _spot(scene: Scene, finding: Finding, side: str, rng: np.random.Generator) -> tuple[float, float]:
    """Return a random (x, y) inside the finding's zone of one lung."""
    low, high = _DEPTHS[finding.zone or "mid"]
    return scene.place(side, float(rng.uniform(low, high)), float(rng.uniform(0.3, 0.72)))


def _fill(scene: Scene, shape: FloatArray, density: float) -> None:
    """Replace air by something as dense as ``density`` times the air that was there."""
    scene.air *= 1 - np.clip(shape * np.float32(density), 0, 0.97)


def _no_mask(scene: Scene) -> FloatArray:
    return np.zeros((scene.size, scene.size), np.float32)


def atelectasis(scene: Scene, finding: Finding, rng: np.random.Generator) -> FloatArray:
    """Plate-like atelectasis: one to three thin, nearly level bands."""
    mask = _no_mask(scene)
    for side in finding.sides:
        lung = scene.lungs[side]
        cx, cy = _spot(scene, finding, side, rng)
        slope = rng.uniform(-0.35, 0.35)
        for number in range(1 + int(finding.severity * 2.6)):
            x, y = scene.offset(cx + rng.uniform(-0.05, 0.05), cy - 0.075 * number)
            along = x * np.cos(slope) + y * np.sin(slope)
            over = y * np.cos(slope) - x * np.sin(slope) + 0.15 * rng.uniform(-1, 1) * along**2
            half = 0.16 + 0.10 * finding.severity * rng.uniform(0.7, 1.2)
            thick = 0.017 + 0.009 * finding.severity
            plate = np.exp(-((over / thick) ** 2)) * np.clip((half - np.abs(along)) / 0.07, 0, 1)
            mask = np.maximum(mask, plate.astype(np.float32) * lung.shape)
    _fill(scene, mask, 0.72 + 0.18 * finding.severity)
    scene.soft += 0.05 * mask
    return mask


def cardiomegaly(scene: Scene, finding: Finding, rng: np.random.Generator) -> FloatArray:
    """An enlarged heart: its width is set when the body is laid out; here only its place is told."""
    return scene.heart


def effusion(scene: Scene, finding: Finding, rng: np.random.Generator) -> FloatArray:
    """Fluid that fills the base up to a meniscus, highest at the chest wall."""
    mask = _no_mask(scene)
    for side in finding.sides:
        lung = scene.lungs[side]
        share = np.clip((lung.u - lung.inner) / (lung.outer - lung.inner + np.float32(1e-3)), 0, 1)
        level = lung.bottom + 0.13 - 0.20 * (finding.severity**1.2) * 2.6 * rng.uniform(0.9, 1.1)
        rise = (0.13 + 0.10 * finding.severity) * share**4 + 0.025 * (1 - share) ** 6
        fluid = ramp(scene.y - (np.float32(level) - rise).astype(np.float32), 0.022) * lung.shape
        mask = np.maximum(mask, fluid)
    _fill(scene, mask, 0.93)
    scene.soft += 0.05 * mask
    return mask


def infiltration(scene: Scene, finding: Finding, rng: np.random.Generator) -> FloatArray:
    """A faint, hazy, finely granular veil without edges."""
    mask = _no_mask(scene)
    grain = cloud(rng, 52, scene.size)
    broad = cloud(rng, 7, scene.size)
    for side in finding.sides:
        cx, cy = _spot(scene, finding, side, rng)
        x, y = scene.offset(cx, cy)
        wide = 0.19 + 0.10 * finding.severity
        veil = np.exp(-((x / wide) ** 2) - (y / (wide * rng.uniform(0.9, 1.3))) ** 2).astype(np.float32)
        mask = np.maximum(mask, veil * np.clip(0.8 + 0.22 * broad, 0.3, 1.2) * scene.lungs[side].shape)
    _fill(scene, mask * np.clip(1 + 0.50 * grain, 0, 2), 0.40 + 0.20 * finding.severity)
    return np.asarray(np.clip(mask * np.float32(1.4), 0, 1))


def _lump(scene: Scene, cx: float, cy: float, radius: float, lobes: float, rng: np.random.Generator) -> FloatArray:
    """Return a roundish shape with a lobulated edge."""
    x, y = scene.offset(cx, cy)
    angle = np.arctan2(y, x)
    phases = rng.uniform(0, 2 * np.pi, 3)
    edge = 1 + lobes * sum(np.sin((k + 2) * angle + phases[k]) / (k + 1.5) for k in range(3))
    return ramp((radius * edge - np.sqrt(x * x + y * y)).astype(np.float32), 0.012)


def mass(scene: Scene, finding: Finding, rng: np.random.Generator) -> FloatArray:
    """A large, dense lump with a lobulated or spiculated edge."""
    mask = _no_mask(scene)
    for side in finding.sides:
        cx, cy = _spot(scene, finding, side, rng)
        radius = 0.095 + 0.075 * finding.severity
        lump = _lump(scene, cx, cy, radius, 0.09, rng)
        if rng.random() < 0.5:
            spikes = []
            for angle in rng.uniform(0, 2 * np.pi, 14):
                reach = radius * rng.uniform(1.15, 1.5)
                spikes.append((((cx, cy), (cx + reach * np.cos(angle), cy + reach * np.sin(angle))), 0.012, 0.55))
            lump = np.maximum(lump, scene.draw(spikes))
        mask = np.maximum(mask, lump * np.clip(scene.lungs[side].shape * 1.5, 0, 1))
    _fill(scene, mask, 0.85)
    scene.soft += 0.10 * mask
    return mask


def nodule(scene: Scene, finding: Finding, rng: np.random.Generator) -> FloatArray:
    """One to three small, round, sharp spots."""
    mask = _no_mask(scene)
    for side in finding.sides:
        for _ in range(1 + int(finding.severity > 0.5) + int(finding.severity > 0.85)):
            cx, cy = _spot(scene, finding, side, rng)
            lump = _lump(scene, cx, cy, 0.036 + 0.018 * rng.random() + 0.01 * finding.severity, 0.03, rng)
            mask = np.maximum(mask, lump * np.clip(scene.lungs[side].shape * 1.5, 0, 1))
    _fill(scene, mask, 0.75)
    scene.soft += 0.16 * mask
    return mask


def pneumonia(scene: Scene, finding: Finding, rng: np.random.Generator) -> FloatArray:
    """Patchy, mottled, confluent spots with dark branching air bronchograms between them."""
    mask = _no_mask(scene)
    mottle = cloud(rng, 24, scene.size)
    branches = []
    for side in finding.sides:
        lung = scene.lungs[side]
        cx, cy = _spot(scene, finding, side, rng)
        patch = _no_mask(scene)
        reach = 0.10 + 0.06 * finding.severity
        for _ in range(5 + int(4 * finding.severity)):
            x, y = scene.offset(cx + rng.normal(0, reach * 0.7), cy + rng.normal(0, reach * 0.9))
            size = rng.uniform(0.055, 0.10)
            patch = np.maximum(patch, np.exp(-(x * x + y * y) / size**2).astype(np.float32))
        patch += 0.20 * mottle * np.clip(4 * patch, 0, 1)
        mask = np.maximum(mask, ramp(patch - np.float32(0.46), 0.22) * lung.shape)
        for _ in range(4):
            heading = rng.uniform(-0.9, 0.9)
            start = (cx - lung.sign * reach, cy + rng.normal(0, 0.03))
            knee = (start[0] + lung.sign * reach * np.cos(heading), start[1] + reach * np.sin(heading))
            tip = (knee[0] + lung.sign * reach * 0.8, knee[1] + reach * rng.uniform(-0.6, 0.6))
            branches.append(((start, knee, tip), 0.017, 1.0))
    _fill(scene, mask * (1 - 0.65 * scene.draw(branches)), 0.68 + 0.15 * finding.severity)
    return mask


def pneumothorax(scene: Scene, finding: Finding, rng: np.random.Generator) -> FloatArray:
    """Air outside the lung: a black zone without vessels at apex and side, bounded by a fine white pleural line."""
    mask = _no_mask(scene)
    for side in finding.sides:
        lung = scene.lungs[side]
        deep = 0.10 + 0.22 * finding.severity
        fall = np.clip((scene.y - lung.top) / (lung.bottom - lung.top), 0, 1)
        inset = deep * (1.05 - (0.85 - 0.5 * finding.severity) * fall) * rng.uniform(0.9, 1.1)
        cap = lung.top + 0.9 * deep
        # Distance into the collapsed lung: negative in the free air.
        inward = np.minimum(lung.outer - inset - lung.u, (scene.y - cap) * 0.8).astype(np.float32)
        free = ramp(-inward, 0.008) * lung.shape
        line = np.exp(-(((inward - 0.006) / 0.009) ** 2)).astype(np.float32) * lung.shape
        scene.vessels *= 1 - free
        scene.air *= 1 + 0.30 * free - 0.10 * (lung.shape - free) * np.float32(finding.severity)
        scene.air *= 1 - 0.55 * line
        mask = np.maximum(mask, free)
    return mask


def consolidation(scene: Scene, finding: Finding, rng: np.random.Generator) -> FloatArray:
    """A dense, even lobe that ends at a straight, sharp fissure."""
    mask = _no_mask(scene)
    for side in finding.sides:
        lung = scene.lungs[side]
        tall = lung.bottom - lung.top
        tilt = rng.uniform(-0.22, 0.10)
        _, edge = scene.place(side, {"upper": 0.42, "mid": 0.46, "lower": 0.60}[finding.zone or "upper"], 0.5)
        edge += rng.uniform(-0.03, 0.03)
        fissure = (scene.y - edge - tilt * (lung.u - 0.35)).astype(np.float32)
        reach = tall * (0.26 + 0.10 * finding.severity)
        away = -fissure if finding.zone == "upper" else fissure
        lobe = ramp(away, 0.009) * ramp(np.float32(reach) - away, 0.05) * lung.shape
        mask = np.maximum(mask, lobe)
    _fill(scene, mask, 0.78 + 0.12 * finding.severity)
    return mask


def edema(scene: Scene, finding: Finding, rng: np.random.Generator) -> FloatArray:
    """Fluffy bat-wing haze around both hila, wide vessels, and short level lines at the outer bases."""
    mask = _no_mask(scene)
    fluff = cloud(rng, 17, scene.size)
    lines = []
    for side, lung in scene.lungs.items():
        x, y = scene.offset(lung.sign * 0.30, 0.0)
        wing = np.exp(-((x / (0.17 + 0.06 * finding.severity)) ** 2) - (y / (0.26 + 0.06 * finding.severity)) ** 2)
        mask = np.maximum(mask, wing.astype(np.float32) * lung.shape)
        for number in range(6):
            ex, ey = scene.place(side, 0.72 + 0.045 * number, 0.985)
            lines.append((((ex, ey), (ex - lung.sign * 0.075, ey + 0.006)), 0.010, 0.8))
    both = scene.lungs["left"].shape + scene.lungs["right"].shape
    scene.vessels *= 1 + 0.6 * finding.severity * mask
    _fill(scene, mask * np.clip(1 + 0.28 * fluff, 0.3, 1.6), 0.50 + 0.28 * finding.severity)
    _fill(scene, scene.draw(lines) * both, 0.35)
    return np.asarray(np.clip(mask * np.float32(1.2), 0, 1))


def emphysema(scene: Scene, finding: Finding, rng: np.random.Generator) -> FloatArray:
    """Large black lungs (their outline is set when the body is laid out) with thin-walled bullae when severe."""
    both = scene.lungs["left"].shape + scene.lungs["right"].shape
    if finding.severity > 0.4:
        for side in scene.lungs:
            for _ in range(2 + int(3 * finding.severity)):
                cx, cy = scene.place(side, float(rng.uniform(0.1, 0.45)), float(rng.uniform(0.25, 0.8)))
                x, y = scene.offset(cx, cy)
                radius = np.sqrt(x * x + y * y) / rng.uniform(0.04, 0.085)
                wall = np.exp(-(((radius - 1) / 0.13) ** 2)).astype(np.float32)
                scene.air *= (
                    1 + (0.14 * ramp((1 - radius).astype(np.float32), 0.1) - 0.20 * wall) * scene.lungs[side].shape
                )
    return both


def fibrosis(scene: Scene, finding: Finding, rng: np.random.Generator) -> FloatArray:
    """A coarse net of lines at both bases, with small cysts where it is dense."""
    mask = _no_mask(scene)
    net = np.zeros_like(mask)
    for cells in (30, 38):
        net = np.maximum(net, np.clip(1 - np.abs(cloud(rng, cells, scene.size)) / np.float32(0.42), 0, 1))
    for lung in scene.lungs.values():
        fall = (scene.y - lung.top) / (lung.bottom - lung.top)
        start = 0.56 - 0.22 * finding.severity
        share = np.clip((lung.u - lung.inner) / (lung.outer - lung.inner + np.float32(1e-3)), 0, 1)
        region = ramp((fall - start + 0.10 * (share - 0.5)).astype(np.float32), 0.10) * lung.shape
        mask = np.maximum(mask, region)
    _fill(scene, mask * net, 0.38 + 0.24 * finding.severity)
    _fill(scene, mask, 0.08)
    return mask


def pleural_thickening(scene: Scene, finding: Finding, rng: np.random.Generator) -> FloatArray:
    """A dense band along the chest wall, or a cap over the apex, with a wavy inner edge."""
    mask = _no_mask(scene)
    wave = cloud(rng, 9, scene.size)
    for side in finding.sides:
        lung = scene.lungs[side]
        fall = ((scene.y - lung.top) / (lung.bottom - lung.top)).astype(np.float32)
        thick = (0.055 + 0.035 * finding.severity) * (1 + 0.25 * wave)
        if finding.zone == "upper":
            crest = np.minimum(scene.y - np.float32(lung.top), (lung.outer - lung.u) * 0.9)
            band = ramp(thick * 1.25 - crest, 0.012) * ramp(0.30 - fall, 0.06)
        else:
            low, high = (0.28, 0.72) if finding.zone == "mid" else (0.45, 0.95)
            band = ramp(thick - (lung.outer - lung.u), 0.012) * ramp(fall - low, 0.06) * ramp(high - fall, 0.06)
        mask = np.maximum(mask, band * lung.shape)
    _fill(scene, mask, 0.88)
    scene.soft += 0.14 * mask
    return mask


def hernia(scene: Scene, finding: Finding, rng: np.random.Generator) -> FloatArray:
    """A round shadow behind the heart: a bright wall, gas above a level line, fluid below it."""
    radius = 0.13 + 0.06 * finding.severity
    cx = rng.uniform(-0.02, 0.12)
    cy = scene.lungs["left"].bottom - radius * rng.uniform(0.55, 0.85)
    x, y = scene.offset(cx, cy)
    far = np.sqrt(x * x + (y * 1.08) ** 2).astype(np.float32)
    ball = ramp(np.float32(radius) - far, 0.012)
    wall = np.exp(-(((far - np.float32(radius - 0.008)) / 0.014) ** 2)).astype(np.float32)
    gas = ball * ramp(-y - np.float32(0.02), 0.008)
    scene.air *= 1 - 0.85 * ball
    scene.soft += (
        0.07 * wall
        + 0.08 * ball
        - (0.40 + 0.1 * finding.severity) * gas * ramp(np.float32(radius - 0.025) - far, 0.012)
    )
    return ball


#: The drawer of each finding.
DRAWN: dict[str, Drawer] = {
    "atelectasis": atelectasis,
    "cardiomegaly": cardiomegaly,
    "effusion": effusion,
    "infiltration": infiltration,
    "mass": mass,
    "nodule": nodule,
    "pneumonia": pneumonia,
    "pneumothorax": pneumothorax,
    "consolidation": consolidation,
    "edema": edema,
    "emphysema": emphysema,
    "fibrosis": fibrosis,
    "pleural thickening": pleural_thickening,
    "hernia": hernia,
}
