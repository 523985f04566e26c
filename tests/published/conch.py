"""CONCH as mahmoodlab/CONCH and MahmoodLab/conch publish it (CC BY-NC-ND 4.0): `CoCa` of its ``open_clip_custom``.

The published file has no decoder (its readme), and ``load_checkpoint`` is not strict; the pooler of captions is in it. The
tokenizer is a byte-level BPE in lower case, made here with the same parts and words of our own.
"""

import json
import math

import numpy as np
import torch
from tests.published.vlm_row import Published
from torch.nn import functional

FILE, TOKENIZER = "pytorch_model.bin", "conch_byte_level_bpe_uncased.json"
SPECIAL = ["<pad>", "<start_of_text>", "<end_of_text>", "<|person|>", "<|mrn|>", "<|specimen_id|>", "<|date|>"]
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def tokenizer(n_words):
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*SPECIAL, *letters]
    words += [f"\u0120unused{i}" for i in range(n_words - len(words))]
    added = [
        {
            "id": i,
            "content": word,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for i, word in enumerate(SPECIAL)
    ]
    level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    start, end = ({"SpecialToken": {"id": SPECIAL[i], "type_id": 0}} for i in (1, 2))
    single = [start, {"Sequence": {"id": "A", "type_id": 0}}, end]
    special = {SPECIAL[i]: {"id": SPECIAL[i], "ids": [i], "tokens": [SPECIAL[i]]} for i in (1, 2)}
    pair = [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {
            "type": "Sequence",
            "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}, {"type": "Lowercase"}],
        },
        "pre_tokenizer": level,
        "post_processor": {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special},
        "decoder": level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "vocab": {word: i for i, word in enumerate(words)},
            "merges": [],
        },
    }


def state_of(width, depth, mlp, grid, patch, d_embed, n_words, n_text, g):
    def normal(*shape, scale=0.3):
        return torch.randn(shape, generator=g) * scale

    def dense(name, out, inside, key="weight", bias="bias"):
        state[f"{name}{key}"] = normal(out, inside, scale=1.3 / math.sqrt(inside))
        if bias:
            state[f"{name}{bias}"] = normal(out, scale=0.2)

    def norm(name, n):
        state[f"{name}.weight"] = 0.5 + torch.rand(n, generator=g)
        state[f"{name}.bias"] = normal(n)

    state = {"logit_scale": torch.tensor(4.0)}
    state["text.text_projection"] = normal(width, d_embed)
    state["text.cls_emb"] = normal(width)
    state["text.token_embedding.weight"] = normal(n_words, width, scale=1)
    state["text.positional_embedding"] = normal(n_text, width)
    for layer in range(depth):
        name = f"text.transformer.resblocks.{layer}"
        norm(f"{name}.ln_1", width)
        dense(f"{name}.attn.in_proj_", 3 * width, width)
        dense(f"{name}.attn.out_proj.", width, width)
        norm(f"{name}.ln_2", width)
        dense(f"{name}.mlp.c_fc.", mlp, width)
        dense(f"{name}.mlp.c_proj.", width, mlp)
    norm("text.ln_final", width)
    trunk = "visual.trunk"
    state[f"{trunk}.cls_token"] = normal(1, 1, width)
    state[f"{trunk}.pos_embed"] = normal(1, grid * grid + 1, width)
    state[f"{trunk}.patch_embed.proj.weight"] = normal(width, 3, patch, patch, scale=1 / math.sqrt(3 * patch * patch))
    state[f"{trunk}.patch_embed.proj.bias"] = normal(width)
    for layer in range(depth):
        name = f"{trunk}.blocks.{layer}"
        norm(f"{name}.norm1", width)
        dense(f"{name}.attn.qkv.", 3 * width, width)
        dense(f"{name}.attn.proj.", width, width)
        norm(f"{name}.norm2", width)
        dense(f"{name}.mlp.fc1.", mlp, width)
        dense(f"{name}.mlp.fc2.", width, mlp)
    norm(f"{trunk}.norm", width)
    pool = "visual.attn_pool_contrast"
    state[f"{pool}.query"] = normal(1, d_embed, scale=1)
    for part, inside in (("q", d_embed), ("k", width), ("v", width)):
        dense(f"{pool}.attn.{part}_proj_", d_embed, inside, bias="")
    state[f"{pool}.attn.in_proj_bias"] = normal(3 * d_embed)
    dense(f"{pool}.attn.out_proj.", d_embed, d_embed)
    norm(f"{pool}.ln_q", d_embed)
    norm(f"{pool}.ln_k", width)
    norm("visual.ln_contrast", d_embed)
    state["visual.proj_contrast"] = normal(d_embed, d_embed)
    captions = "visual.attn_pool_caption"  # as wide as the trunk: one matrix for queries, keys and values
    state[f"{captions}.query"] = normal(256, width)
    dense(f"{captions}.attn.in_proj_", 3 * width, width)
    dense(f"{captions}.attn.out_proj.", width, width)
    for name in (f"{captions}.ln_q", f"{captions}.ln_k", "visual.ln_caption"):
        norm(name, width)
    return state


def make(folder, size):
    g = torch.Generator().manual_seed(11)
    full = (768, 12, 3072, 28, 16, 512, 32007, 128)
    tiny = (128, 2, 512, 3, 16, 64, 300, 96)
    sizes = full if size == "full" else tiny
    torch.save(state_of(*sizes, g), folder / FILE)
    (folder / TOKENIZER).write_text(json.dumps(tokenizer(sizes[6])))
    return f"conch:{folder}"


def layer_norm(state, x, name, eps):
    return functional.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps)


def linear(state, x, name):
    return functional.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def attend(q, k, v, heads, open_=None):
    """Plain softmax attention of ``(n, length, width)``."""
    n, width = len(q), q.shape[2]
    q, k, v = (x.reshape(n, x.shape[1], heads, -1).transpose(1, 2) for x in (q, k, v))
    scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])
    if open_ is not None:
        scores = scores.masked_fill(~open_, float("-inf"))
    return (scores.softmax(dim=3) @ v).transpose(1, 2).reshape(n, -1, width)


def view(picture, side):
    from PIL import Image

    scale = side / min(picture.size)
    width, height = (side if length == min(picture.size) else int(length * scale) for length in picture.size)
    small = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - side) / 2), round((height - side) / 2)
    small = small.crop((left, top, left + side, top + side)).convert("RGB")
    return torch.from_numpy(((np.asarray(small) / 255 - MEAN) / STD).transpose(2, 0, 1)).float()


def images(folder, pictures):
    state = torch.load(folder / FILE, weights_only=True)
    trunk, width = "visual.trunk", state["visual.trunk.pos_embed"].shape[2]
    patch = state[f"{trunk}.patch_embed.proj.weight"].shape[2]
    side = patch * math.isqrt(state[f"{trunk}.pos_embed"].shape[1] - 1)
    x = torch.stack([view(picture, side) for picture in pictures])
    x = functional.conv2d(
        x, state[f"{trunk}.patch_embed.proj.weight"], state[f"{trunk}.patch_embed.proj.bias"], stride=patch
    )
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([state[f"{trunk}.cls_token"].repeat(len(x), 1, 1), x], dim=1) + state[f"{trunk}.pos_embed"]
    layer = 0
    while f"{trunk}.blocks.{layer}.norm1.weight" in state:
        name = f"{trunk}.blocks.{layer}"
        q, k, v = linear(state, layer_norm(state, x, f"{name}.norm1", 1e-6), f"{name}.attn.qkv").chunk(3, dim=2)
        x = x + linear(state, attend(q, k, v, width // 64), f"{name}.attn.proj")
        y = functional.gelu(linear(state, layer_norm(state, x, f"{name}.norm2", 1e-6), f"{name}.mlp.fc1"))
        x = x + linear(state, y, f"{name}.mlp.fc2")
        layer += 1
    x = layer_norm(state, layer_norm(state, x, f"{trunk}.norm", 1e-6), "visual.attn_pool_contrast.ln_k", 1e-5)
    pool = "visual.attn_pool_contrast"
    q = layer_norm(state, state[f"{pool}.query"], f"{pool}.ln_q", 1e-5).repeat(len(x), 1, 1)
    biases = state[f"{pool}.attn.in_proj_bias"].chunk(3)
    q, k, v = (
        functional.linear(y, state[f"{pool}.attn.{part}_proj_weight"], bias)
        for y, part, bias in zip((q, x, x), "qkv", biases, strict=True)
    )
    pooled = linear(state, attend(q, k, v, 8), f"{pool}.attn.out_proj")[:, 0]
    return layer_norm(state, pooled, "visual.ln_contrast", 1e-5) @ state["visual.proj_contrast"]


def texts(folder, sentences):
    """With all the places there are, as ``tokenize`` and ``TextTransformer`` have it, a sentence at a time."""
    from tokenizers import Tokenizer

    state = torch.load(folder / FILE, weights_only=True)
    n_places, width = state["text.positional_embedding"].shape
    inner = Tokenizer.from_file(str(folder / TOKENIZER))
    rows = []
    for sentence in sentences:
        ids = inner.encode(sentence).ids
        assert len(ids) <= n_places - 1
        tokens = torch.tensor([ids + [0] * (n_places - 1 - len(ids))])
        # The row of the class token: the mask of the words, with a one put in front.
        shifted = functional.pad((tokens != 0)[0].float(), (1, 0), value=1.0).bool()
        open_ = torch.ones(n_places, n_places).tril().bool()
        open_[-1] &= shifted
        x = torch.cat([state["text.token_embedding.weight"][tokens], state["text.cls_emb"][None, None]], dim=1)
        x = x + state["text.positional_embedding"]
        layer = 0
        while f"text.transformer.resblocks.{layer}.ln_1.weight" in state:
            name = f"text.transformer.resblocks.{layer}"
            y = layer_norm(state, x, f"{name}.ln_1", 1e-5)
            y = functional.linear(y, state[f"{name}.attn.in_proj_weight"], state[f"{name}.attn.in_proj_bias"])
            x = x + linear(state, attend(*y.chunk(3, dim=2), width // 64, open_), f"{name}.attn.out_proj")
            y = functional.gelu(linear(state, layer_norm(state, x, f"{name}.ln_2", 1e-5), f"{name}.mlp.c_fc"))
            x = x + linear(state, y, f"{name}.mlp.c_proj")
            layer += 1
        rows.append(layer_norm(state, x[:, -1], "text.ln_final", 1e-5) @ state["text.text_projection"])
    return torch.cat(rows)


ROWS = [Published("CONCH", make, images, texts)]
