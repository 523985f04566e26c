"""Annotators: vision-language models that put films and texts into one space.

``create_vlm("transformers:google/medsiglip-448")`` is the door. Preprocessing, tokenizer, licence and training
corpora travel with each model; rows come out with unit length.
"""

from mammi.vlms.annotator import Annotator
from mammi.vlms.cards import find_card
from mammi.vlms.create import create_vlm, list_vlms

__all__ = ["Annotator", "create_vlm", "find_card", "list_vlms"]
