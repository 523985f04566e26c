"""MUSK as lilab-stanford/MUSK and xiangjx/musk publish it (CC BY-NC-ND 4.0): `MUSK` around torchscale's `BEiT3`.

The tokenizer is a SentencePiece unigram model with the numbering of XLM-RoBERTa, made here as transformers would convert it,
with pieces of our own.
"""

import math
import string

import numpy as np
import torch
from tests.published.vlm_row import Published
from torch.nn import functional

FILE, TOKENIZER = "model.safetensors", "tokenizer.json"
PIECES = ("mass", "left", "pleural", "effusion", "focal", "right", "lower", "lobe", "no", "in")


def tokenizer(n_words):
    """Return a fast tokenizer: pieces with scores, ``<s> ... </s>``, padding 1."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [(f"\u2581{piece}", -2.0 - i / 10) for i, piece in enumerate(PIECES)]
    pieces += [(letter, -8.0) for letter in ("\u2581", *string.ascii_letters, *string.digits, ".", "-")]
    pieces += [(f"\u2581unused{i}", -20.0) for i in range(n_words - len(pieces) - 9)]
    inner = Tokenizer(models.Unigram([*pieces, ("<mask>", 0.0)], unk_id=3, byte_fallback=False))
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always")]
    )
    inner.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    inner.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    return inner


def state_of(width, depth, inner, grid, patch, n_words, n_text, g, dtype):
    def normal(*shape, scale=0.3):
        return (torch.randn(shape, generator=g) * scale).to(dtype)

    def dense(name, out, inside):
        state[f"{name}.weight"] = normal(out, inside, scale=1.3 / math.sqrt(inside))
        state[f"{name}.bias"] = normal(out, scale=0.2)

    def norm(name, n):
        state[f"{name}.weight"] = (0.5 + torch.rand(n, generator=g)).to(dtype)
        state[f"{name}.bias"] = normal(n)

    state = {"logit_scale": torch.tensor(4.0)}
    state["beit3.text_embed.weight"] = normal(n_words, width, scale=1)
    state["beit3.vision_embed.mask_token"] = normal(1, 1, width)
    state["beit3.vision_embed.cls_token"] = normal(1, 1, width)
    state["beit3.vision_embed.proj.weight"] = normal(width, 3, patch, patch, scale=1 / math.sqrt(3 * patch * patch))
    state["beit3.vision_embed.proj.bias"] = normal(width)
    state["beit3.encoder.embed_positions.A.weight"] = normal(grid * grid + 3, width)
    state["beit3.encoder.embed_positions.B.weight"] = normal(n_text, width)
    for layer in range(depth):
        for way in "AB":
            name = f"beit3.encoder.layers.{layer}"
            for part in ("k_proj", "v_proj", "q_proj", "out_proj"):
                dense(f"{name}.self_attn.{part}.{way}", width, width)
            norm(f"{name}.self_attn.inner_attn_ln.{way}", width)
            norm(f"{name}.self_attn_layer_norm.{way}", width)
            dense(f"{name}.ffn.{way}.fc1", inner, width)
            dense(f"{name}.ffn.{way}.fc2", width, inner)
            norm(f"{name}.ffn.{way}.ffn_layernorm", inner)
            norm(f"{name}.final_layer_norm.{way}", width)
    for way in "AB":
        norm(f"beit3.encoder.layer_norm.{way}", width)
    state["vision_head.weight"] = normal(width, width, scale=1 / math.sqrt(width))
    state["language_head.weight"] = normal(width, width, scale=1 / math.sqrt(width))
    return state


def make(folder, size):
    from safetensors.torch import save_file

    g = torch.Generator().manual_seed(12)
    # Half precision at full size: its 675 million numbers are as much as a test may hold.
    full = (1024, 24, 4096, 24, 16, 64010, 1024, g, torch.float16)
    tiny = (128, 2, 256, 3, 16, 120, 110, g, torch.float32)
    sizes = full if size == "full" else tiny
    save_file(state_of(*sizes), folder / FILE)
    tokenizer(sizes[5]).save(str(folder / TOKENIZER))
    return f"musk:{folder}"


def view(picture, side):
    from PIL import Image

    scale = side / min(picture.size)
    width, height = (side if length == min(picture.size) else int(length * scale) for length in picture.size)
    small = picture.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - side) / 2), round((height - side) / 2)
    small = np.asarray(small.crop((left, top, left + side, top + side)))
    return torch.from_numpy(((small / 255 - 0.5) / 0.5).transpose(2, 0, 1)).float()


def encode(get, names, x, way):
    """Run torchscale's encoder with its own names, scores written out; ``x`` has its positions."""

    def norm(x, name):
        return functional.layer_norm(x, x.shape[-1:], get(f"{name}.weight"), get(f"{name}.bias"), 1e-5)

    def linear(x, name):
        return functional.linear(x, get(f"{name}.weight"), get(f"{name}.bias"))

    n, length, width = x.shape
    layer = 0
    while f"beit3.encoder.layers.{layer}.final_layer_norm.A.weight" in names:
        name = f"beit3.encoder.layers.{layer}"
        y = norm(x, f"{name}.self_attn_layer_norm.{way}")
        q, k, v = (
            linear(y, f"{name}.self_attn.{part}_proj.{way}").reshape(n, length, width // 64, 64).transpose(1, 2)
            for part in "qkv"
        )
        y = ((q / 8) @ k.transpose(2, 3)).softmax(dim=3) @ v
        y = norm(y.transpose(1, 2).reshape(n, length, width), f"{name}.self_attn.inner_attn_ln.{way}")
        x = x + linear(y, f"{name}.self_attn.out_proj.{way}")
        y = functional.gelu(linear(norm(x, f"{name}.final_layer_norm.{way}"), f"{name}.ffn.{way}.fc1"))
        x = x + linear(norm(y, f"{name}.ffn.{way}.ffn_layernorm"), f"{name}.ffn.{way}.fc2")
        layer += 1
    return norm(x, f"beit3.encoder.layer_norm.{way}")[:, 0]


def opened(folder):
    from safetensors import safe_open

    file = safe_open(folder / FILE, "pt")
    return (lambda name: file.get_tensor(name).float()), set(file.keys())


def images(folder, pictures):
    get, names = opened(folder)
    kernel, positions = get("beit3.vision_embed.proj.weight"), get("beit3.encoder.embed_positions.A.weight")
    side = kernel.shape[2] * math.isqrt(len(positions) - 3)
    x = torch.stack([view(picture, side) for picture in pictures])
    x = functional.conv2d(x, kernel, get("beit3.vision_embed.proj.bias"), stride=kernel.shape[2])
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([get("beit3.vision_embed.cls_token").repeat(len(x), 1, 1), x], dim=1)
    x = x + functional.embedding(torch.arange(2, x.shape[1] + 2), positions)
    return encode(get, names, x, "A") @ get("vision_head.weight").T


def texts(folder, sentences):
    from tokenizers import Tokenizer

    get, names = opened(folder)
    inner = Tokenizer.from_file(str(folder / TOKENIZER))
    words, positions = get("beit3.text_embed.weight"), get("beit3.encoder.embed_positions.B.weight")
    rows = []
    for sentence in sentences:
        ids = inner.encode(sentence).ids[1:-1][:98]
        x = words[torch.tensor([[0, *ids, 2]])]
        x = x + functional.embedding(torch.arange(2, x.shape[1] + 2), positions)
        rows.append(encode(get, names, x, "B") @ get("language_head.weight").T)
    return torch.cat(rows)


ROWS = [Published("MUSK", make, images, texts)]
