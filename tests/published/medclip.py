"""MedCLIP, Swin-T and ResNet-50: ``pytorch_model.bin`` as transformers 4.24 names it, and a forward written anew."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tests.published.clinical import (
    Dice,
    State,
    bert_state,
    each,
    layer_norm,
    linear,
    resnet_features,
    resnet_state,
    text_rows,
    write_vocabulary,
)
from tests.published.vlm_row import Published
from torch import Tensor
from torch.nn import functional as F

FILE = "pytorch_model.bin"
#: (BERT layers, width, words), (Swin width, depths, heads), (ResNet depths, width of a group), d_embed
SIZES = {
    "full": ((12, 768, 28996), (96, (2, 2, 6, 2), (3, 6, 12, 24)), ((3, 4, 6, 3), 64), 512),
    "tiny": ((3, 128, 240), (8, (2, 1, 2, 2), (1, 2, 2, 4)), ((1, 2, 1, 1), 8), 24),
}


def swin_state(dice: Dice, prefix: str, width: int, depths: Sequence[int], heads: Sequence[int]) -> State:
    """Return the tensors of a ``SwinModel`` as transformers 4.24 saves it: 231 for depths 2-2-6-2, window 7."""
    state: State = {}
    patches = f"{prefix}embeddings.patch_embeddings.projection"
    state[f"{patches}.weight"] = dice.weight(width, 3, 4, 4)
    state[f"{patches}.bias"] = dice.normal(width, std=0.2)
    dice.norm(state, f"{prefix}embeddings.norm", width)
    for stage, depth in enumerate(depths):
        for block in range(depth):
            name = f"{prefix}encoder.layers.{stage}.blocks.{block}."
            dice.norm(state, f"{name}layernorm_before", width)
            state[f"{name}attention.self.relative_position_bias_table"] = dice.normal(169, heads[stage])
            state[f"{name}attention.self.relative_position_index"] = torch.zeros(49, 49, dtype=torch.int64)
            for part in ("query", "key", "value"):
                dice.linear(state, f"{name}attention.self.{part}", width, width)
            dice.linear(state, f"{name}attention.output.dense", width, width, gain=0.7)
            dice.norm(state, f"{name}layernorm_after", width)
            dice.linear(state, f"{name}intermediate.dense", 4 * width, width)
            dice.linear(state, f"{name}output.dense", width, 4 * width, gain=0.7)
        if stage < len(depths) - 1:
            name = f"{prefix}encoder.layers.{stage}.downsample."
            state[f"{name}reduction.weight"] = dice.weight(2 * width, 4 * width)
            dice.norm(state, f"{name}norm", 4 * width)
            width *= 2
    dice.norm(state, f"{prefix}layernorm", width)
    return state


def make_state(variant: str, size: str) -> State:
    (layers, width, words), swin, (depths, base), d_embed = SIZES[size]
    dice = Dice(4)
    state: State = {"logit_scale": torch.tensor(2.66)}
    if variant == "vit":
        state |= swin_state(dice, "vision_model.model.", *swin)
        state["vision_model.projection_head.weight"] = dice.weight(d_embed, swin[0] * 2 ** (len(swin[1]) - 1))
    else:
        state |= resnet_state(dice, "vision_model.model.", depths, base)
        state["vision_model.model.fc.weight"] = dice.weight(d_embed, 2048)
    state |= bert_state(dice, "text_model.model.", layers, width, words)
    return state | {"text_model.projection_head.weight": dice.weight(d_embed, width)}


def make(folder: Path, size: str, variant: str = "vit", masked: bool = False) -> str:
    torch.save(make_state(variant, size), folder / FILE)
    write_vocabulary(folder, SIZES[size][0][2])
    return f"medclip:{'masked@' if masked else ''}{folder / FILE}"


def view(picture: Image.Image) -> Tensor:
    """Return ``(1, 224, 224)``, written anew: numpy for the square, Pillow for the published resampling."""
    grey = np.asarray(picture.convert("L"))
    height, width = grey.shape
    side = max(224, height, width)
    square = np.zeros((side, side), dtype=np.uint8)
    top, left = int((side - height) / 2), int((side - width) / 2)
    square[top : top + height, left : left + width] = grey
    small = np.asarray(Image.fromarray(square).resize((224, 224), resample=3), dtype=np.float64)
    return torch.from_numpy((small / 255 - 0.5862785803043838) / 0.27950088968644304).float()[None]


def swin_features(state: State, prefix: str, images: Tensor) -> Tensor:
    """Return ``(1, width)`` of one image: Swin of Liu et al., ICCV 2021, arXiv 2103.14030, window 7, shift 3."""
    patches = f"{prefix}embeddings.patch_embeddings.projection"
    x = F.conv2d(images, state[f"{patches}.weight"], state[f"{patches}.bias"], stride=4)[0].permute(1, 2, 0)
    x = layer_norm(state, f"{prefix}embeddings.norm", x, 1e-5)
    stage = 0
    while f"{prefix}encoder.layers.{stage}.blocks.0.layernorm_before.weight" in state:
        block = 0
        while f"{prefix}encoder.layers.{stage}.blocks.{block}.layernorm_before.weight" in state:
            name = f"{prefix}encoder.layers.{stage}.blocks.{block}."
            shift = 3 if block % 2 and len(x) > 7 else 0
            x = x + _windows(state, name, layer_norm(state, f"{name}layernorm_before", x, 1e-5), shift)
            y = F.gelu(linear(state, f"{name}intermediate.dense", layer_norm(state, f"{name}layernorm_after", x, 1e-5)))
            x = x + linear(state, f"{name}output.dense", y)
            block += 1
        name = f"{prefix}encoder.layers.{stage}.downsample."
        if f"{name}reduction.weight" in state:
            x = torch.cat([x[0::2, 0::2], x[1::2, 0::2], x[0::2, 1::2], x[1::2, 1::2]], dim=-1)
            x = layer_norm(state, f"{name}norm", x, 1e-5) @ state[f"{name}reduction.weight"].T
        stage += 1
    return layer_norm(state, f"{prefix}layernorm", x, 1e-5).mean(dim=(0, 1))[None]


def _windows(state: State, name: str, x: Tensor, shift: int) -> Tensor:
    """Attend inside windows of 7 x 7 that are moved by ``shift``; a window over the border falls into its parts."""
    side, width = len(x), x.shape[-1]
    table = state[f"{name}attention.self.relative_position_bias_table"]
    heads = table.shape[1]
    rows, columns = torch.meshgrid(torch.arange(7), torch.arange(7), indexing="ij")
    rows, columns = rows.flatten(), columns.flatten()
    offsets = (rows[:, None] - rows + 6) * 13 + (columns[:, None] - columns + 6)
    bias = table[offsets].permute(2, 0, 1)
    mixed = torch.zeros_like(x)
    for top in range(0, side, 7):
        for left in range(0, side, 7):
            i, j = top + rows + shift, left + columns + shift
            over = (i >= side).int() * 2 + (j >= side).int()
            i, j = i % side, j % side
            tokens = x[i, j]
            q, k, v = (
                linear(state, f"{name}attention.self.{part}", tokens).view(49, heads, -1).transpose(0, 1)
                for part in ("query", "key", "value")
            )
            scores = q @ k.transpose(1, 2) / (width // heads) ** 0.5 + bias
            # The published mask adds -100, which leaves nothing of a share.
            scores = scores.masked_fill(over[:, None] != over, -torch.inf)
            mixed[i, j] = (scores.softmax(dim=-1) @ v).transpose(0, 1).reshape(49, width)
    return linear(state, f"{name}attention.output.dense", mixed)


def images(folder: Path, pictures: Sequence[Image.Image]) -> Tensor:
    state = torch.load(folder / FILE, weights_only=True)
    views = [view(picture).repeat(3, 1, 1) for picture in pictures]
    if "vision_model.model.fc.weight" in state:
        features = each(views, partial(resnet_features, state, "vision_model.model."))
        return features @ state["vision_model.model.fc.weight"].T
    features = each(views, partial(swin_features, state, "vision_model.model."))
    return features @ state["vision_model.projection_head.weight"].T


def texts(folder: Path, texts: Sequence[str]) -> Tensor:
    state = torch.load(folder / FILE, weights_only=True)
    return text_rows(state, folder, texts) @ state["text_model.projection_head.weight"].T


ROWS = [
    Published("MedCLIP (Swin-T)", make, images, texts, alone=True),
    Published("MedCLIP (ResNet-50)", partial(make, variant="resnet"), images, texts, alone=True),
    Published("MedCLIP (Swin-T, masked)", partial(make, masked=True), images, texts),
    Published("MedCLIP (ResNet-50, masked)", partial(make, variant="resnet", masked=True), images, texts),
]
