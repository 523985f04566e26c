"""FLAIR (Silva-Rodriguez et al., Medical Image Analysis 2025, arXiv 2308.07898): fundus photographs and findings.

From its authors' repository: a ResNet-50 image tower, Bio_ClinicalBERT, and a projection of each to 512.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mammi.errors import VlmError
from mammi.registry import import_extra
from mammi.types import VlmCard
from mammi.vlms.annotator import Annotator
from mammi.vlms.checkpoint import find_weights
from mammi.vlms.from_file import annotator_of
from mammi.vlms.medclip_layout import embed_alone, head_from, parts_of, text_tower
from mammi.vlms.resnet import resnet_from
from mammi.vlms.two_towers import TwoTowers
from mammi.weights_file import read_weights

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["FlairVlm", "flair_view", "load_flair"]

SIDE = 512
#: On the hub, and in the archive of older releases.
FILES = ("model.safetensors", "flair_resnet.pth")
_PARTS = (
    "vision_model.model.",
    "vision_model.projection_head_vision.projection.",
    "text_model.model.",
    "text_model.projection_head_text.projection.",
)


def flair_view(image: "Image.Image") -> Tensor:
    """Return a picture as FLAIR sees it: float32 ``(3, 512, 512)`` in [0, 1], red, green, blue.

    As in the authors' ``preprocess_image``: by 255, the longer side to 512 (bilinear, smoothed where it shrinks, as
    torchvision does by default since 0.17, the authors install 0.21), zeros on the right and below. Grey is repeated.
    """
    transforms = import_extra("torchvision.transforms.functional", "torchvision")
    pixels = torch.from_numpy(np.array(image.convert("RGB"), dtype=np.float32) / 255).permute(2, 0, 1)
    scale = max(pixels.shape[1:]) / SIDE
    height, width = (max(1, int(side / scale)) for side in pixels.shape[1:])
    small = transforms.resize(pixels, [height, width], antialias=True)
    return functional.pad(small, (0, SIDE - width, 0, SIDE - height))


class _UnitThen(nn.Module):
    """A projection of features put to unit length: FLAIR's of both towers."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, rows: Tensor) -> Tensor:
        projected: Tensor = self.head(rows / rows.norm(dim=-1, keepdim=True))
        return projected


class FlairVlm(TwoTowers):
    """FLAIR with its own prompt."""

    templates = ("A fundus photograph of {}",)


def load_flair(rest: str, spec: str, device: str, card: VlmCard) -> Annotator:
    """Load FLAIR from a file, a folder or the hub, with Bio_ClinicalBERT's ``vocab.txt`` beside it or on the hub.

    Texts are read as MedCLIP's are: lower case, 77 tokens, the unmasked mean of three hidden states; each alone.

    Args:
        rest: ``FILE``, a ``FOLDER`` with ``model.safetensors`` or ``flair_resnet.pth``, or ``jusiro2/FLAIR``.
        spec: what the user asked for, for messages.
        device: where to run.
        card: its card.

    Raises:
        VlmError: if the file is absent, damaged, another model's, or without its vocabulary.
    """
    path = find_weights(rest, spec, FILES)
    source = str(path)
    state = read_weights(path, error=VlmError)
    if "text_model.projection_head.weight" in state:
        raise VlmError(f"{source} is no checkpoint of FLAIR but of MedCLIP: give 'medclip:FILE'")
    image_state, image_head, text_state, text_head = parts_of(state, _PARTS, source, "FLAIR")
    if "fc.weight" in image_state:
        raise VlmError(f"{source} is no checkpoint of FLAIR: its image tower ends in a classifier, 'fc.weight'")
    project = _UnitThen(head_from(image_head, source))
    image = nn.Sequential(resnet_from(image_state, source), project)
    text = text_tower(text_state, _UnitThen(head_from(text_head, source)), path, spec)
    return embed_alone(annotator_of(FlairVlm(image, text, flair_view), spec, device, card, [text.content, "flair"]))
