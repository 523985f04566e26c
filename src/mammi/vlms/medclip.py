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
from mammi.registry import import_extra
from mammi.types import VlmCard
from mammi.vlms.annotator import Annotator
from mammi.vlms.checkpoint import find_weights
from mammi.vlms.from_file import annotator_of
from mammi.vlms.medclip_layout import embed_alone, head_from, parts_of, text_tower
from mammi.vlms.resnet import resnet_from
from mammi.vlms.two_towers import TwoTowers
from mammi.weights_file import load_weights, read_weights

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
#: Parts of a Swin block as transformers 4 called them, in the file, and as version 5 does.
_RENAMED = {
    **{f"attention.self.{part}.": f"attention.{part[0]}_proj." for part in ("query", "key", "value")},
    "attention.output.dense.": "attention.o_proj.",
    "attention.self.relative_position_bias_table": "attention.relative_position_bias.relative_position_bias_table",
    "intermediate.dense.": "mlp.fc1.",
    "output.dense.": "mlp.fc2.",
}
#: A table of window positions that version 4 stored and version 5 computes; it follows from the window's size.
_COUNTER = ".attention.self.relative_position_index"


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
        image = _GreyTower(_swin_from(image_state, source), head_from(image_head, source))
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


def _swin_from(state: dict[str, Tensor], source: str) -> nn.Module:
    """Build a Swin of the size its tensors have, from the names of transformers 4; load them, every one."""
    transformers = import_extra("transformers", "transformers")
    patch = state["embeddings.patch_embeddings.projection.weight"]
    stages: dict[int, set[int]] = {}
    for name in state:
        if name.startswith("encoder.layers.") and ".blocks." in name:
            stages.setdefault(int(name.split(".")[2]), set()).add(int(name.split(".")[4]))
    stem = "encoder.layers.{}.blocks.0."
    tables = [state.get(stem.format(i) + "attention.self.relative_position_bias_table") for i in range(len(stages))]
    inner = state.get(stem.format(0) + "intermediate.dense.weight")
    if not tables or inner is None or any(table is None for table in tables):
        raise VlmError(f"{source} holds no whole Swin image tower where one was expected: is it another model's?")
    # A window of w x w has (2 w - 1)^2 relative positions, one row each, and a column a head.
    window = (round(tables[0].shape[0] ** 0.5) + 1) // 2  # type: ignore[union-attr]
    config = transformers.SwinConfig(
        image_size=SIDE,
        patch_size=patch.shape[-1],
        embed_dim=patch.shape[0],
        depths=[len(stages[i]) for i in range(len(stages))],
        num_heads=[table.shape[1] for table in tables],  # type: ignore[union-attr]
        window_size=window,
        mlp_ratio=inner.shape[0] / inner.shape[1],
    )
    model: nn.Module = transformers.SwinModel(config)
    renamed = {_renamed(name): value for name, value in state.items() if not name.endswith(_COUNTER)}
    load_weights(model, renamed, source, error=VlmError)
    return model.float().eval()


def _renamed(name: str) -> str:
    """Return a tensor's name in transformers 5.

    >>> _renamed("encoder.layers.0.blocks.1.attention.self.key.bias")
    'encoder.layers.0.blocks.1.attention.k_proj.bias'
    >>> _renamed("encoder.layers.0.blocks.1.output.dense.bias"), _renamed("layernorm.weight")
    ('encoder.layers.0.blocks.1.mlp.fc2.bias', 'layernorm.weight')
    """
    if ".blocks." not in name:
        return name
    *stem, rest = name.split(".", 5)
    old = next((old for old in _RENAMED if rest.startswith(old)), None)
    return name if old is None else ".".join([*stem, rest.replace(old, _RENAMED[old], 1)])
