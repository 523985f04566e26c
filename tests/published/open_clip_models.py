"""open_clip checkpoints as they lie on the hub: ``open_clip_config.json``, weights, tokenizer."""

import json
import string

import numpy as np
import torch
from PIL import Image
from tests.published import by_hand, chexzero, vocabularies
from tests.published.vlm_row import Published
from torch.nn import functional as F

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
#: timm's names of the vision towers, their width, depth, heads and side in pixels.
TOWERS = {"full": ("vit_base_patch16_224", 768, 12, 12, 224), "tiny": ("test_vit", 64, 6, 2, 160)}
BERT = {"full": (768, 12, 3072, 30522, 512), "tiny": (128, 2, 96, 256, 300)}
BERT_NAME = "BiomedNLP-BiomedBERT-base-uncased-abstract"
#: The preprocessor configuration that is published with each: open_clip's defaults, or SigLIP's.
CLIP_PIXELS = {"mean": list(MEAN), "std": list(STD)}


def pixels_of(picture, size, mean=MEAN, std=STD, squash=False):
    image = picture.convert("RGB")
    if squash:
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    else:
        short = min(image.size)
        image = image.resize(tuple(int(size * side / short) for side in image.size), Image.Resampling.BICUBIC)
        left, top = (round((side - size) / 2.0) for side in image.size)
        image = image.crop((left, top, left + size, top + size))
    values = (np.asarray(image, dtype=np.float64) / 255 - mean) / std
    return torch.tensor(values.transpose(2, 0, 1), dtype=torch.float32)[None]


def save(folder, config, pixels, state, name="open_clip_pytorch_model.bin"):
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": pixels}))
    if name.endswith(".bin"):
        torch.save(state, folder / name)
    else:
        from safetensors.torch import save_file

        save_file(state, folder / name)
    return f"open_clip:local-dir:{folder}"


def opened(folder):
    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    whole = folder / "open_clip_pytorch_model.bin"
    if whole.is_file():
        return config, torch.load(whole, weights_only=True)
    from safetensors.torch import load_file

    return config, load_file(folder / "open_clip_model.safetensors")


# BiomedCLIP: a timm ViT with a linear head, a BERT with an MLP.
BIOMEDCLIP = "BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"


def vit_shapes(prefix, width, layers, tokens, patch, cls):
    found = [(f"{prefix}cls_token", (1, 1, width))] if cls else []
    found += [(f"{prefix}pos_embed", (1, tokens, width))]
    found += [
        (f"{prefix}patch_embed.proj.weight", (width, 3, patch, patch)),
        (f"{prefix}patch_embed.proj.bias", (width,)),
    ]
    for i in range(layers):
        found += by_hand.block_shapes(f"{prefix}blocks.{i}.", width, (3 if width == 64 else 4) * width, "timm")
    return [*found, *by_hand.norm(f"{prefix}norm", width)]


def bert_shapes(prefix, sizes):
    width, layers, inner, words, positions = sizes
    found = [(f"{prefix}embeddings.word_embeddings.weight", (words, width))]
    found += [(f"{prefix}embeddings.position_embeddings.weight", (positions, width))]
    found += [(f"{prefix}embeddings.token_type_embeddings.weight", (2, width))]
    found += by_hand.norm(f"{prefix}embeddings.LayerNorm", width)
    for i in range(layers):
        layer = f"{prefix}encoder.layer.{i}."
        for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            found += by_hand.affine(f"{layer}{part}", width, width)
        found += by_hand.norm(f"{layer}attention.output.LayerNorm", width)
        found += by_hand.affine(f"{layer}intermediate.dense", inner, width)
        found += by_hand.affine(f"{layer}output.dense", width, inner)
        found += by_hand.norm(f"{layer}output.LayerNorm", width)
    return found


def make_biomedclip(folder, size):
    (timm_name, width, layers, _, side), bert = TOWERS[size], BERT[size]
    embed = 512
    shapes = [("logit_scale", ()), *vit_shapes("visual.trunk.", width, layers, (side // 16) ** 2 + 1, 16, cls=True)]
    shapes += [("visual.head.proj.weight", (embed, width)), *bert_shapes("text.transformer.", bert)]
    middle = (bert[0] + embed) // 2
    shapes += [("text.proj.0.weight", (middle, bert[0])), ("text.proj.2.weight", (embed, middle))]
    state = by_hand.fill(shapes)
    state["text.transformer.embeddings.position_ids"] = torch.arange(bert[4])[None]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *vocabularies.PIECES]
    words += [f"[unused{i}]" for i in range(bert[3] - len(words))]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True})
    )
    tower = folder / BERT_NAME  # the hub keeps it in a repository of its own
    tower.mkdir()
    settings = {"model_type": "bert", "architectures": ["BertForMaskedLM"], "hidden_act": "gelu"}
    settings |= {"hidden_size": bert[0], "num_hidden_layers": bert[1], "num_attention_heads": bert[0] // 64}
    settings |= {"intermediate_size": bert[2], "vocab_size": bert[3], "max_position_embeddings": bert[4]}
    (tower / "config.json").write_text(json.dumps(settings))
    vision = {"timm_model_name": timm_name, "timm_model_pretrained": False, "timm_pool": "", "timm_proj": "linear"}
    text = {"hf_model_name": f"microsoft/{BERT_NAME}", "hf_tokenizer_name": f"microsoft/{BERT_NAME}"}
    text |= {"hf_proj_type": "mlp", "hf_pooler_type": "cls_last_hidden_state_pooler", "context_length": 256}
    config = {"embed_dim": embed, "vision_cfg": vision | {"image_size": side}, "text_cfg": text}
    return save(folder, config, CLIP_PIXELS, state)


def biomedclip_images(folder, pictures):
    config, state = opened(folder)
    tower = next(sizes for sizes in TOWERS.values() if sizes[0] == config["vision_cfg"]["timm_model_name"])
    rows = []
    for picture in pictures:
        x = vit(state, "visual.trunk.", pixels_of(picture, tower[4]), tower[3])
        rows.append(state["visual.head.proj.weight"] @ x[0, 0])
    return torch.stack(rows)


def vit(state, prefix, pixels, heads):
    x = by_hand.patches(state[f"{prefix}patch_embed.proj.weight"], pixels) + state[f"{prefix}patch_embed.proj.bias"]
    if f"{prefix}cls_token" in state:
        x = torch.cat([state[f"{prefix}cls_token"], x], dim=1)
    x = x + state[f"{prefix}pos_embed"]
    for i in range(chexzero.depth(state, f"{prefix}blocks.")):
        x = by_hand.block(state, f"{prefix}blocks.{i}.", x, heads, "timm", "gelu", 1e-6)
    return by_hand.layer_norm(state, f"{prefix}norm", x, 1e-6)


def biomedclip_texts(folder, texts):
    _, state = opened(folder)
    words = (folder / "vocab.txt").read_text().split("\n")
    rows = []
    for text in texts:
        ids = torch.tensor([2, *(words.index(word) for word in text.lower().split()), 3])
        x = bert(state, "text.transformer.", ids)[0]
        rows.append(state["text.proj.2.weight"] @ F.gelu(state["text.proj.0.weight"] @ x))
    return torch.stack(rows)


def bert(state, prefix, ids):
    """Return the last hidden states of one text, ``(tokens, width)``; norms come after, epsilon 1e-12."""
    name = f"{prefix}embeddings."
    x = state[f"{name}word_embeddings.weight"][ids] + state[f"{name}position_embeddings.weight"][: len(ids)]
    x = by_hand.layer_norm(state, f"{name}LayerNorm", x + state[f"{name}token_type_embeddings.weight"][0], 1e-12)[None]
    heads = x.shape[-1] // 64
    for i in range(chexzero.depth(state, f"{prefix}encoder.layer.")):
        layer = f"{prefix}encoder.layer.{i}."
        q, k, v = (by_hand.linear(state, f"{layer}attention.self.{part}", x) for part in ("query", "key", "value"))
        y = by_hand.linear(state, f"{layer}attention.output.dense", by_hand.attend(q, k, v, heads))
        x = by_hand.layer_norm(state, f"{layer}attention.output.LayerNorm", x + y, 1e-12)
        y = by_hand.linear(
            state, f"{layer}output.dense", F.gelu(by_hand.linear(state, f"{layer}intermediate.dense", x))
        )
        x = by_hand.layer_norm(state, f"{layer}output.LayerNorm", x + y, 1e-12)
    return x[0]


# A CLIP of open_clip's own class, as QuiltNet and DermLIP are: OpenAI's names, GELU.


def make_plain(patch):
    def make(folder, size):
        sizes = chexzero.SIZES[size] | {"patch": patch}
        sizes |= {"size": 224} if size == "full" else {"size": 3 * patch}
        state = by_hand.fill(chexzero.shapes(sizes))
        vision = {"image_size": sizes["size"], "layers": sizes["layers"], "width": sizes["width"], "patch_size": patch}
        text = {"context_length": 77, "vocab_size": 49408, "width": sizes["text"], "heads": sizes["text"] // 64}
        config = {
            "embed_dim": sizes["embed"],
            "vision_cfg": vision,
            "text_cfg": text | {"layers": sizes["text_layers"]},
        }
        return save(folder, config, CLIP_PIXELS, state)

    return make


def plain_images(folder, pictures):
    config, state = opened(folder)
    size = config["vision_cfg"]["image_size"]
    return torch.cat([chexzero.embed_pixels(state, pixels_of(picture, size), "gelu") for picture in pictures])


def plain_texts(folder, texts):
    _, state = opened(folder)
    return torch.stack([chexzero.embed_ids(state, chexzero.ids_of(text), "gelu") for text in texts])


# SigLIP: a timm ViT read by attention, a text tower that is not causal and is read at its last place.


def make_siglip(folder, size):
    width, layers, words = 768, 12 if size == "full" else 1, 32000  # timm has no smaller tower of this kind
    timm_name = "vit_base_patch16_siglip_224"
    trunk = "visual.trunk."
    shapes = [("logit_scale", ()), ("logit_bias", ()), *vit_shapes(trunk, width, 12, 196, 16, cls=False)]
    shapes += [(f"{trunk}attn_pool.latent", (1, 1, width)), *by_hand.affine(f"{trunk}attn_pool.q", width, width)]
    shapes += [
        *by_hand.affine(f"{trunk}attn_pool.kv", 2 * width, width),
        *by_hand.affine(f"{trunk}attn_pool.proj", width, width),
    ]
    shapes += [
        *by_hand.norm(f"{trunk}attn_pool.norm", width),
        *by_hand.affine(f"{trunk}attn_pool.mlp.fc1", 4 * width, width),
    ]
    shapes += [*by_hand.affine(f"{trunk}attn_pool.mlp.fc2", width, 4 * width)]
    shapes += [("text.positional_embedding", (64, width)), ("text.token_embedding.weight", (words, width))]
    for i in range(layers):
        shapes += by_hand.block_shapes(f"text.transformer.resblocks.{i}.", width, 4 * width, "openai")
    shapes += [*by_hand.norm("text.ln_final", width), *by_hand.affine("text.text_projection", width, width)]
    vocabularies.write_t5(folder, words, "T5Tokenizer")
    vision = {"image_size": 224, "timm_model_name": timm_name, "timm_model_pretrained": False}
    vision |= {"timm_pool": "map", "timm_proj": "none"}
    text = {"context_length": 64, "vocab_size": words, "hf_tokenizer_name": "timm/ViT-B-16-SigLIP", "width": width}
    text |= {"tokenizer_kwargs": {"clean": "canonicalize"}, "heads": width // 64, "layers": layers, "pool_type": "last"}
    text |= {"no_causal_mask": True, "proj_bias": True, "norm_kwargs": {"eps": 1e-6}}
    config = {"embed_dim": width, "init_logit_bias": -10, "custom_text": True, "vision_cfg": vision, "text_cfg": text}
    pixels = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
    return save(folder, config, pixels, by_hand.fill(shapes), "open_clip_model.safetensors")


def siglip_images(folder, pictures):
    _, state = opened(folder)
    pool, rows = "visual.trunk.attn_pool.", []
    for picture in pictures:
        x = vit(state, "visual.trunk.", pixels_of(picture, 224, 0.5, 0.5, squash=True), 12)
        k, v = by_hand.linear(state, f"{pool}kv", x).chunk(2, dim=-1)
        q = by_hand.linear(state, f"{pool}q", state[f"{pool}latent"])
        x = by_hand.linear(state, f"{pool}proj", by_hand.attend(q, k, v, x.shape[-1] // 64))
        y = by_hand.linear(state, f"{pool}mlp.fc1", by_hand.layer_norm(state, f"{pool}norm", x, 1e-6))
        rows.append((x + by_hand.linear(state, f"{pool}mlp.fc2", F.gelu(y)))[0, 0])
    return torch.stack(rows)


def siglip_texts(folder, texts):
    _, state = opened(folder)
    rows = []
    for text in texts:
        plain = text.lower().translate(str.maketrans("", "", string.punctuation))
        ids = torch.tensor(vocabularies.padded_ids(folder, plain, 64, 1))
        x = (state["text.token_embedding.weight"][ids] + state["text.positional_embedding"])[None]
        for i in range(chexzero.depth(state, "text.transformer.resblocks.")):
            x = by_hand.block(state, f"text.transformer.resblocks.{i}.", x, x.shape[-1] // 64, "openai", "gelu", 1e-6)
        rows.append(
            by_hand.linear(state, "text.text_projection", by_hand.layer_norm(state, "text.ln_final", x[0, -1], 1e-6))
        )
    return torch.stack(rows)


ROWS = [
    Published("BiomedCLIP", make_biomedclip, biomedclip_images, biomedclip_texts, repository=BIOMEDCLIP),
    Published("an open_clip ViT-B/32", make_plain(32), plain_images, plain_texts, generic=True),
    Published("an open_clip ViT-B/16", make_plain(16), plain_images, plain_texts, generic=True),
    Published("an open_clip SigLIP ViT-B/16", make_siglip, siglip_images, siglip_texts, generic=True),
]
