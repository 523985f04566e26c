"""Annotators: vision-language models that put films and texts into one space.

``create_vlm("transformers:google/medsiglip-448")`` is the door. Preprocessing, tokenizer, licence and training
corpora travel with each model; rows come out with unit length.
"""

from mammi.vlms.annotator import Annotator
from mammi.vlms.cards import KnownModel, find_card, forbids_commerce, known_models
from mammi.vlms.corpora import common_corpora
from mammi.vlms.create import create_vlm, list_vlms
from mammi.vlms.scoring import comparable, refuse_too_many

__all__ = [
    "Annotator",
    "KnownModel",
    "common_corpora",
    "comparable",
    "create_vlm",
    "find_card",
    "forbids_commerce",
    "known_models",
    "list_vlms",
    "refuse_too_many",
]
