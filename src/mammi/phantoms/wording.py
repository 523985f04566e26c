"""From a claim about a film to words: noun phrases, sentences that affirm it and sentences that deny it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mammi.phantoms.catalogue import SIDED, SYNONYMS
from mammi.phantoms.plan import Finding

__all__ = ["DENIALS", "GENERIC", "TOLD", "Claim", "affirm", "choose", "claims_of", "deny", "noun_phrase", "sayable"]


@dataclass(frozen=True)
class Claim:
    """One statement that is true or false of a film.

    Attributes:
        label: one of ``catalogue.OUTPUTS``.
        side: ``"left"``, ``"right"``, ``"both"`` or nothing where no side is stated.
        zone: ``"upper"``, ``"mid"``, ``"lower"`` or nothing where no place is stated.
        grade: ``"small"``, ``"moderate"``, ``"large"`` or nothing; wording only, never what makes it true.
    """

    label: str
    side: str = ""
    zone: str = ""
    grade: str = ""


_GRADES = {
    "small": ("small", "mild", "subtle", "minor"),
    "moderate": ("moderate", "medium-sized"),
    "large": ("large", "severe", "extensive", "marked"),
}
#: Labels that are not graded in words.
_UNGRADED = frozenset(
    {"pacemaker", "sternal wires", "chest tube", "endotracheal tube", "side marker", "mass", "nodule"}
)
_SIDE_WORDS = {"left": ("left",), "right": ("right",), "both": ("bilateral",)}
_PLACES = {
    "upper": ("upper zone", "upper lobe", "apex"),
    "mid": ("mid zone", "perihilar region"),
    "lower": ("lower zone", "lower lobe", "base"),
}
#: Nouns that take an article, and a plural when both sides show one.
_COUNTED = frozenset(
    {"effusion", "infiltrate", "mass", "tumour", "tumor", "nodule", "lesion", "pneumothorax", "line", "hernia"}
    | {"pacemaker", "generator", "tube", "drain", "marker", "letter", "heart", "silhouette", "plaque", "sternotomy"}
    | {"stomach"}
)
#: Plural nouns, for the verb.
_PLURALS = frozenset({"leads", "wires", "lungs", "diaphragms", "bronchograms", "effusions", "infiltrates", "plaques"})
_TAILS = ("", "", "", " {} seen", " {} present", " {} noted", " {} visible")
_OPENERS = (
    "There {1} {0}",
    "The film shows {0}",
    "Findings suggest {0}",
    "Appearances are those of {0}",
    "Again seen {1} {0}",
)

#: What else is said of a label that is present, beside its noun phrases. All words are our own.
TOLD: dict[str, tuple[str, ...]] = {
    "atelectasis": ("Thin level bands represent atelectasis", "Streaky collapse of a subsegment"),
    "cardiomegaly": (
        "The heart is enlarged",
        "The heart is too wide for the chest",
        "The cardiac silhouette is enlarged",
    ),
    "effusion": ("A costophrenic angle is blunted by pleural fluid", "Effusion with a meniscus at the chest wall"),
    "infiltration": ("Ill-defined haze in the lung, likely infiltrate", "Faint granular infiltration"),
    "mass": ("A large lump with a lobulated border, a mass", "Mass with an irregular margin"),
    "nodule": ("A small round spot, a nodule", "Nodule with a smooth margin"),
    "pneumonia": ("Patchy shadows with air bronchograms", "Mottled shadows, in keeping with pneumonia"),
    "pneumothorax": ("A fine visceral pleural line without lung markings beyond it", "Lung edge seen: pneumothorax"),
    "consolidation": ("Dense consolidation that ends at a fissure", "Homogeneous airspace consolidation"),
    "edema": ("Perihilar congestion in a butterfly pattern", "Septal lines and pulmonary edema"),
    "emphysema": ("The lungs are hyperinflated in emphysema", "Flattened diaphragms and large dark lungs"),
    "fibrosis": ("Coarse basal reticulation", "A net of lines at the bases from fibrosis"),
    "pleural thickening": ("The pleura is thickened along the chest wall", "Dense band of pleural thickening"),
    "hernia": (
        "Round retrocardiac shadow with a gas level, a hernia",
        "Part of the stomach lies behind the heart, a hernia",
    ),
    "pacemaker": ("Pacemaker with leads in the heart", "A pacemaker generator projects over the chest"),
    "sternal wires": ("Sternal wires are intact", "The patient has had a median sternotomy"),
    "chest tube": ("A chest tube is in place", "A pleural drain ends near the apex"),
    "endotracheal tube": ("The endotracheal tube ends above the carina", "The patient is intubated: endotracheal tube"),
    "side marker": ("A side marker lies at the edge of the film", "A film marker shows the side"),
}
#: What is said of a label that is absent.
DENIALS: dict[str, tuple[str, ...]] = {
    "cardiomegaly": ("Heart size is normal", "The heart is not enlarged", "Normal cardiac silhouette"),
    "effusion": ("Both costophrenic angles are sharp",),
    "pneumothorax": ("The lung edges reach the chest wall on both sides",),
    "edema": ("Pulmonary vessels are normal",),
    "emphysema": ("The diaphragms are normally curved",),
    "pleural thickening": ("The pleura is thin",),
    "sternal wires": ("The sternum is unremarkable",),
}
_NEGATORS = ("No {}", "No evidence of {}", "There is no {}", "Without {}", "{} is not seen", "Negative for {}")
#: Broader words and the labels they cover.
GENERIC: dict[str, tuple[str, ...]] = {
    "opacity": ("infiltration", "pneumonia", "consolidation", "mass", "edema", "atelectasis"),
    "opacities": ("infiltration", "pneumonia", "consolidation", "edema"),
    "shadow": ("infiltration", "pneumonia", "consolidation", "mass"),
    "lesion": ("mass", "nodule"),
    "lump": ("mass",),
    "spot": ("nodule",),
    "fluid": ("effusion",),
    "device": ("pacemaker", "sternal wires", "chest tube", "endotracheal tube"),
    "tube": ("chest tube", "endotracheal tube"),
    "metal": ("pacemaker", "sternal wires"),
    "pleural disease": ("effusion", "pleural thickening", "pneumothorax"),
    "infection": ("pneumonia", "consolidation", "infiltration"),
    "heart failure": ("cardiomegaly", "edema", "effusion"),
}


#: The same places before a noun.
_PLACED = {
    "upper": ("upper zone", "upper lobe", "apical"),
    "mid": ("mid zone", "perihilar"),
    "lower": ("lower zone", "lower lobe", "basal"),
}


def choose(rng: np.random.Generator, options: Sequence[str]) -> str:
    """Return one of ``options``."""
    return options[int(rng.integers(len(options)))]


def claims_of(finding: Finding) -> Claim:
    """Return all that is true of a drawn finding, as one claim."""
    side = "both" if len(finding.sides) == 2 else finding.sides[0] if finding.sides else ""
    return Claim(finding.name, side, finding.zone, finding.grade)


def noun_phrase(claim: Claim, rng: np.random.Generator, plain: bool = False) -> str:
    """Put a claim into a noun phrase without an article, such as ``"small left pleural effusion"``.

    Args:
        claim: what to say.
        rng: chooses among wordings.
        plain: use the label's own name rather than a synonym.
    """
    names = SYNONYMS[claim.label]
    term = names[0] if plain or rng.random() < 0.35 else choose(rng, names)
    if claim.side == "both" and term.split()[-1] in _COUNTED:
        term += "es" if term[-1] in "sx" else "s"
    words = []
    if claim.grade and claim.label not in _UNGRADED:
        words.append(choose(rng, _GRADES[claim.grade]))
    if claim.zone and rng.random() < 0.4:
        words += [choose(rng, _SIDE_WORDS[claim.side])] if claim.side else []
        return " ".join([*words, choose(rng, _PLACED[claim.zone]), term])
    if claim.zone:
        place = choose(rng, _PLACES[claim.zone])
        where = {"left": f"in the left {place}", "right": f"in the right {place}", "both": f"in each {place}"}
        return " ".join([*words, term, where.get(claim.side, f"in the {place}")])
    words += [choose(rng, _SIDE_WORDS[claim.side])] if claim.side else []
    return " ".join([*words, term])


def _head(phrase: str) -> str:
    """Return the noun that a phrase is about: the last word before ``in the ...``."""
    return phrase.split(" in ")[0].split()[-1]


def _with_article(phrase: str) -> str:
    """Put ``a`` or ``an`` before a phrase whose noun is counted and single."""
    if _head(phrase) not in _COUNTED:
        return phrase
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _sentence(text: str) -> str:
    """Return ``text`` with a capital and a full stop."""
    return text[0].upper() + text[1:] + "."


def affirm(claim: Claim, rng: np.random.Generator) -> str:
    """Put a claim into a sentence that says that it holds."""
    if not (claim.side or claim.zone or claim.grade) and rng.random() < 0.6:
        return _sentence(choose(rng, TOLD[claim.label]))
    phrase = noun_phrase(claim, rng)
    verb = "are" if _head(phrase) in _PLURALS else "is"
    if rng.random() < 0.4:
        return _sentence(choose(rng, _OPENERS).format(_with_article(phrase), verb))
    tail = choose(rng, _TAILS).format(verb)
    return _sentence(_with_article(phrase) + tail if tail else phrase)


def deny(labels: Sequence[str], rng: np.random.Generator) -> str:
    """Put the absence of one or more labels into a sentence."""
    if len(labels) == 1 and labels[0] in DENIALS and rng.random() < 0.4:
        return _sentence(choose(rng, DENIALS[labels[0]]))
    names = [choose(rng, SYNONYMS[label][:2]) for label in labels]
    if len(names) == 1:
        return _sentence(choose(rng, _NEGATORS).format(names[0]))
    return _sentence(f"No {', '.join(names[:-1])} or {names[-1]}")


def sayable(finding: Finding, rng: np.random.Generator, detail: float) -> Claim:
    """Return a true claim about ``finding`` that leaves each detail out with probability ``1 - detail``."""
    full = claims_of(finding)
    keep = rng.random(3) < detail
    side = full.side if keep[0] and finding.name in SIDED else ""
    return Claim(full.label, side, full.zone if keep[1] else "", full.grade if keep[2] else "")
