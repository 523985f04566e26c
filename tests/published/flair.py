"""FLAIR: ``model.safetensors`` by the names of its authors' classes, and a forward written anew."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.published.clinical import (
    Dice,
    State,
    bert_state,
    each,
    resnet_features,
    resnet_state,
    text_rows,
    write_vocabulary,
)
from tests.published.vlm_row import Published
from torch import Tensor

FILE = "model.safetensors"
#: (BERT layers, width, words), (ResNet depths, width of a group), d_embed
SIZES = {
    "full": ((12, 768, 28996), ((3, 4, 6, 3), 64), 512),
    "tiny": ((2, 64, 240), ((1, 1, 2, 1), 8), 20),
}
IMAGE_HEAD = "vision_model.projection_head_vision.projection.weight"
TEXT_HEAD = "text_model.projection_head_text.projection.weight"


def make_state(size: str) -> State:
    (layers, width, words), (depths, base), d_embed = SIZES[size]
    dice = Dice(5)
    state: State = {"logit_scale": torch.tensor(2.66)}
    state |= resnet_state(dice, "vision_model.model.", depths, base)
    state[IMAGE_HEAD] = dice.weight(d_embed, 2048)
    state |= bert_state(dice, "text_model.model.", layers, width, words)
    return state | {TEXT_HEAD: dice.weight(d_embed, width)}


def make(folder: Path, size: str) -> str:
    save_file(make_state(size), folder / FILE)
    write_vocabulary(folder, SIZES[size][0][2])
    return f"flair:{folder}"


def shrink(lines: np.ndarray, length: int) -> np.ndarray:
    """Resample the first axis to ``length`` by a triangle as wide as the step, as a smoothed bilinear filter does."""
    step = len(lines) / length
    reach = max(step, 1.0)
    centres = (np.arange(length) + 0.5) * step
    places = np.arange(len(lines)) + 0.5
    weights = np.clip(1 - np.abs(places - centres[:, None]) / reach, 0, None)
    return np.tensordot(weights / weights.sum(axis=1, keepdims=True), lines, axes=1)


def view(picture: Image.Image) -> Tensor:
    """Return ``(3, 512, 512)``, written anew in numpy."""
    pixels = np.asarray(picture.convert("RGB"), dtype=np.float64) / 255
    scale = max(pixels.shape[:2]) / 512
    height, width = int(pixels.shape[0] / scale), int(pixels.shape[1] / scale)
    small = shrink(pixels, height)
    small = shrink(small.transpose(1, 0, 2), width).transpose(1, 0, 2)
    square = np.zeros((512, 512, 3))
    square[:height, :width] = small
    return torch.from_numpy(square).float().permute(2, 0, 1)


def images(folder: Path, pictures: Sequence[Image.Image]) -> Tensor:
    state = load_file(folder / FILE)
    features = each([view(picture) for picture in pictures], partial(resnet_features, state, "vision_model.model."))
    return features @ state[IMAGE_HEAD].T


def texts(folder: Path, texts: Sequence[str]) -> Tensor:
    state = load_file(folder / FILE)
    return text_rows(state, folder, texts) @ state[TEXT_HEAD].T


ROWS = [Published("FLAIR", make, images, texts, alone=True)]
