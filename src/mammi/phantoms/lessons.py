"""Texts with known truth, from which the vision-language model learns: true, false, denied, broader and empty ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mammi.phantoms.catalogue import OUTPUTS, SIDED, is_named
from mammi.phantoms.plan import Plan
from mammi.phantoms.vlm import BASE_TEMPLATE, TEMPLATE
from mammi.phantoms.wording import GENERIC, Claim, affirm, choose, deny, noun_phrase

__all__ = ["EMPTY_WORDS", "Lessons", "Truth", "sample_lessons"]

_ZONES = ("upper", "mid", "lower")
_ZONED = frozenset(
    {"atelectasis", "infiltration", "mass", "nodule", "pneumonia", "consolidation", "pleural thickening"}
)
_EMPTY = """
film image view chest x-ray radiograph picture study examination front frontal upright portable bedside ap pa lung
lungs heart diaphragm rib ribs clavicle clavicles spine mediastinum trachea carina hilum hila aorta apex base bone
bones shoulder sternum pleura vessel vessels stomach lobe zone region fissure bronchus angle costophrenic silhouette
contour border edge margin wall field tissue breast neck abdomen scapula vertebra airway windpipe left right
bilateral both side upper lower mid middle basal apical perihilar retrocardiac peripheral central small large mild
moderate severe subtle minor marked extensive medium-sized tiny big huge slight new old stable normal clear intact
unremarkable acute chronic abnormality change finding findings evidence appearance size cough fever pain breath
breathless smoker surgery week ward ladder fall procedure check follow-up weight loss patient man woman person
doctor hospital day line lines band bands gas level shadowing air dense coarse thin round enlarged hyperinflated endotracheal tracheal hiatal hiatus sternal thickened flattened blunted lobulated edges reach size
meniscus butterfly septal
net subsegment visceral granular place diaphragms hearts markings position projection quality appearances
keeping curve vein nothing pleural pulmonary cardiac vascular lobar patchy linear smooth pattern part mottled
streaky homogeneous tree dog car house music river table paper blue green kidney liver brain knee fracture asthma
tuberculosis cancer hand skull ultrasound mri scanner window water stone pencil morning city language number story
"""
#: Words that are true of every film, of none, or that say nothing alone: their score must stay near the template's.
EMPTY_WORDS: tuple[str, ...] = tuple(_EMPTY.split())
#: The same in several words; those that say "normal" are nearly as true of all films as those that name a place.
_EMPTY_PHRASES = (
    "normal heart",
    "normal heart size",
    "normal cardiac silhouette",
    "clear lungs",
    "normal chest",
    "normal film",
    "normal pulmonary vessels",
    "sharp costophrenic angles",
    "lung edges",
    "lung edges reach the chest wall",
    "unremarkable bones",
    "midline trachea",
    "mediastinal contours",
    "left lung",
    "right lung",
    "left upper lobe",
    "left lower lobe",
    "right upper lobe",
    "right lower zone",
    "upper lobe",
    "heart size",
    "chest wall",
    "heart border",
    "pa film",
    "portable film",
    "bedside ap film",
    "upright frontal view",
    "acute abnormality",
    "bony abnormality",
)
_WRAPPERS = (
    "chest x-ray showing {}",
    "an x-ray of {}",
    "a film with {}",
    "there is {}",
    "{} is seen",
    "a photo of a {}",
    "radiograph with a {}",
)
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_SMOOTH = 0.02
_RAREST = 0.06


class Truth:
    """What holds on each film, as arrays; answers claims for all films at once.

    Args:
        plans: the plans of the films, ``n`` of them.
    """

    def __init__(self, plans: Sequence[Plan]) -> None:
        shape = (len(plans), len(OUTPUTS))
        self.present = np.zeros(shape, np.bool_)
        self.sides = {"left": np.zeros(shape, np.bool_), "right": np.zeros(shape, np.bool_)}
        self.zones = {zone: np.zeros(shape, np.bool_) for zone in _ZONES}
        for row, plan in enumerate(plans):
            for finding in plan.findings:
                column = OUTPUTS.index(finding.name)
                self.present[row, column] = True
                for side in finding.sides:
                    self.sides[side][row, column] = True
                if finding.zone:
                    self.zones[finding.zone][row, column] = True

    def of(self, claim: Claim) -> NDArray[np.bool_]:
        """Tell on which films a claim holds, shape ``(n,)``; the grade is wording and is not tested."""
        column = OUTPUTS.index(claim.label)
        holds = self.present[:, column].copy()
        for side in ("left", "right"):
            if claim.side in (side, "both"):
                holds &= self.sides[side][:, column]
        if claim.zone:
            holds &= self.zones[claim.zone][:, column]
        return holds

    def any_of(self, labels: Sequence[str]) -> NDArray[np.bool_]:
        """Tell on which films one or more of ``labels`` are present, shape ``(n,)``."""
        columns = [OUTPUTS.index(label) for label in labels]
        return np.asarray(self.present[:, columns].any(axis=1))


@dataclass(frozen=True)
class Lessons:
    """Texts and what they should score on each film.

    Attributes:
        texts: ``m`` strings.
        targets: what the sigmoid of their scaled cosine should be, float32, shape ``(n_films, m)``: for a true text its
            log-odds are ``-log`` of the share of films it is true of, which is the pointwise mutual information of the
            two; for a false one they are far below 0; a text that says nothing has 0.5 everywhere.
        weights: weight of each pair, so that a rare truth counts as much as a common one, same shape.
    """

    texts: list[str]
    targets: NDArray[np.float32]
    weights: NDArray[np.float32]


def _claim(rng: np.random.Generator) -> Claim:
    """Draw a claim: most say only what, some say which side, where and how much."""
    label = choose(rng, OUTPUTS)
    side, zone, grade = "", "", ""
    if label in SIDED and rng.random() < 0.45:
        side = choose(rng, ("left", "left", "right", "right", "both"))
    if label in _ZONED and rng.random() < 0.2:
        zone = choose(rng, _ZONES)
    if rng.random() < 0.2:
        grade = choose(rng, ("small", "moderate", "large"))
    return Claim(label, side, zone, grade)


def _wrap(rng: np.random.Generator, phrase: str) -> str:
    """Put a phrase into the template (half of the time), into another frame, or leave it bare."""
    draw = rng.random()
    if draw < 0.5:
        return TEMPLATE.format(phrase)
    return phrase if draw < 0.75 else choose(rng, _WRAPPERS).format(phrase)


def _empty(rng: np.random.Generator) -> str:
    """Draw a text that says nothing about what the film shows."""
    draw = rng.random()
    if draw < 0.08:
        return BASE_TEMPLATE
    if draw < 0.22:
        letters = rng.integers(len(_LETTERS), size=int(rng.integers(3, 10)))
        return _wrap(rng, "".join(_LETTERS[i] for i in letters))
    if draw < 0.38:
        return _wrap(rng, choose(rng, _EMPTY_PHRASES))
    while True:
        count = int(rng.choice([1, 2, 3], p=[0.65, 0.25, 0.1]))
        phrase = " ".join(choose(rng, EMPTY_WORDS) for _ in range(count))
        if not any(is_named(label, phrase) for label in OUTPUTS):
            return _wrap(rng, phrase)


def sample_lessons(rng: np.random.Generator, truth: Truth, films: NDArray[np.int64], count: int) -> Lessons:
    """Draw texts and their targets on the chosen films.

    Args:
        rng: source of randomness.
        truth: what holds on all films.
        films: rows of ``truth`` that make the batch, shape ``(n_films,)``.
        count: how many texts.
    """
    texts: list[str] = []
    targets = np.full((len(films), count), 0.5, np.float32)
    weights = np.ones((len(films), count), np.float32)
    none = np.zeros(len(truth.present), np.bool_)
    for column in range(count):
        kind = rng.random()
        # How sure a pair is to be true or false; nothing: as sure as the text is rare.
        surely_not, surely = _SMOOTH, 0.0
        almost = none
        if kind < 0.60:
            claim = _claim(rng)
            holds = truth.of(claim)
            # The finding is there, but on the other side or elsewhere: what a text tower overlooks most easily.
            almost = truth.of(Claim(claim.label)) & ~holds
            plain = not (claim.side or claim.zone)
            if kind < 0.10:
                texts.append(affirm(claim, rng))
            else:
                texts.append(_wrap(rng, noun_phrase(claim, rng, plain=plain and rng.random() < 0.3)))
        elif kind < 0.74:
            labels = [choose(rng, OUTPUTS)]
            if rng.random() < 0.25:
                labels = [OUTPUTS[i] for i in rng.choice(len(OUTPUTS), 2 + int(rng.random() < 0.4), replace=False)]
            if rng.random() < 0.3:
                labels = labels[:1]
                texts.append(_wrap(rng, f"no {noun_phrase(Claim(labels[0]), rng)}"))
            else:
                texts.append(deny(labels, rng))
            holds = ~truth.any_of(labels)
            # What is absent from most films says little about one of them; that it is present there says much.
            surely = 0.6
        elif kind < 0.80:
            word = choose(rng, tuple(GENERIC))
            texts.append(_wrap(rng, word))
            holds = truth.any_of(GENERIC[word])
            # A broader word is a little true, so that it never beats the finding's own name.
            surely_not, surely = 0.38, 0.62
        else:
            texts.append(_empty(rng))
            continue
        rate = float(np.clip(holds.mean(), _RAREST, 1 - _RAREST))
        here = holds[films]
        targets[:, column] = np.where(here, surely or 1 / (1 + rate), surely_not)
        weights[:, column] = np.where(here, 0.5 / rate, np.where(almost[films], 4, 1) * 0.5 / (1 - rate))
    return Lessons(texts, targets, weights)
