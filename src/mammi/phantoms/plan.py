"""What a film will show, before a pixel is drawn: the patient, the acquisition and the findings, all frozen."""

from dataclasses import dataclass

import numpy as np

__all__ = ["SIDES", "Arrow", "Finding", "Patient", "Plan", "View", "sample_patient", "sample_view"]

#: Side names and the sign of their x on the picture: the patient's left is on the picture's right.
SIDES: dict[str, int] = {"right": -1, "left": 1}


@dataclass(frozen=True)
class Patient:
    """A person's anatomy, in canonical coordinates: x and y in [-1, 1] over the film, y downwards.

    Attributes:
        id: number of the patient in the cohort.
        age: years.
        sex: ``"F"`` or ``"M"``.
        habitus: 0 slim to 1 heavy.
        chest: half-width of the rib cage at its widest.
        apex: y of the top of the lungs.
        dome: y of the right diaphragm in full inspiration.
        dome_gap: how much lower the left diaphragm lies.
        heart: width of the heart over that of the chest, 0.38 to 0.48 when normal.
        heart_tilt: angle of the heart's long axis, radians.
        knob: radius of the aortic knob.
        rib_spacing: vertical distance between ribs.
        rib_phase: where the first rib lies, in spacings.
        rib_slope: how steeply the ribs run.
        clavicle: y of the inner ends of the clavicles.
        scoliosis: sideways bend of the spine at mid chest.
        bone: density of bone, 1 on average.
        seed: seeds the vessels and the texture of this person.
    """

    id: int
    age: int
    sex: str
    habitus: float
    chest: float
    apex: float
    dome: float
    dome_gap: float
    heart: float
    heart_tilt: float
    knob: float
    rib_spacing: float
    rib_phase: float
    rib_slope: float
    clavicle: float
    scoliosis: float
    bone: float
    seed: int


@dataclass(frozen=True)
class View:
    """How one film was taken.

    Attributes:
        projection: ``"PA"`` or ``"AP"``.
        portable: taken at the bedside (always AP).
        rotation: turn of the body about its long axis, -1 to 1, positive towards the patient's left.
        inspiration: 0 poor to 1 full.
        exposure: offset of the grey scale.
        contrast: slope of the grey scale, 1 on average.
        noise: standard deviation of the noise in the lungs, in grey levels of [0, 1].
        zoom: magnification of the body on the film.
        shift: offset (x, y) of the body on the film.
        tilt: turn of the body in the film's plane, degrees.
        borders: width of the unexposed border at left, top, right and bottom, as a share of the side.
        marker: ``"L"``, ``"R"`` or nothing.
        seed: seeds the noise of this film.
    """

    projection: str
    portable: bool
    rotation: float
    inspiration: float
    exposure: float
    contrast: float
    noise: float
    zoom: float
    shift: tuple[float, float]
    tilt: float
    borders: tuple[float, float, float, float]
    marker: str
    seed: int


@dataclass(frozen=True)
class Finding:
    """One drawn finding or device.

    Attributes:
        name: one of ``catalogue.OUTPUTS``.
        sides: the patient's sides it is drawn on; empty where a side makes no sense.
        severity: 0 just visible to 1 extreme.
        zone: ``"upper"``, ``"mid"``, ``"lower"`` or nothing where a place makes no sense.
        seed: seeds its own shape, so that the other findings of a film do not change it.
    """

    name: str
    sides: tuple[str, ...]
    severity: float
    zone: str
    seed: int

    @property
    def grade(self) -> str:
        """The severity in a word: ``"small"``, ``"moderate"`` or ``"large"``."""
        return "small" if self.severity < 0.35 else "moderate" if self.severity < 0.7 else "large"


@dataclass(frozen=True)
class Arrow:
    """A small arrow of lead on the cassette, upright but for a slight turn; see ``mammi.phantoms.shortcut``.

    Attributes:
        x: of its middle, film coordinates in [-1, 1], positive on the picture's right.
        y: of its middle, downwards.
        scale: half its height in the same unit.
        turn: degrees, clockwise.
    """

    x: float
    y: float
    scale: float
    turn: float


@dataclass(frozen=True)
class Plan:
    """Everything needed to draw one film."""

    index: int
    patient: Patient
    view: View
    findings: tuple[Finding, ...]
    arrow: Arrow | None = None

    def has(self, name: str) -> bool:
        """Tell whether the film shows ``name``."""
        return any(finding.name == name for finding in self.findings)


def sample_patient(rng: np.random.Generator, number: int) -> Patient:
    """Draw one person's anatomy at random."""
    sex = "F" if rng.random() < 0.5 else "M"
    return Patient(
        id=number,
        age=int(np.clip(rng.normal(56, 17), 18, 95)),
        sex=sex,
        habitus=float(rng.beta(1.6, 2.2)),
        chest=float(np.clip(rng.normal(0.73, 0.035), 0.64, 0.82)),
        apex=float(rng.normal(-0.74, 0.03)),
        dome=float(rng.normal(0.44, 0.04)),
        dome_gap=float(rng.uniform(0.01, 0.08)),
        heart=float(rng.uniform(0.38, 0.47)),
        heart_tilt=float(rng.uniform(0.35, 0.85)),
        knob=float(rng.uniform(0.06, 0.095)),
        rib_spacing=float(rng.uniform(0.135, 0.165)),
        rib_phase=float(rng.random()),
        rib_slope=float(rng.uniform(0.75, 1.25)),
        clavicle=float(rng.normal(-0.52, 0.035)),
        scoliosis=float(rng.normal(0, 0.02)),
        bone=float(rng.uniform(0.7, 1.3)),
        seed=int(rng.integers(2**31)),
    )


def sample_view(rng: np.random.Generator) -> View:
    """Draw one acquisition at random: two films in three are upright PA, the others AP, most of those portable."""
    frontal = rng.random() < 0.65
    portable = not frontal and rng.random() < 0.75
    loose = 1.5 if portable else 1.0
    collimated = rng.random(4) < (0.25 if portable else 0.15)
    return View(
        projection="PA" if frontal else "AP",
        portable=portable,
        rotation=float(np.clip(rng.normal(0, 0.3 * loose), -1, 1)),
        inspiration=float(np.clip(rng.normal(0.78 if frontal else 0.5, 0.17), 0, 1)),
        exposure=float(rng.normal(0, 0.035)),
        contrast=float(np.clip(rng.normal(1.0, 0.09), 0.75, 1.3)),
        noise=float(rng.uniform(0.006, 0.02) * loose),
        zoom=float(rng.normal(1.09 if frontal else 1.14, 0.035)),
        shift=(float(rng.normal(0, 0.025 * loose)), float(rng.normal(0.05, 0.03 * loose))),
        tilt=float(rng.normal(0, 1.2 * loose)),
        borders=tuple(np.where(collimated, rng.uniform(0.01, 0.05, 4), 0.0).tolist()),
        marker=str(rng.choice(["L", "R"])) if rng.random() < 0.5 else "",
        seed=int(rng.integers(2**31)),
    )
