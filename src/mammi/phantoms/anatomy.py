"""The healthy chest: body, lungs, heart and great vessels, bones, lung vessels, diaphragm and stomach."""

import numpy as np

from mammi.phantoms.scene import FloatArray, Line, Scene, cloud, ramp

__all__ = ["draw_anatomy"]


def _body(scene: Scene) -> FloatArray:
    """Return the density of the trunk, neck and shoulders."""
    heavy = scene.patient.habitus
    y = scene.y
    neck = 0.24 + 0.05 * heavy
    shoulder = np.clip((y + 0.98) / 0.36, 0, 1) ** 0.7
    waist = 0.86 + 0.2 * heavy - 0.05 * np.clip(y, 0, 1) * (1 - heavy)
    half = (neck + (1.04 + 0.1 * heavy - neck) * shoulder).astype(np.float32)
    trunk = np.where(y > -0.35, waist + (half - waist) * np.exp(-np.clip(y + 0.35, 0, 2) / 0.12), half)
    distance = trunk.astype(np.float32) - np.abs(scene.x - scene.midline)
    depth = np.clip(distance / 0.5, 0, 1) ** 0.6
    density: FloatArray = (depth * (0.86 + 0.14 * heavy) + 0.12 * np.clip(y, -0.4, 1) * depth).astype(np.float32)
    return density


def _lungs(scene: Scene) -> None:
    """Fill the lungs with air: deepest at mid height, a little uneven from side to side when the body is turned."""
    for side, lung in scene.lungs.items():
        across = (lung.u - lung.inner) / (lung.outer - lung.inner + np.float32(1e-3))
        deep = 1 - 0.45 * np.clip(np.abs(across - 0.45) * 1.7, 0, 1) ** 2
        height = 0.8 + 0.2 * np.clip((scene.y - lung.top) / 0.35, 0, 1)
        turned = 1 + 0.06 * lung.sign * scene.view.rotation
        scene.air += lung.shape * (deep * height * np.float32(turned * (1 + 0.16 * scene.emphysema)))
        lower = np.clip((scene.y - 0.1) / 0.3, 0, 1)
        if scene.patient.sex == "F":
            x, y = scene.offset(lung.sign * 0.42, 0.30)
            round_ = (x / (0.34 + 0.08 * scene.patient.habitus)) ** 2 + (y / 0.27) ** 2
            breast = np.sqrt(np.clip(1 - round_, 0, 1)) * np.float32(0.07 + 0.13 * scene.patient.habitus)
            scene.soft += breast.astype(np.float32)
        else:
            scene.soft += (0.03 * lower * (side == "right")).astype(np.float32)


def _heart(scene: Scene) -> None:
    """Draw the heart, the aortic knob, the pulmonary trunk and the superior vena cava; remember the heart's mask."""
    width = scene.notes["heart"]
    tilt = scene.patient.heart_tilt - 0.4 * scene.emphysema * 0.5
    bottom = scene.lungs["left"].bottom
    # A tilted ellipse of half-axes (a, b) is this wide: 2 sqrt(a2 cos2 + b2 sin2); b is 0.74 a.
    a = width / 2 / np.sqrt(np.cos(tilt) ** 2 + (0.74 * np.sin(tilt)) ** 2)
    b = 0.74 * a
    high = np.sqrt((a * np.sin(tilt)) ** 2 + (b * np.cos(tilt)) ** 2)
    centre = 0.17 * width + 0.03 * scene.view.rotation
    x, y = scene.offset(centre, bottom + 0.035 - 0.82 * high)
    x = x - scene.midline * 0.5
    along = (x * np.cos(tilt) + y * np.sin(tilt)) / a
    over = (-x * np.sin(tilt) + y * np.cos(tilt)) / b
    radius = np.sqrt(along**2 + over**2).astype(np.float32)
    scene.heart = ramp(1 - radius, 0.05)
    great = np.zeros_like(scene.heart)
    turn = 0.02 * scene.view.rotation
    parts = (
        (0.105 + turn, -0.33, scene.patient.knob, scene.patient.knob * 1.1),
        (0.115 + turn, -0.17, 0.085, 0.10),
        (-0.085 + turn, -0.22, 0.06, 0.25),
        (0.075 + turn, 0.0, 0.075, 0.4),
    )
    for cx, cy, rx, ry in parts:
        x, y = scene.offset(cx, cy)
        great = np.maximum(great, ramp(1 - np.sqrt((x / rx) ** 2 + (y / ry) ** 2).astype(np.float32), 0.16))
    behind = np.maximum(scene.heart * 0.86, great * 0.75)
    scene.air *= 1 - behind
    scene.soft += 0.10 * scene.heart * np.sqrt(np.clip(1.05 - radius, 0, 1)) + 0.06 * great
    # The windpipe and its two main branches: darker bands.
    shift = 0.01 + 0.02 * scene.view.rotation
    tree = scene.draw(
        [
            (((shift, -1.1), (shift, -0.6), (shift - 0.015, -0.27)), 0.085, 1.0),
            (((shift - 0.01, -0.29), (-0.13, -0.14)), 0.055, 0.8),
            (((shift - 0.01, -0.29), (0.15, -0.15)), 0.05, 0.7),
        ],
    )
    scene.soft -= 0.15 * tree


def _bones(scene: Scene) -> None:
    """Draw spine, ribs, clavicles, scapulae and humeral heads; ribs of one kind are one periodic field."""
    patient, view = scene.patient, scene.view
    strength = 0.115 * patient.bone
    y = scene.y
    # Spine: vertebral bodies, discs between them, spinous processes.
    u = np.abs(scene.x - scene.midline)
    level = (y / 0.115 + patient.rib_phase) % 1
    disc = np.exp(-(((level - 0.5) / 0.13) ** 2)).astype(np.float32)
    column = ramp(0.082 - u + 0.012 * disc, 0.012)
    scene.bone += column * (0.16 * patient.bone * (1 - 0.35 * disc)).astype(np.float32)
    edges = np.exp(-(((u - 0.045) / 0.012) ** 2)) * np.exp(-(((level - 0.05) / 0.10) ** 2))
    scene.bone += (0.07 * edges).astype(np.float32)
    spacing = patient.rib_spacing * (0.97 + 0.05 * view.inspiration)
    for lung in scene.lungs.values():
        wall = lung.outer + np.float32(0.028)
        cage = ramp(wall - lung.u, 0.012) * ramp(lung.u - np.float32(0.06), 0.02)
        # Below the diaphragm the rays that miss the lungs leave little contrast for ribs.
        fade = 0.3 + 0.7 * ramp(lung.floor + np.float32(0.02) - y, 0.06)
        cage *= ramp(y - np.float32(lung.top - 0.06), 0.03) * ramp(np.float32(0.66) - y, 0.14) * fade
        share = np.clip(lung.u / np.maximum(wall, 0.12), 0, 1)
        # Behind: out of the spine nearly level, then falling towards the wall. In front: steeply down to the middle.
        behind = (y - patient.rib_slope * (0.30 * share**3.2 - 0.05 * share)) / spacing + patient.rib_phase
        front = (
            (y - patient.rib_slope * (0.34 * (1 - share) ** 1.15 + 0.12)) / (spacing * 1.04) + patient.rib_phase + 0.35
        )
        for phase, width, weight in ((behind, 0.21, 1.0), (front, 0.25, 0.6)):
            off = np.abs(phase - np.floor(phase) - np.float32(0.5))
            inside = ramp(np.float32(width) - off, 0.05)
            rim = np.clip(1 - np.abs(off - np.float32(width - 0.03)) / np.float32(0.055), 0, 1)
            band = (inside * 0.62 + rim * 0.5) * cage
            if weight < 1:
                band *= ramp(share - np.float32(0.42), 0.12)
            scene.bone += (strength * weight) * band.astype(np.float32)
        _shoulder(scene, lung.sign)


def _shoulder(scene: Scene, sign: int) -> None:
    """Draw one clavicle, the edge of the scapula and the head of the humerus."""
    patient, view = scene.patient, scene.view
    high = patient.clavicle - (0.07 if view.projection == "AP" else 0.0) + 0.015 * sign * view.rotation
    u = sign * scene.x - 0.015 * sign * view.rotation
    share = np.clip((u - 0.07) / 0.68, 0, 1)
    line = high - 0.19 * share**0.9 + 0.05 * np.sin(np.pi * 1.9 * share)
    thick = 0.026 + 0.012 * (1 - share) ** 4 + 0.008 * share
    off = np.abs(scene.y - line) / thick
    bar = ramp(1.0 - off, 0.18) * 0.75 + np.clip(1 - np.abs(off - 0.82) / 0.25, 0, 1) * 0.3
    bar *= ramp(u - 0.065, 0.012) * ramp(0.76 - u, 0.02)
    scene.bone += (0.17 * patient.bone) * bar.astype(np.float32)
    wide = patient.chest + (0.0 if view.projection == "AP" else 0.07)
    x, y = scene.offset(sign * (wide + 0.24), -0.62)
    head = np.sqrt((x / 0.15) ** 2 + (y / 0.16) ** 2).astype(np.float32)
    scene.bone += (0.17 * patient.bone) * (ramp(1 - head, 0.07) * 0.8 + np.exp(-(((head - 0.95) / 0.07) ** 2)) * 0.25)
    # The blade: a broad faint triangle with a brighter inner edge.
    edge = wide - 0.13 + 0.22 * (scene.y + 0.25) ** 2 + 0.05 * (scene.y + 0.3)
    distance = sign * scene.x - edge
    blade = ramp(distance, 0.02) * ramp(scene.y + 0.68, 0.05) * ramp(-0.02 - scene.y, 0.1)
    scene.bone += (0.06 * patient.bone) * (blade * (1 + 0.8 * np.exp(-((distance / 0.02) ** 2)))).astype(np.float32)


def _vessels(scene: Scene) -> None:
    """Draw the lung vessels as two branching trees that leave the hila, thinner outwards, fuller at the bases."""
    rng = np.random.default_rng(scene.patient.seed)
    lines: list[Line] = []
    for side, lung in scene.lungs.items():
        hilum = (lung.sign * 0.155 + float(scene.midline[scene.size // 2, 0]), -0.06 if side == "right" else -0.10)
        for angle in np.linspace(-1.35, 1.45, 10) + rng.normal(0, 0.1, 10):
            grow = 0.20 + 0.09 * np.sin(angle) + rng.uniform(-0.03, 0.05)
            todo = [(hilum, angle, grow, 0.022 * rng.uniform(0.75, 1.25), 0)]
            while todo:
                (x, y), heading, length, width, order = todo.pop()
                bent = heading + rng.normal(0, 0.16)
                middle = (x + lung.sign * 0.5 * length * np.cos(heading), y + 0.5 * length * np.sin(heading))
                end = (middle[0] + lung.sign * 0.5 * length * np.cos(bent), middle[1] + 0.5 * length * np.sin(bent))
                lines.append(([(x, y), middle, end], width, float(np.clip(0.85 - 0.17 * order, 0.2, 1))))
                if order < 3:
                    fork = rng.uniform(0.2, 0.5, 2)
                    todo.append((end, bent - fork[0], length * rng.uniform(0.6, 0.85), width * 0.62, order + 1))
                    todo.append((end, bent + fork[1], length * rng.uniform(0.6, 0.85), width * 0.62, order + 1))
        for _ in range(5):
            x, y = hilum[0] + lung.sign * rng.uniform(-0.02, 0.05), hilum[1] + rng.uniform(-0.08, 0.12)
            lines.append(([(x, y), (x + lung.sign * 0.03, y + rng.uniform(-0.06, 0.08))], 0.05, 0.7))
    lines.sort(key=lambda line: line[1])
    scene.vessels = scene.draw(lines) * np.float32(0.26 * (1 - 0.45 * scene.emphysema))
    # A soft halo, as vessels out of the sharpest plane blur.
    scene.vessels += 0.035 * cloud(rng, 26, scene.size) * (1 - 0.5 * scene.emphysema)


def _abdomen(scene: Scene) -> None:
    """Draw the stomach's gas under the left dome and a little gas in the bowel."""
    rng = np.random.default_rng([scene.patient.seed, 1])
    below = scene.lungs["left"].bottom
    for _ in range(1 + int(rng.integers(3))):
        x, y = scene.offset(float(rng.uniform(0.22, 0.5)), below + 0.12 + float(rng.uniform(0.02, 0.14)))
        radius = np.sqrt((x / rng.uniform(0.07, 0.16)) ** 2 + (y / rng.uniform(0.04, 0.08)) ** 2).astype(np.float32)
        under = ramp(scene.y - scene.lungs["left"].floor - np.float32(0.03), 0.015)
        scene.soft -= np.float32(rng.uniform(0.12, 0.32)) * ramp(1 - radius, 0.2) * under


def draw_anatomy(scene: Scene) -> None:
    """Fill every layer of an empty scene with a healthy chest."""
    scene.soft += _body(scene)
    _lungs(scene)
    _heart(scene)
    _bones(scene)
    _vessels(scene)
    _abdomen(scene)
