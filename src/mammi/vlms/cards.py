"""What is known of published vision-language models: licence, training corpora, where they are described.

The cards stand in ``cards.toml`` and are looked up by spec. A model without one is used all the same, and every unknown
says ``"not stated"``.
"""

import re
import tomllib
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files

from mammi.errors import VlmError
from mammi.types import VlmCard

__all__ = ["KnownModel", "find_card", "forbids_commerce", "known_models", "refuse_commerce"]

#: What a licence says that does not allow a product: no commercial use, no derivatives, research alone.
_FORBIDS = re.compile(r"\bNC\b|\bND\b|non-?commercial|no-?deriv|research(?: use)? only", re.IGNORECASE)


@dataclass(frozen=True)
class KnownModel:
    """A published model, or a family of one authorship and licence.

    Attributes:
        specs: what loads it; ``*`` stands for any characters.
        card: what must be known of it; its ``name`` is the first of ``specs``.
    """

    specs: tuple[str, ...]
    card: VlmCard


@cache
def known_models() -> tuple[KnownModel, ...]:
    """Return every published model that has a card, in the order of ``cards.toml``."""
    entries = tomllib.loads((files("mammi.vlms") / "cards.toml").read_text(encoding="utf-8"))["card"]
    return tuple(
        KnownModel(
            tuple(entry["specs"]),
            VlmCard(
                name=entry["specs"][0],
                title=entry["title"],
                licence=entry["licence"],
                training_corpora=tuple(entry["corpora"]),
                modality=entry["modality"],
                image_size=entry["image_size"],
                citation=entry["citation"],
                notes=tuple(entry.get("notes", ())),
                access=entry["access"],
            ),
        )
        for entry in entries
    )


def find_card(spec: str) -> VlmCard:
    """Return the card of ``spec``, under its own name; an empty one if the model is not known.

    A folder on this machine is known by its own name, if it is that of the repository it was copied from.

    >>> find_card("transformers:vinid/plip").title, find_card("mine.py:create").licence
    ('PLIP', 'not stated')
    """
    for known in known_models():
        if any(fnmatchcase(spec, pattern) for pattern in known.specs):
            return replace(known.card, name=spec)
    scheme, _, rest = spec.partition(":")
    folder = rest.removeprefix("local-dir:").rstrip("/").rpartition("/")[2]
    for known in known_models() if "/" in rest else ():
        for pattern in known.specs:
            if pattern.startswith(f"{scheme}:") and "/" in pattern and fnmatchcase(folder, pattern.rpartition("/")[2]):
                return replace(known.card, name=spec)
    return VlmCard(spec)


def forbids_commerce(card: VlmCard) -> bool:
    """Tell whether a licence forbids commercial use or derivatives, by its words.

    >>> [forbids_commerce(VlmCard("x", licence=said)) for said in ("CC BY-NC-SA 4.0", "CC BY-ND 4.0", "MIT", "not stated")]
    [True, True, False, False]
    """
    return _FORBIDS.search(card.licence) is not None


def refuse_commerce(card: VlmCard) -> None:
    """Refuse a model whose licence forbids commercial use.

    Raises:
        VlmError: if it does.
    """
    if forbids_commerce(card):
        raise VlmError(
            f"{card.title or card.name} is under {card.licence}, which does not allow commercial use: take another "
            "model ('mammi vlms --commercial' lists those whose licence is not known to forbid it), or ask its authors"
        )
