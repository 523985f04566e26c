"""MedCLIP (Wang, Wu, Agarwal, Sun, EMNLP 2022, arXiv 2210.10163): chest films and sentences of reports.

Which of the two published models a file holds, Swin-T ("ViT" in its authors' words) or ResNet-50, is read off its
tensors. Nothing of the package ``medclip`` is needed: it runs with transformers 4.24 and older only.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from mammi.errors import VlmError
from mammi.types import VlmCard
from mammi.vlms.annotator import Annotator
from mammi.vlms.checkpoint import find_weights
from mammi.vlms.from_file import annotator_of
from mammi.vlms.medclip_layout import embed_alone, head_from, parts_of, text_tower
from mammi.vlms.resnet import resnet_from
from mammi.vlms.swin import swin_from
from mammi.vlms.two_towers import TwoTowers
from mammi.weights_file import read_weights

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["load_medclip", "medclip_view"]

SIDE = 224
#: Grey level of its training films in [0, 1], mean and standard deviation.
MEAN, STD = 0.5862785803043838, 0.27950088968644304
FILE = "pytorch_model.bin"
_VARIANT = "masked"
_IMAGE, _TEXT = "vision_model.model.", "text_model.model."
_IMAGE_HEAD, _TEXT_HEAD = "vision_model.projection_head.", "text_model.projection_head."
_SWIN_MARK, _RESNET_MARK = f"{_IMAGE}embeddings.patch_embeddings.projection.weight", f"{_IMAGE}conv1.weight"


def medclip_view(image: "Image.Image") -> Tensor:
    """Return a picture as MedCLIP sees it: float32 ``(1, 224, 224)``, black about -2.10 and white about 1.48.

    As in the authors' ``MedCLIPProcessor``: 8-bit grey (luma of a colour picture), in the middle of a black square of
    the longer side and at least 224, bicubic to 224 x 224, minus mean, by standard deviation.
    """
    from PIL import Image

    width, height = image.size
    side = max(SIDE, width, height)
    square = Image.new("L", (side, side))
    square.paste(image.convert("L"), ((side - width) // 2, (side - height) // 2))
    small = square.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return (torch.from_numpy(np.array(small, dtype=np.float32)) / 255 - MEAN)[None] / STD


class _GreyTower(nn.Module):
    """An image tower for colour that is shown grey: ``(n, 1, height, width)`` to ``(n, d_embed)``."""

    def __init__(self, model: nn.Module, project: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.project = project

    def forward(self, images: Tensor) -> Tensor:
        output = self.model(images.repeat(1, 3, 1, 1))
        rows: Tensor = self.project(output if isinstance(output, Tensor) else output.pooler_output)
        return rows


def load_medclip(rest: str, spec: str, device: str, card: VlmCard) -> Annotator:
    """Load MedCLIP from the file that its authors publish, with Bio_ClinicalBERT's ``vocab.txt`` beside it.

    Texts are put in lower case and cut at 77 tokens. As published, a text's hidden states are meant over padding too
    when it stands in a batch with longer ones, so each is embedded alone; ``masked`` leaves padding out, gives the row
    of a text alone in any batch, and is the quicker for it.

    Args:
        rest: ``FILE``, or a ``FOLDER`` with ``pytorch_model.bin``; ``masked@FILE`` for the masked mean.
        spec: what the user asked for, for messages.
        device: where to run.
        card: its card.

    Raises:
        VlmError: if the file is absent, damaged, another model's, or without its vocabulary; or there is no such
            variant.
    """
    variant, name = _split_variant(rest, spec)
    if name and not Path(name).expanduser().exists():
        raise VlmError(
            f"{spec}: there is no file {name!r}: MedCLIP is on no hub; unpack the archive that its authors' repository "
            f"names and give its {FILE!r}"
        )
    path = find_weights(name, spec, (FILE,))
    source = str(path)
    state = read_weights(path, error=VlmError)
    if _RESNET_MARK in state and "vision_model.projection_head_vision.projection.weight" not in state:
        image_state, text_state, text_head = parts_of(state, (_IMAGE, _TEXT, _TEXT_HEAD), source, "MedCLIP (ResNet)")
        if "fc.weight" not in image_state:
            raise VlmError(f"{source} is no checkpoint of MedCLIP (ResNet): its image tower has no 'fc.weight'")
        image = _GreyTower(resnet_from(image_state, source), nn.Identity())
    elif _SWIN_MARK in state:
        parts = parts_of(state, (_IMAGE, _IMAGE_HEAD, _TEXT, _TEXT_HEAD), source, "MedCLIP (Swin-T)")
        image_state, image_head, text_state, text_head = parts
        image = _GreyTower(swin_from(image_state, source, image_size=SIDE), head_from(image_head, source))
    else:
        hint = (
            ": is it FLAIR's? Then give 'flair:FILE'" if any("projection_head_vision" in key for key in state) else ""
        )
        raise VlmError(
            f"{source} is no checkpoint of MedCLIP: expected {_SWIN_MARK!r} (Swin-T) or {_RESNET_MARK!r} (ResNet-50) "
            f"among its {len(state)} tensors{hint}"
        )
    text = text_tower(text_state, head_from(text_head, source), path, spec, masked=variant == _VARIANT)
    model = TwoTowers(image, text, medclip_view)
    annotator = annotator_of(model, spec, device, card, [text.content, f"medclip {variant}"])
    return annotator if variant == _VARIANT else embed_alone(annotator)


def _split_variant(rest: str, spec: str) -> tuple[str, str]:
    """Return the variant, ``""`` for the published one, and the file."""
    variant, at, name = rest.partition("@")
    if not at or Path(rest).expanduser().exists():
        return "", rest
    if variant != _VARIANT:
        raise VlmError(f"{spec}: there is no variant {variant!r}: give 'medclip:FILE' or 'medclip:{_VARIANT}@FILE'")
    return variant, name
