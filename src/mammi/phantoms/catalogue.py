"""What can be drawn: the findings, the devices, and the words that stand for each of them."""

__all__ = ["DEVICES", "FINDINGS", "LUNG_FINDINGS", "OUTPUTS", "SIDED", "SYNONYMS", "is_named"]

#: The fourteen findings, in the order of the public NIH label list (Wang et al., CVPR 2017, table 1).
FINDINGS: tuple[str, ...] = (
    "atelectasis",
    "cardiomegaly",
    "effusion",
    "infiltration",
    "mass",
    "nodule",
    "pneumonia",
    "pneumothorax",
    "consolidation",
    "edema",
    "emphysema",
    "fibrosis",
    "pleural thickening",
    "hernia",
)
#: Devices, and the letter of lead that says which side is which.
DEVICES: tuple[str, ...] = ("pacemaker", "sternal wires", "chest tube", "endotracheal tube", "side marker")
#: Every label of a film, in the order of label tables and of the target's outputs.
OUTPUTS: tuple[str, ...] = FINDINGS + DEVICES
#: Labels whose side is drawn, known and may be reported.
SIDED: frozenset[str] = frozenset(
    {
        "atelectasis",
        "effusion",
        "infiltration",
        "mass",
        "nodule",
        "pneumonia",
        "pneumothorax",
        "consolidation",
        "pleural thickening",
        "pacemaker",
        "chest tube",
    }
)
#: Findings that make "the lungs are clear" untrue.
LUNG_FINDINGS: frozenset[str] = frozenset(
    {
        "atelectasis",
        "infiltration",
        "mass",
        "nodule",
        "pneumonia",
        "consolidation",
        "edema",
        "emphysema",
        "fibrosis",
    }
)
#: Names and synonyms of each label, the plainest first; all lower-case noun phrases without an article.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "atelectasis": ("atelectasis", "plate-like atelectasis", "linear atelectasis", "collapse", "subsegmental collapse"),
    "cardiomegaly": ("cardiomegaly", "enlarged heart", "cardiac enlargement", "enlarged cardiac silhouette"),
    "effusion": ("effusion", "pleural effusion", "pleural fluid"),
    "infiltration": ("infiltration", "infiltrate", "hazy infiltrate", "ground-glass haze", "haze"),
    "mass": ("mass", "lung mass", "tumour", "tumor"),
    "nodule": ("nodule", "pulmonary nodule", "lung nodule", "coin lesion"),
    "pneumonia": ("pneumonia", "bronchopneumonia", "patchy pneumonia", "air bronchograms", "bronchograms"),
    "pneumothorax": ("pneumothorax", "free pleural air", "visceral pleural line"),
    "consolidation": ("consolidation", "lobar consolidation", "airspace consolidation"),
    "edema": ("edema", "pulmonary edema", "oedema", "vascular congestion", "congestion"),
    "emphysema": ("emphysema", "hyperinflation", "hyperinflated lungs", "flattened diaphragms"),
    "fibrosis": ("fibrosis", "pulmonary fibrosis", "reticulation", "honeycombing"),
    "pleural thickening": ("pleural thickening", "thickened pleura", "thickening", "pleural plaque", "plaque"),
    "hernia": ("hernia", "hiatal hernia", "hiatus hernia", "intrathoracic stomach"),
    "pacemaker": ("pacemaker", "cardiac pacemaker", "pacemaker generator", "generator", "pacing leads", "leads"),
    "sternal wires": ("sternal wires", "sternotomy wires", "median sternotomy", "sternotomy", "wires"),
    "chest tube": ("chest tube", "pleural drain", "thoracostomy tube", "drain"),
    "endotracheal tube": ("endotracheal tube", "breathing tube", "tracheal tube", "intubation"),
    "side marker": ("side marker", "marker", "film marker", "letter"),
}


#: Parts of the synonyms that a list of single nouns is left with, and that stand for one label only.
_PARTS: dict[str, tuple[str, ...]] = {"nodule": ("coin",)}


def _singular(word: str) -> str:
    """Return a word without its plural ending, good enough for the words above."""
    if word == "pneumothoraces":
        return "pneumothorax"
    if word.endswith(("sses", "xes")):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("is", "ss")) else word


def _words(text: str) -> list[str]:
    """Return the lower-case words of ``text``, each in the singular."""
    return [_singular(word) for word in "".join(c if c.isalnum() else " " for c in text.lower()).split()]


def is_named(label: str, phrase: str) -> bool:
    """Tell whether ``phrase`` names ``label``: whether it holds, as whole words, its name or one of its synonyms.

    Args:
        label: one of ``OUTPUTS``.
        phrase: a concept in any case, singular or plural.

    Example:
        >>> is_named("effusion", "Small left pleural effusions"), is_named("mass", "nodule")
        (True, False)
    """
    inside = f" {' '.join(_words(phrase))} "
    return any(f" {' '.join(_words(name))} " in inside for name in SYNONYMS[label] + _PARTS.get(label, ()))
