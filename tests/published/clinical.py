"""Bio_ClinicalBERT and ResNet-50 as MedCLIP and FLAIR keep them: tensors by name, and forwards in plain functions."""

import math
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

State = dict[str, Tensor]
WORDS = (
    "mass",
    "effusion",
    "chest",
    "right",
    "lobe",
    "of",
    "the",
    "lung",
    "photograph",
    "##ation",
    "##al",
    "fun",
    "##dus",
)


class Dice:
    """Random tensors of sizes that let every part count and nothing overflow."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int, std: float = 1.0, mean: float = 0.0) -> Tensor:
        return torch.randn(shape, generator=self.generator) * std + mean

    def weight(self, rows: int, *columns: int, gain: float = 1.5) -> Tensor:
        return self.normal(rows, *columns, std=gain / math.sqrt(math.prod(columns)))

    def linear(self, state: State, name: str, rows: int, columns: int, gain: float = 1.5) -> None:
        state[f"{name}.weight"] = self.weight(rows, columns, gain=gain)
        state[f"{name}.bias"] = self.normal(rows, std=0.2)

    def norm(self, state: State, name: str, width: int, size: float = 1.0) -> None:
        state[f"{name}.weight"] = self.normal(width, std=0.2 * size, mean=size)
        state[f"{name}.bias"] = self.normal(width, std=0.2)


def bert_state(dice: Dice, prefix: str, layers: int, width: int, words: int) -> State:
    """Return the tensors of a ``BertModel`` as transformers 4.24 saves it: 200 for 12 layers."""
    state: State = {}
    name = f"{prefix}embeddings."
    state[f"{name}position_ids"] = torch.arange(512)[None]
    for table, rows in (("word", words), ("position", 512), ("token_type", 2)):
        state[f"{name}{table}_embeddings.weight"] = dice.normal(rows, width, std=0.5)
    dice.norm(state, f"{name}LayerNorm", width)
    for layer in range(layers):
        name = f"{prefix}encoder.layer.{layer}."
        for part in ("query", "key", "value"):
            dice.linear(state, f"{name}attention.self.{part}", width, width)
        dice.linear(state, f"{name}attention.output.dense", width, width)
        dice.norm(state, f"{name}attention.output.LayerNorm", width)
        dice.linear(state, f"{name}intermediate.dense", 4 * width, width)
        dice.linear(state, f"{name}output.dense", width, 4 * width)
        dice.norm(state, f"{name}output.LayerNorm", width)
    dice.linear(state, f"{prefix}pooler.dense", width, width)
    return state


def write_vocabulary(folder: Path, words: int) -> None:
    """Write a ``vocab.txt`` of our own: marks where BERT has them, letters, some words, and room."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,-"
    lines = ["[PAD]", *(f"[unused{i}]" for i in range(1, 100)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    lines += [*letters, *(f"##{letter}" for letter in letters), *WORDS]
    # A cased word that lower-cased texts never reach.
    lines += ["Mass", *(f"[unused{i}]" for i in range(100, 100 + words))]
    (folder / "vocab.txt").write_text("\n".join(lines[:words]) + "\n", encoding="utf-8")


def word_pieces(folder: Path, text: str) -> list[int]:
    """Cut a text by the published rules: lower case, no accents, words and marks, the longest piece that is known."""
    ids = {line: i for i, line in enumerate((folder / "vocab.txt").read_text(encoding="utf-8").splitlines())}
    plain = "".join(c for c in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(c) != "Mn")
    spaced = "".join(c if c.isalnum() or c.isspace() else f" {c} " for c in plain)
    found = []
    for word in spaced.split():
        pieces, start = [], 0
        while start < len(word):
            mark = "##" if start else ""
            end = next((e for e in range(len(word), start, -1) if mark + word[start:e] in ids), None)
            if end is None:
                pieces = [ids["[UNK]"]]
                break
            pieces.append(ids[mark + word[start:end]])
            start = end
        found += pieces
    return [ids["[CLS]"], *found[:75], ids["[SEP]"]]


def bert_hidden(state: State, prefix: str, tokens: list[int], padding: int = 0) -> list[Tensor]:
    """Return the hidden states ``(n_tokens + padding, width)`` of one text, the embeddings first."""
    n_layers = sum(name.startswith(prefix) and name.endswith("query.weight") for name in state)
    length = len(tokens) + padding
    name = f"{prefix}embeddings."
    x = state[f"{name}word_embeddings.weight"][tokens + [0] * padding]
    x = x + state[f"{name}position_embeddings.weight"][:length] + state[f"{name}token_type_embeddings.weight"][0]
    x = layer_norm(state, f"{name}LayerNorm", x, 1e-12)
    width = x.shape[1]
    seen = torch.arange(length) < len(tokens)
    hidden = [x]
    for layer in range(n_layers):
        name = f"{prefix}encoder.layer.{layer}."
        q, k, v = (
            linear(state, f"{name}attention.self.{part}", x).view(length, width // 64, 64).transpose(0, 1)
            for part in ("query", "key", "value")
        )
        weights = (q @ k.transpose(1, 2) / 8).masked_fill(~seen, -torch.inf).softmax(dim=-1)
        mixed = (weights @ v).transpose(0, 1).reshape(length, width)
        mixed = linear(state, f"{name}attention.output.dense", mixed)
        x = layer_norm(state, f"{name}attention.output.LayerNorm", x + mixed, 1e-12)
        inner = F.gelu(linear(state, f"{name}intermediate.dense", x))
        x = layer_norm(state, f"{name}output.LayerNorm", x + linear(state, f"{name}output.dense", inner), 1e-12)
        hidden.append(x)
    return hidden


def text_rows(state: State, folder: Path, texts: Sequence[str], padding: int = 0) -> Tensor:
    """Return the unmasked mean of states 1, 2 and the last of each text, alone or padded, before the projection."""
    rows = []
    for text in texts:
        hidden = bert_hidden(state, "text_model.model.", word_pieces(folder, text), padding)
        rows.append(sum(hidden[layer].mean(dim=0) for layer in (1, 2, -1)) / 3)
    return torch.stack(rows)


def resnet_state(dice: Dice, prefix: str, depths: Sequence[int], base: int) -> State:
    """Return the tensors of torchvision's bottleneck ResNet without its last layer: 318 for ResNet-50."""
    state: State = {}

    def convolution(name: str, norm: str, rows: int, columns: int, side: int, size: float = 1.0) -> None:
        state[f"{prefix}{name}.weight"] = dice.weight(rows, columns, side, side)
        dice.norm(state, f"{prefix}{norm}", rows, size)
        state[f"{prefix}{norm}.running_mean"] = dice.normal(rows, std=0.3)
        state[f"{prefix}{norm}.running_var"] = torch.rand(rows, generator=dice.generator) + 0.5
        state[f"{prefix}{norm}.num_batches_tracked"] = torch.tensor(7)

    convolution("conv1", "bn1", 64, 3, 7)
    inside = 64
    for stage, depth in enumerate(depths):
        width, outside = base * 2**stage, 256 * 2**stage
        for block in range(depth):
            name = f"layer{stage + 1}.{block}."
            convolution(f"{name}conv1", f"{name}bn1", width, inside, 1)
            convolution(f"{name}conv2", f"{name}bn2", width, width, 3)
            # Small, so that the sum over blocks does not grow.
            convolution(f"{name}conv3", f"{name}bn3", outside, width, 1, size=0.4)
            if block == 0:
                convolution(f"{name}downsample.0", f"{name}downsample.1", outside, inside, 1, size=0.6)
            inside = outside
    return state


def resnet_features(state: State, prefix: str, images: Tensor) -> Tensor:
    """Return ``(n, 2048)``: ResNet v1.5 (the stride in the 3 x 3 convolution), as torchvision has it."""

    def convolve(x: Tensor, name: str, norm: str, stride: int = 1) -> Tensor:
        weight = state[f"{prefix}{name}.weight"]
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        mean, variance = state[f"{prefix}{norm}.running_mean"], state[f"{prefix}{norm}.running_var"]
        scale = state[f"{prefix}{norm}.weight"] / torch.sqrt(variance + 1e-5)
        shift = state[f"{prefix}{norm}.bias"] - mean * scale
        return x * scale[:, None, None] + shift[:, None, None]

    x = F.max_pool2d(convolve(images, "conv1", "bn1", 2).relu(), 3, stride=2, padding=1)
    for stage in range(1, 5):
        depth = len({name.split(".")[-3] for name in state if f"{prefix}layer{stage}." in name and "conv1" in name})
        for block in range(depth):
            name, stride = f"layer{stage}.{block}.", 2 if stage > 1 and block == 0 else 1
            y = convolve(x, f"{name}conv1", f"{name}bn1").relu()
            y = convolve(y, f"{name}conv2", f"{name}bn2", stride).relu()
            y = convolve(y, f"{name}conv3", f"{name}bn3")
            if block == 0:
                x = convolve(x, f"{name}downsample.0", f"{name}downsample.1", stride)
            x = (x + y).relu()
    return x.mean(dim=(2, 3))


def each(images: Sequence[Tensor], forward: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the rows of images taken one at a time."""
    return torch.cat([forward(image[None]) for image in images])


def linear(state: State, name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def layer_norm(state: State, name: str, x: Tensor, epsilon: float) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    scale = torch.rsqrt(centred.square().mean(dim=-1, keepdim=True) + epsilon)
    return centred * scale * state[f"{name}.weight"] + state[f"{name}.bias"]
