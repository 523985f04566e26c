"""CONCH (Lu et al., "A visual-language foundation model for computational pathology", Nature Medicine 2024): histology.

A contrastive captioner: a ViT-B/16 of timm, one query that pools its tokens by attention, and a text transformer whose
class token stands at the end. Architecture, names of tensors and preprocessing after mahmoodlab/CONCH; its modules are
those of open_clip, put together otherwise than any of open_clip's own models.
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

__all__ = ["Conch", "load_conch"]

_WEIGHTS = ("pytorch_model.bin",)
#: The tokenizer is in the authors' code repository only, not with the weights.
_TOKENIZER = ("conch_byte_level_bpe_uncased.json", "tokenizer.json")
_EXTRA = "open-clip,timm,transformers"
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
#: Width of a head in both transformers, and heads of the pooler: in no tensor.
_HEAD_WIDTH, _POOLER_HEADS = 64, 8
#: Patches along a side of the published 448 pixels.
_GRID = 28
#: What sizes are read from.
_MARKS = (
    *("visual.trunk.pos_embed", "visual.trunk.patch_embed.proj.weight", "visual.attn_pool_contrast.query"),
    *("visual.proj_contrast", "text.cls_emb", "text.positional_embedding", "text.text_projection"),
    "text.token_embedding.weight",
)
#: Marks of the tokenizer around and behind a text.
_ENDS = {"bos_token": "<start_of_text>", "eos_token": "<end_of_text>", "pad_token": "<pad>"}
#: For captions and for training: no embedding passes through them. The published file has no decoder.
_UNUSED = ("visual.attn_pool_caption.", "visual.ln_caption.", "text_decoder.", "logit_scale")


class _Text(nn.Module):
    """From token ids ``(n, n_tokens)``, padded, to ``(n, d_embed)``; names of tensors as published."""

    def __init__(self, sizes: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        transformer = import_extra("open_clip.transformer", _EXTRA)
        width, d_embed = sizes["text_projection"]
        depth = len({name.split(".")[2] for name in sizes if name.startswith("transformer.resblocks.")})
        self.text_projection = nn.Parameter(torch.zeros(width, d_embed))
        self.cls_emb = nn.Parameter(torch.zeros(width))
        n_words, _ = sizes["token_embedding.weight"]
        self.token_embedding = nn.Embedding(n_words, width)
        self.positional_embedding = nn.Parameter(torch.zeros(sizes["positional_embedding"]))
        self.transformer = transformer.Transformer(width, depth, max(1, width // _HEAD_WIDTH))
        self.ln_final = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, padding: int) -> Tensor:
        """Embed texts.

        The class token has the last position there is, however short the texts are. As published, its mask is one place
        off: for a text of k tokens it looks at them and at the padding that follows, and not at itself, unless the text
        fills all places.
        """
        n, length = tokens.shape
        words = self.token_embedding(tokens) + self.positional_embedding[:length]
        last = (self.cls_emb + self.positional_embedding[-1]).expand(n, 1, -1)
        open_ = torch.ones(length + 1, length + 1, dtype=torch.bool, device=tokens.device).tril().repeat(n, 1, 1)
        open_[:, -1, 1:] = tokens != padding
        heads = self.transformer.resblocks[0].attn.num_heads
        mask = torch.zeros(open_.shape, dtype=words.dtype, device=words.device).masked_fill(~open_, float("-inf"))
        hidden = self.transformer(torch.cat([words, last], dim=1), attn_mask=mask.repeat_interleave(heads, dim=0))
        rows: Tensor = self.ln_final(hidden[:, -1]) @ self.text_projection
        return rows


class _Visual(nn.Module):
    """From ``(n, 3, side, side)`` to ``(n, d_embed)``; names of tensors as published."""

    def __init__(self, sizes: dict[str, tuple[int, ...]], side: int, patch: int) -> None:
        super().__init__()
        vit = import_extra("timm.models.vision_transformer", _EXTRA)
        transformer = import_extra("open_clip.transformer", _EXTRA)
        width, d_embed = sizes["trunk.pos_embed"][2], sizes["proj_contrast"][0]
        self.trunk = vit.VisionTransformer(
            img_size=side,
            patch_size=patch,
            embed_dim=width,
            depth=len({name.split(".")[2] for name in sizes if name.startswith("trunk.blocks.")}),
            num_heads=max(1, width // _HEAD_WIDTH),
            num_classes=0,
        )
        self.attn_pool_contrast = transformer.AttentionalPooler(
            d_embed, width, n_head=_POOLER_HEADS, n_queries=sizes["attn_pool_contrast.query"][0]
        )
        self.ln_contrast = nn.LayerNorm(d_embed)
        self.proj_contrast = nn.Parameter(torch.zeros(d_embed, d_embed))

    def forward(self, images: Tensor) -> Tensor:
        pooled = self.attn_pool_contrast(self.trunk.forward_features(images))[:, 0]
        rows: Tensor = self.ln_contrast(pooled) @ self.proj_contrast
        return rows


class Conch(nn.Module):
    """CONCH, with its tokenizer.

    Args:
        visual: from ``(n, 3, side, side)`` to ``(n, d_embed)``.
        text: from token ids and the id of padding to ``(n, d_embed)``.
        tokenizer: a ``PreTrainedTokenizerFast``.
        side: pixels of the square input.
    """

    def __init__(self, visual: nn.Module, text: _Text, tokenizer: object, side: int) -> None:
        super().__init__()
        self.visual = visual
        self.text = text
        self.tokenizer = tokenizer
        self.side = side
        self.max_length = len(text.positional_embedding) - 1  # the class token takes one

    def preprocess(self, image: Image.Image) -> Tensor:
        """Return ``(3, side, side)``: short side to ``side``, bicubic, the middle cut out, CLIP's mean and deviation."""
        v2 = import_extra("torchvision.transforms.v2.functional", "torchvision")
        bicubic = import_extra("torchvision.transforms", "torchvision").InterpolationMode.BICUBIC
        small = v2.center_crop(v2.resize(image, [self.side], interpolation=bicubic), [self.side, self.side])
        pixels: Tensor = v2.normalize(
            v2.to_dtype(v2.to_image(small.convert("RGB")), scale=True), list(_MEAN), list(_STD)
        )
        return pixels.as_subclass(Tensor)

    def encode_images(self, images: Tensor) -> Tensor:
        """Embed ``(n, 3, side, side)`` as ``(n, d_embed)``."""
        rows: Tensor = self.visual(images)
        return rows

    def encode_texts(self, texts: list[str]) -> Tensor:
        """Embed ``n`` texts as ``(n, d_embed)``, padded to one place more than the longest has tokens."""
        ids = self.tokenizer(texts, truncation=True, max_length=self.max_length)["input_ids"]  # type: ignore[operator]
        padding: int = self.tokenizer.pad_token_id  # type: ignore[attr-defined]
        length = min(self.max_length, 1 + max(map(len, ids)))
        tokens = torch.tensor([row + [padding] * (length - len(row)) for row in ids])
        rows: Tensor = self.text(tokens.to(self.text.cls_emb.device), padding)
        return rows

    def text_length(self, text: str) -> int:
        """Return how many tokens a text has, its start and end among them."""
        return len(self.tokenizer(text, verbose=False)["input_ids"])  # type: ignore[operator]

    def too_long(self, text: str) -> bool:
        """Return whether a text has more tokens than the model reads."""
        return self.text_length(text) > self.max_length


def load_conch(rest: str, spec: str, device: str, card: VlmCard) -> Annotator:
    """Load CONCH.

    Args:
        rest: the weights with the tokenizer beside them, or a folder with both.
        spec: what the user asked for.
        device: where to run.
        card: what is known of it.

    Raises:
        VlmError: if a file is missing, damaged, or of another model.
    """
    if rest and not Path(rest).expanduser().exists():
        raise VlmError(
            f"{spec}: there is no file {rest!r}: accept the terms of 'MahmoodLab/conch' on the hub, download {_WEIGHTS[0]!r}, "
            f"put {_TOKENIZER[0]!r} of the authors' repository (mahmoodlab/CONCH) beside it, and give the file"
        )
    path = find_weights(rest, spec, _WEIGHTS)
    source = f"{spec}: {path.name!r}"
    state = read_weights(path, error=VlmError)
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    state = {name: value for name, value in state.items() if not name.startswith(_UNUSED)}
    lost = [name for name in _MARKS if name not in state]
    if lost:
        raise VlmError(
            f"{source} is no checkpoint of CONCH: without {lost[0]!r}. CONCH v1.5 and TITAN are other models, which are "
            "not known here"
        )
    sizes = {part: _sizes(state, f"{part}.") for part in ("visual", "text")}
    patch = sizes["visual"]["trunk.patch_embed.proj.weight"][2]
    grid = round((sizes["visual"]["trunk.pos_embed"][1] - 1) ** 0.5)
    whole = nn.ModuleDict({"visual": _Visual(sizes["visual"], grid * patch, patch), "text": _Text(sizes["text"])})
    load_weights(whole, state, source, error=VlmError)
    tokenizer = _tokenizer(path, spec, sizes["text"]["token_embedding.weight"][0])
    model = Conch(whole["visual"], whole["text"], tokenizer, grid * patch).float().eval()  # type: ignore[arg-type]
    annotator = annotator_of(model, spec, device, card, [tokenizer_content(tokenizer), str(model.max_length)])
    if grid != _GRID:
        annotator.notes.append(
            f"its positions are for films of {grid * patch} pixels, not the published {_GRID * 16}, and are taken as they are"
        )
    return annotator


def _sizes(state: dict[str, Tensor], prefix: str) -> dict[str, tuple[int, ...]]:
    return {name.removeprefix(prefix): tuple(v.shape) for name, v in state.items() if name.startswith(prefix)}


def _tokenizer(weights: Path, spec: str, n_words: int) -> object:
    """Load the tokenizer beside the weights."""
    transformers = import_extra("transformers", "transformers")
    file = next((weights.parent / name for name in _TOKENIZER if (weights.parent / name).is_file()), None)
    if file is None:
        raise VlmError(
            f"{spec}: its tokenizer is missing: put {_TOKENIZER[0]!r} of the authors' repository (mahmoodlab/CONCH, in "
            f"conch/open_clip_custom/tokenizers) beside {weights.name!r}"
        )
    try:
        tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(file), **_ENDS)
    except Exception as error:
        raise explain_load(spec, file, error) from error
    if len(tokenizer) != n_words:
        raise VlmError(
            f"{spec}: {file.name!r} has {len(tokenizer):,} words and {weights.name!r} embeds {n_words:,}: it is another "
            "model's tokenizer"
        )
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    return tokenizer
