"""Words without a library: one spelling and one number for each, so that counts are not split between variants."""

import re

__all__ = ["key", "lemma", "normalise", "word_form", "word_set"]


def word_set(text: str) -> frozenset[str]:
    """Return the words of ``text``: a long list of words reads best as one."""
    return frozenset(text.split())


# Plurals of anatomy and pathology that no suffix rule gets right.
_IRREGULAR = {
    "alveoli": "alveolus",
    "apices": "apex",
    "atria": "atrium",
    "bacteria": "bacterium",
    "bases": "base",  # "lung bases" are not "bases" of "basis"
    "bronchi": "bronchus",
    "bullae": "bulla",
    "calculi": "calculus",
    "calyces": "calyx",
    "corpora": "corpus",
    "crises": "crisis",
    "diagnoses": "diagnosis",
    "diverticula": "diverticulum",
    "emboli": "embolus",
    "foci": "focus",
    "foramina": "foramen",
    "hila": "hilum",
    "hili": "hilum",
    "hilus": "hilum",
    "humeri": "humerus",
    "ilia": "ilium",
    "manubria": "manubrium",
    "nuclei": "nucleus",
    "ostia": "ostium",
    "pleurae": "pleura",
    "scapulae": "scapula",
    "septa": "septum",
    "sequelae": "sequela",
    "sulci": "sulcus",
    "synechiae": "synechia",
    "thrombi": "thrombus",
    "tracheae": "trachea",
    "vertebrae": "vertebra",
    "viscera": "viscus",
}
# Singular (or only plural) words that look like plurals.
_SINGULAR = frozenset(
    [
        "ascites",
        "atlas",
        "biceps",
        "bias",
        "canvas",
        "caries",
        "cardias",
        "diabetes",
        "facies",
        "gas",
        "has",
        "herpes",
        "his",
        "its",
        "lens",
        "less",
        "pancreas",
        "plus",
        "psoas",
        "rabies",
        "series",
        "species",
        "this",
        "triceps",
        "was",
        "yes",
    ]
)
# "-oses" is the plural of "-ose" here, everywhere else of "-osis".
_OSE = frozenset({"doses", "noses", "roses", "hoses", "purposes", "closes", "loses", "exposes", "poses", "discloses"})
# One spelling a word. British to American: that is what open corpora and most text encoders know.
_SPELLING = (
    (re.compile(r"oedem"), "edem"),
    (re.compile(r"\boesoph"), "esoph"),
    (re.compile(r"(?<!\bmic)haem(?=[ao])"), "hem"),
    (re.compile(r"\b(an|leuk)aemi"), r"\1emi"),
    (re.compile(r"\baetiol"), "etiol"),
    (re.compile(r"\btumour"), "tumor"),
    (re.compile(r"\bcentre"), "center"),
    (re.compile(r"\bcalibre"), "caliber"),
    (re.compile(r"\bfibre"), "fiber"),
    (re.compile(r"\bgrey"), "gray"),
    (re.compile(r"\bcolour"), "color"),
    (re.compile(r"ischaem"), "ischem"),
    (re.compile(r"\bt-spine\b"), "thoracic spine"),
    (re.compile(r"\bair[ -]space"), "airspace"),
    (re.compile(r"\bcardio[ -]mediastinal"), "cardiomediastinal"),
    (re.compile(r"\b(left|right)-?sided?\b"), r"\1"),
)


def key(name: str) -> str:
    """Return the form in which names are compared: lower case, underscores and runs of blanks as one blank.

    >>> key("Pleural_Thickening ")
    'pleural thickening'
    """
    return " ".join(name.replace("_", " ").split()).casefold()


def normalise(text: str) -> str:
    """Return lower-cased text with one spelling of each word.

    >>> normalise("Air-space Oedema")
    'airspace edema'
    """
    text = text.lower().replace("\u2019", "'").replace("\u2010", "-")
    for pattern, replacement in _SPELLING:
        text = pattern.sub(replacement, text)
    return text


def lemma(noun: str) -> str:
    """Return the singular of a lower-case noun; words that only look plural stay.

    >>> [lemma(word) for word in ("opacities", "masses", "metastases", "bronchi", "atelectasis", "thorax")]
    ['opacity', 'mass', 'metastasis', 'bronchus', 'atelectasis', 'thorax']
    """
    if noun in _IRREGULAR:
        return _IRREGULAR[noun]
    if len(noun) < 4 or noun in _SINGULAR or not noun.endswith("s") or noun.endswith(("ss", "us", "is")):
        return noun
    for ending, singular in (("thoraces", "thorax"), ("theses", "thesis"), ("tases", "tasis"), ("iases", "iasis")):
        if noun.endswith(ending):
            return noun[: -len(ending)] + singular
    if noun.endswith("oses") and noun not in _OSE:
        return noun[:-2] + "is"
    if noun.endswith("ies"):
        return noun[:-3] + "y"
    if noun.endswith(("sses", "ches", "shes", "xes", "zzes", "uses")) and noun not in ("causes", "aches", "uses"):
        return noun[:-2]
    return noun[:-2] if noun.endswith("'s") else noun[:-1]


def word_form(name: str) -> str:
    """Return ``key(name)`` with one spelling and one number of each word.

    >>> word_form("Pleural_Oedemas")
    'pleural edema'
    """
    return " ".join(lemma(word) for word in normalise(key(name)).split())
