"""MUSK (Xiang et al., "A vision-language foundation model for precision oncology", Nature 2025): histology.

BEiT-3 (Wang et al., CVPR 2023): one transformer in which every layer has its weights twice, way A for images and way B for
texts. Embedding one or the other passes through one way alone, so they are two towers here. Architecture and names of
tensors after lilab-stanford/MUSK and microsoft/torchscale (normalisation before each part and once more inside it).
"""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from mammi.errors import VlmError
from mammi.registry import import_extra
from mammi.types import VlmCard
from mammi.vlms.annotator import Annotator
from mammi.vlms.checkpoint import find_weights, tokenizer_content
from mammi.vlms.from_file import annotator_of
from mammi.vlms.hub import explain_load
from mammi.weights_file import load_weights, read_weights

__all__ = ["Musk", "load_musk"]

_WEIGHTS = ("model.safetensors", "musk.pth")
_HEAD_WIDTH = 64
#: Most tokens of a text, its ends among them.
_MAX_LENGTH = 100
#: Patches along a side of the published 384 pixels.
_GRID = 24
#: Positions count from 2, as in fairseq.
_FIRST = 2
#: For training alone.
_UNUSED = ("beit3.vision_embed.mask_token", "logit_scale")
_MARKS = (
    *("beit3.text_embed.weight", "beit3.vision_embed.proj.weight", "beit3.encoder.embed_positions.A.weight"),
    *("beit3.encoder.embed_positions.B.weight", "beit3.encoder.layers.0.ffn.A.fc1.weight"),
    *("vision_head.weight", "language_head.weight"),
)
#: Marks around and behind a text, and their ids.
_ENDS = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
_IDS = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}


class _Layer(nn.Module):
    """One layer of one way; names of tensors as published, without the way."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        linear = {f"{part}_proj": nn.Linear(width, width) for part in ("q", "k", "v", "out")}
        self.self_attn = nn.ModuleDict(linear | {"inner_attn_ln": nn.LayerNorm(width)})
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.ffn = nn.ModuleDict(
            {"fc1": nn.Linear(width, inner), "ffn_layernorm": nn.LayerNorm(inner), "fc2": nn.Linear(inner, width)}
        )
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, seen: Tensor | None) -> Tensor:
        n, length, width = x.shape
        at, shape = self.self_attn, (n, length, max(1, width // _HEAD_WIDTH), -1)
        y = self.self_attn_layer_norm(x)
        q, k, v = (at[f"{part}_proj"](y).reshape(shape).transpose(1, 2) for part in ("q", "k", "v"))
        y = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        x = x + at["out_proj"](at["inner_attn_ln"](y.transpose(1, 2).reshape(n, length, width)))
        y = nn.functional.gelu(self.ffn["fc1"](self.final_layer_norm(x)))
        out: Tensor = x + self.ffn["fc2"](self.ffn["ffn_layernorm"](y))
        return out


class _Way(nn.Module):
    """All layers of one way, behind its positions and before its head: ``(n, length, width)`` to ``(n, d_embed)``."""

    def __init__(self, n_positions: int, width: int, inner: int, depth: int, embed: nn.Module, d_embed: int) -> None:
        super().__init__()
        self.embed = embed
        self.positions = nn.Embedding(n_positions, width)
        self.layers = nn.ModuleList(_Layer(width, inner) for _ in range(depth))
        self.layer_norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, d_embed, bias=False)

    def forward(self, inputs: Tensor, seen: Tensor | None = None) -> Tensor:
        """Embed images, or token ids of which ``seen`` ``(n, length)`` tells what is no padding."""
        x = self.embed(inputs)
        x = x + self.positions.weight[_FIRST : _FIRST + x.shape[1]]
        mask = None
        if seen is not None:
            x = x * seen[:, :, None]
            mask = seen[:, None, None, :]
        for layer in self.layers:
            x = layer(x, mask)
        rows: Tensor = self.head(self.layer_norm(x)[:, 0])
        return rows


class _Pixels(nn.Module):
    """From ``(n, 3, side, side)`` to a class token and patches, ``(n, 1 + n_patches, width)``."""

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, stride=patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))

    def forward(self, images: Tensor) -> Tensor:
        patches = self.proj(images).flatten(2).transpose(1, 2)
        return torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1)


class Musk(nn.Module):
    """MUSK, with its tokenizer.

    Args:
        image: from ``(n, 3, side, side)`` to ``(n, d_embed)``.
        text: from token ids and a mask to ``(n, d_embed)``.
        tokenizer: a ``PreTrainedTokenizerFast``.
        side: pixels of the square input.
    """

    def __init__(self, image: nn.Module, text: nn.Module, tokenizer: object, side: int) -> None:
        super().__init__()
        self.image = image
        self.text = text
        self.tokenizer = tokenizer
        self.side = side

    def preprocess(self, image: Image.Image) -> Tensor:
        """Return ``(3, side, side)`` in [-1, 1]: short side to ``side``, bicubic, the middle cut out."""
        v2 = import_extra("torchvision.transforms.v2.functional", "torchvision")
        bicubic = import_extra("torchvision.transforms", "torchvision").InterpolationMode.BICUBIC
        small = v2.center_crop(
            v2.resize(image.convert("RGB"), [self.side], interpolation=bicubic), [self.side, self.side]
        )
        pixels: Tensor = v2.normalize(v2.to_dtype(v2.to_image(small), scale=True), [0.5] * 3, [0.5] * 3)
        return pixels.as_subclass(Tensor)

    def encode_images(self, images: Tensor) -> Tensor:
        """Embed ``(n, 3, side, side)`` as ``(n, d_embed)``; one scale, as published for texts."""
        rows: Tensor = self.image(images)
        return rows

    def encode_texts(self, texts: list[str]) -> Tensor:
        """Embed ``n`` texts as ``(n, d_embed)``, padded to the longest of them."""
        tokens = self.tokenizer(  # type: ignore[operator]
            texts, padding=True, truncation=True, max_length=_MAX_LENGTH, return_tensors="pt"
        )
        device = next(self.text.parameters()).device
        rows: Tensor = self.text(tokens["input_ids"].to(device), tokens["attention_mask"].bool().to(device))
        return rows

    def text_length(self, text: str) -> int:
        """Return how many tokens a text has, its start and end among them."""
        return len(self.tokenizer(text, verbose=False)["input_ids"])  # type: ignore[operator]

    def too_long(self, text: str) -> bool:
        """Return whether a text has more tokens than the model reads."""
        return self.text_length(text) > _MAX_LENGTH


def load_musk(rest: str, spec: str, device: str, card: VlmCard) -> Annotator:
    """Load MUSK.

    Args:
        rest: the weights with ``tokenizer.json`` beside them, or a folder with both.
        spec: what the user asked for.
        device: where to run.
        card: what is known of it.

    Raises:
        VlmError: if a file is missing, damaged, or of another model.
    """
    if rest and not Path(rest).expanduser().exists():
        raise VlmError(
            f"{spec}: there is no file {rest!r}: accept the terms of 'xiangjx/musk' on the hub, download {_WEIGHTS[0]!r} and "
            "'tokenizer.spm', and give the file"
        )
    path = find_weights(rest, spec, _WEIGHTS)
    source = f"{spec}: {path.name!r}"
    state = {name: v for name, v in read_weights(path, error=VlmError).items() if name not in _UNUSED}
    lost = [name for name in _MARKS if name not in state]
    if lost:
        raise VlmError(f"{source} is no checkpoint of MUSK: without {lost[0]!r}")
    tokenizer = _tokenizer(path, spec, len(state["beit3.text_embed.weight"]))
    patch = state["beit3.vision_embed.proj.weight"].shape[2]
    grid = round((len(state["beit3.encoder.embed_positions.A.weight"]) - _FIRST - 1) ** 0.5)
    parts = _parts(state)
    image = _way(parts["A"], patch, f"{source} (way A, of images)")
    model = Musk(image, _way(parts["B"], patch, f"{source} (way B, of texts)"), tokenizer, grid * patch)
    annotator = annotator_of(model, spec, device, card, [tokenizer_content(tokenizer), str(_MAX_LENGTH)])
    if grid != _GRID:
        annotator.notes.append(
            f"its positions are for films of {grid * patch} pixels, not the published {_GRID * 16}, and are taken as they are"
        )
    return annotator


def _parts(state: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Split the tensors into two ways, under the names of `_Way`; what fits neither goes to A, to be refused there."""
    parts: dict[str, dict[str, Tensor]] = {"A": {}, "B": {}}
    whole = {
        "vision_head.weight": ("A", "head.weight"),
        "language_head.weight": ("B", "head.weight"),
        "beit3.text_embed.weight": ("B", "embed.weight"),
    }
    for name, value in state.items():
        way, short = whole.get(name, ("B" if ".B." in name else "A", name))
        short = short.replace(f".{way}.", ".", 1).replace("beit3.vision_embed.", "embed.")
        short = short.replace("beit3.encoder.embed_positions.", "positions.").replace("beit3.encoder.", "")
        parts[way][short] = value
    return parts


def _way(state: dict[str, Tensor], patch: int, source: str) -> nn.Module:
    """Build one tower of the size its tensors have, and load them, every one."""
    n_positions, width = state["positions.weight"].shape
    inner = state.get("layers.0.ffn.fc1.weight")
    if inner is None:
        raise VlmError(f"{source} has no layers: is the file whole?")
    depth = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("layers."))
    with torch.device("meta"):  # drawing random numbers for what is replaced takes longer than reading it
        words = state.get("embed.weight")
        embed = _Pixels(width, patch) if words is None else nn.Embedding(*words.shape)
        tower = _Way(n_positions, width, len(inner), depth, embed, len(state["head.weight"]))
    tower.to_empty(device="cpu")
    load_weights(tower, state, source, error=VlmError)
    return tower.float().eval()


def _tokenizer(weights: Path, spec: str, n_words: int) -> object:
    """Load ``tokenizer.json`` beside the weights."""
    transformers = import_extra("transformers", "transformers")
    file = weights.parent / "tokenizer.json"
    if not file.is_file():
        raise VlmError(
            f"{spec}: its tokenizer is missing: put 'tokenizer.json' beside {weights.name!r}. It is made from the published "
            "'tokenizer.spm', once, where the package sentencepiece is installed: "
            "transformers.XLMRobertaTokenizerFast(vocab_file='tokenizer.spm').save_pretrained(FOLDER) of transformers 4"
        )
    try:
        tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(file), **_ENDS)
    except Exception as error:
        raise explain_load(spec, file, error) from error
    wrong = [word for word, number in _IDS.items() if tokenizer.convert_tokens_to_ids(word) != number]
    if wrong or len(tokenizer) > n_words:
        why = (
            f"its {wrong[0]!r} is not word {_IDS[wrong[0]]}" if wrong else f"{weights.name!r} embeds {n_words:,} words"
        )
        raise VlmError(
            f"{spec}: {file.name!r} has {len(tokenizer):,} words, but {why}: it is another model's tokenizer"
        )
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    return tokenizer
