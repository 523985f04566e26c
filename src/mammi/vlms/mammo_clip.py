"""Mammo-CLIP as published (Ghosh et al., MICCAI 2024, arXiv 2405.12255): EfficientNet B5 or B2, and Bio_ClinicalBERT.

Source: the authors' code (Mammo-CLIP, ``src/codebase/breastclip`` and ``src/preprocessing``), which stands on
CXR-CLIP's: the text tower, the projections and the file are the same, so they are read by `mammi.vlms.cxr_clip`.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mammi.errors import VlmError
from mammi.types import VlmCard
from mammi.vlms.annotator import Annotator
from mammi.vlms.checkpoint import find_weights
from mammi.vlms.cxr_clip import part_of, projected, setting, text_tower
from mammi.vlms.efficientnet import efficientnet_from
from mammi.vlms.from_file import annotator_of
from mammi.vlms.mammogram import mammogram_view
from mammi.vlms.two_towers import TwoTowers
from mammi.weights_file import read_checkpoint

__all__ = ["load_mammo_clip"]

#: Sides of the squares that the variants' padding is made for.
_SIDES = {"b5": 456, "b2": 260}
#: Widths of the variants' rows before the projection.
_WIDTHS = {2048: "b5", 1408: "b2"}
#: What the training configuration in a file calls them; the second says V2 and is B2 all the same.
_CALLED = {"tf_efficientnet_b5_ns-detect": "b5", "tf_efficientnetv2-detect": "b2"}
_FOLDER = "Pre-trained-checkpoints/"
_FILES = {"b5": "b5-model-best-epoch-7.tar", "b2": "b2-model-best-epoch-10.tar"}
#: Beginnings of the names of data sets in that configuration.
_CORPORA = {"upmc": "UPMC mammograms and reports (not public)", "vindr": "VinDr-Mammo", "rsna": "RSNA mammograms"}


def load_mammo_clip(rest: str, spec: str, device: str, card: VlmCard) -> Annotator:
    """Load Mammo-CLIP from the authors' file, for example ``b5-model-best-epoch-7.tar``.

    Args:
        rest: ``FILE``, a folder that holds it, or ``organisation/name``; ``b5@`` or ``b2@`` before it says which
            variant it is, for a file without the training configuration, or which one to take of several.
        spec: what the user asked for.
        device: where to run.
        card: the model's card; its corpora become those of this very file where that tells.

    Raises:
        VlmError: if the file is another model's, damaged, has no tokenizer beside it, or is not the variant asked for.
    """
    said, at, name = rest.rpartition("@")
    if at and said not in _SIDES:
        raise VlmError(f"{spec}: there is no variant {said!r}: give {' or '.join(map(repr, _SIDES))} before the '@'")
    wanted = [_FILES[said]] if said else list(_FILES.values())
    path = find_weights(name, spec, [*wanted, *(_FOLDER + file for file in wanted)])
    state, beside = read_checkpoint(path, error=VlmError)
    source = f"{path.name!r}"
    if "image_encoder._conv_stem.weight" not in state:
        raise VlmError(
            f"{spec}: {source} is not Mammo-CLIP's: it has no 'image_encoder._conv_stem', of the EfficientNet that the "
            f"published files hold: give {' or '.join(_FILES.values())}"
        )
    variant = _variant(said, state, beside, spec, path)
    text = text_tower(state, beside, path, spec)
    tower = efficientnet_from(part_of(state, "image_encoder."), source, _SIDES[variant])
    image = nn.Sequential(tower, projected(state, "image_projection", source))
    annotator = annotator_of(
        TwoTowers(image, text, mammogram_view), spec, device, _with_corpora(card, beside), [text.content, variant]
    )
    annotator.notes.append("films are cut to the breast and stretched to 1520 x 912 as published: made for mammograms")
    return annotator


def _variant(said: str, state: Mapping[str, Tensor], beside: Mapping[str, Any], spec: str, path: Path) -> str:
    """Return which EfficientNet a file holds, by its configuration, its sizes, and what the user said.

    Raises:
        VlmError: if these disagree, or none tells.
    """
    called = setting(beside, "model", "image_encoder", "name")
    head = state.get("image_encoder._conv_head.weight")
    width = 0 if head is None else len(head)
    found = {
        f"it says {called!r}": _CALLED.get(str(called)),
        f"its rows are {width} wide": _WIDTHS.get(width),
        f"{spec!r} says {said!r}": said or None,
    }
    told = {variant for variant in found.values() if variant}
    if len(told) == 1:
        return told.pop()
    if told:
        why = ", ".join(f"{why} ({variant})" for why, variant in found.items() if variant)
        raise VlmError(f"{spec}: {path.name!r} is not the variant asked for: {why}")
    raise VlmError(
        f"{spec}: {path.name!r} tells not which EfficientNet it holds (rows of {width}, no training configuration), "
        f"and their padding differs: give 'mammo-clip:b5@{path.name}' or 'mammo-clip:b2@{path.name}'"
    )


def _with_corpora(card: VlmCard, beside: Mapping[str, Any]) -> VlmCard:
    """Return the card with the collections that a file's training configuration names, if it names any."""
    named = setting(beside, "data_train")
    if not isinstance(named, Mapping) or not named:
        return card
    known = [next((full for start, full in _CORPORA.items() if name.startswith(start)), name) for name in named]
    return replace(card, training_corpora=tuple(dict.fromkeys(known)))
