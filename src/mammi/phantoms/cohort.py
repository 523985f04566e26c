"""Many films of many patients: seeded, so that the same seed is the same bytes and any film can be drawn alone."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mammi.errors import InputError
from mammi.phantoms.catalogue import FINDINGS, SIDED
from mammi.phantoms.film import SIZE, PhantomFilm, draw
from mammi.phantoms.plan import Finding, Patient, Plan, View, sample_patient, sample_view
from mammi.phantoms.shortcut import Shortcut

__all__ = ["Cohort", "draw_some"]

#: Films come in blocks of four, shared among patients in one of these ways; so film i is found without the others.
_BLOCKS = ((1, 1, 1, 1), (2, 1, 1), (1, 2, 1), (2, 2), (1, 3), (4,))
#: How often a finding is chosen, relative to the others.
_COMMON = {
    "effusion": 1.5,
    "atelectasis": 1.3,
    "infiltration": 1.3,
    "cardiomegaly": 1.2,
    "nodule": 1.2,
    "emphysema": 0.8,
    "fibrosis": 0.85,
    "hernia": 0.7,
    "mass": 0.9,
}
#: Findings that stay from one film of a patient to the next.
_LASTING = ("cardiomegaly", "emphysema", "fibrosis", "pleural thickening", "hernia")
_DEVICE_RATES = {"pacemaker": 0.09, "sternal wires": 0.10, "chest tube": 0.09, "endotracheal tube": 0.09}
_PAIRED = {"effusion": 0.3, "atelectasis": 0.15, "infiltration": 0.25, "pneumonia": 0.2, "pleural thickening": 0.2}
_ZONES = {
    "atelectasis": (0.0, 0.35, 0.65),
    "infiltration": (0.4, 0.4, 0.2),
    "mass": (0.4, 0.35, 0.25),
    "nodule": (0.35, 0.4, 0.25),
    "pneumonia": (0.2, 0.35, 0.45),
    "consolidation": (0.45, 0.25, 0.3),
    "pleural thickening": (0.4, 0.25, 0.35),
}


def _finding(rng: np.random.Generator, name: str) -> Finding:
    """Draw side, severity, zone and seed of one finding."""
    sides: tuple[str, ...] = ()
    if name in SIDED:
        sides = ("left",) if rng.random() < (0.85 if name == "pacemaker" else 0.5) else ("right",)
        if rng.random() < _PAIRED.get(name, 0.0):
            sides = ("left", "right")
    zone = str(rng.choice(["upper", "mid", "lower"], p=_ZONES[name])) if name in _ZONES else ""
    return Finding(name, sides, float(rng.beta(1.3, 1.4)), zone, int(rng.integers(2**31)))


def _pick(rng: np.random.Generator, names: list[str], count: int) -> list[str]:
    """Choose ``count`` different names, common ones more often; a hernia and a big heart hide each other too often."""
    weights = np.array([_COMMON.get(name, 1.0) for name in names])
    return [names[i] for i in rng.choice(len(names), size=count, replace=False, p=weights / weights.sum())]


@dataclass(frozen=True)
class Cohort:
    """A numbered set of drawn films.

    Attributes:
        n_films: how many films.
        seed: everything random follows from it; two cohorts of other seeds share no patient.
        size: pixels along a side of a film.
        shortcut: how often an arrow of lead goes with a finding; nothing else of a film depends on it.

    Example:
        >>> cohort = Cohort(n_films=8, seed=1)
        >>> cohort.film(3).pixels.shape, len(cohort)
        ((256, 256), 8)
    """

    n_films: int
    seed: int = 0
    size: int = SIZE
    shortcut: Shortcut | None = None

    def __post_init__(self) -> None:
        if self.n_films < 1:
            raise InputError(f"'n_films' must be at least 1, got {self.n_films}")
        if self.seed < 0:
            raise InputError(f"'seed' must not be negative, got {self.seed}")
        if self.size < 64 or self.size % 32:
            raise InputError(f"'size' must be a multiple of 32 of at least 64, got {self.size}")

    def __len__(self) -> int:
        return self.n_films

    def __iter__(self) -> Iterator[PhantomFilm]:
        return (self.film(index) for index in range(self.n_films))

    def _patient_of(self, index: int) -> int:
        """Return the number of the patient on film ``index``."""
        block, place = divmod(index, 4)
        rng = np.random.default_rng([self.seed, 0, block])
        counts = _BLOCKS[int(rng.integers(len(_BLOCKS)))]
        return 4 * block + int(np.searchsorted(np.cumsum(counts), place, side="right"))

    def _patient(self, number: int) -> tuple[Patient, dict[str, Finding]]:
        """Return a patient and what stays with the patient from film to film."""
        rng = np.random.default_rng([self.seed, 1, number])
        patient = sample_patient(rng, number)
        lasting = {name: _finding(rng, name) for name in _LASTING if rng.random() < 0.07}
        for name in ("pacemaker", "sternal wires"):
            if rng.random() < _DEVICE_RATES[name]:
                lasting[name] = _finding(rng, name)
        return patient, lasting

    def plan(self, index: int) -> Plan:
        """Return what film ``index`` shows, without drawing it."""
        if not 0 <= index < self.n_films:
            raise InputError(f"film {index} does not exist: the cohort has films 0 to {self.n_films - 1}")
        patient, lasting = self._patient(self._patient_of(index))
        rng = np.random.default_rng([self.seed, 2, index])
        view: View = sample_view(rng)
        found = dict(lasting)
        wanted = int(rng.choice(5, p=[0.27, 0.33, 0.23, 0.12, 0.05]))
        already = sum(name in FINDINGS for name in found)
        others = [name for name in FINDINGS if name not in found]
        for name in _pick(rng, others, max(0, wanted - already)):
            found[name] = _finding(rng, name)
        for name in ("chest tube", "endotracheal tube"):
            if rng.random() < _DEVICE_RATES[name]:
                found[name] = _finding(rng, name)
        if view.marker:
            side = ("left",) if view.marker == "L" else ("right",)
            found["side marker"] = Finding("side marker", side, float(rng.random()), "", int(rng.integers(2**31)))
        arrow = None
        if self.shortcut:
            # A generator of its own: films are otherwise the same with and without a shortcut.
            own = np.random.default_rng([self.seed, 3, index])
            arrow = self.shortcut.arrow(own, view, self.shortcut.finding in found)
        return Plan(index, patient, view, tuple(found.values()), arrow)

    def film(self, index: int) -> PhantomFilm:
        """Draw film ``index``."""
        return draw(self.plan(index), self.size)


def draw_some(n_films: int, seed: int, first: int, count: int) -> list[PhantomFilm]:
    """Draw ``count`` films of a cohort from film ``first`` on, or as many as there are.

    For processes of their own: what draws films needs no torch, so that such a process starts at once.
    """
    cohort = Cohort(n_films, seed)
    return [cohort.film(index) for index in range(first, min(first + count, n_films))]
