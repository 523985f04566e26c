"""Which collections of films are one, or part of another, so that an annotator that saw the target's data is known.

An annotator that was trained on the films (or the reports of the films) that the target learned from shares its
shortcuts and its label noise: that the two agree is then no independent witness.
"""

import re
from collections.abc import Iterable

__all__ = ["canonical", "common_corpora"]

#: A collection's names, the usual one first; read without case, blanks and punctuation, anywhere in what is stated.
_NAMES: tuple[tuple[str, ...], ...] = (
    ("NIH ChestX-ray14", "chestxray14", "chestxray8", "cxr14", "nihchestxray", "nihcxr"),
    ("MIMIC-CXR", "mimiccxr"),
    ("CheXpert",),
    ("PadChest",),
    ("VinDr-CXR", "vindrcxr", "vinbigdata"),
    ("RSNA Pneumonia", "rsnapneumonia"),
    ("SIIM-ACR Pneumothorax", "siimacr", "siimptx"),
    ("ChestX-Det", "chestxdet"),
    ("Open-I", "openi", "indianachest", "iuxray"),
    ("BIMCV", "bimcvcovid19"),
    ("ROCO",),
    ("Google / NIH relabelled", "googlenih"),
)
#: Whose films were taken from whose: a model that saw the one saw part of the other.
_PART_OF = {
    "RSNA Pneumonia": "NIH ChestX-ray14",
    "SIIM-ACR Pneumothorax": "NIH ChestX-ray14",
    "ChestX-Det": "NIH ChestX-ray14",
    "Google / NIH relabelled": "NIH ChestX-ray14",
}


def canonical(stated: str) -> str:
    """Return the usual name of a collection, or what was stated if it is not known here.

    >>> canonical("NIH chestx-ray 14"), canonical("MIMIC CXR v2"), canonical("our own films")
    ('NIH ChestX-ray14', 'MIMIC-CXR', 'our own films')
    """
    bare = re.sub(r"[^a-z0-9]", "", stated.lower())
    for name, *others in _NAMES:
        if any(re.sub(r"[^a-z0-9]", "", known.lower()) in bare for known in (name, *others)):
            return name
    return " ".join(stated.split())


def common_corpora(annotator: Iterable[str], target: Iterable[str]) -> tuple[str, ...]:
    """Return what an annotator and a target were both trained on, each in words; empty if nothing known is common.

    Args:
        annotator: collections the annotator was trained on, as stated.
        target: likewise of the target.

    >>> common_corpora(["MIMIC-CXR", "RSNA Pneumonia"], ["NIH ChestX-ray14"])
    ('RSNA Pneumonia (films of NIH ChestX-ray14)',)
    """
    theirs = {canonical(name) for name in target}
    whole = theirs | {_PART_OF[name] for name in theirs if name in _PART_OF}
    found = []
    for name in dict.fromkeys(map(canonical, annotator)):
        if name in theirs:
            found.append(name)
        elif (parent := _PART_OF.get(name, name)) in whole:
            found.append(f"{name} (films of {parent})" if parent != name else f"{name} (the target's are part of it)")
    return tuple(found)
