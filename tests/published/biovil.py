"""BioViL and BioViL-T as microsoft/hi-ml (hi-ml-multimodal, MIT) and their two hub repositories publish them.

Names of tensors: `ImageModel`, `ImageEncoder`, `MultiImageEncoder`, `VisionTransformerPooler` and `MLP` of hi-ml, around
torchvision's ResNet-50 with its 1,000 classes; `CXRBertModel` is transformers' BertForMaskedLM with a projection head.
The sizes of the published files agree with these lists: 104 and 110 MB, and 439 and 441 MB for the text models, of which
BioViL-T's has a pooler besides.
"""

import json
import math
from pathlib import Path

import numpy as np
import torch
from tests.published.vlm_row import Published
from torch.nn import functional

IMAGE = {False: "biovil_image_resnet50_proj_size_128.pt", True: "biovil_t_image_model_proj_size_128.pt"}
NAME = {False: "microsoft/BiomedVLP-CXR-BERT-specialized", True: "microsoft/BiomedVLP-BioViL-T"}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [
    "mass",
    "small",
    "left",
    "pleural",
    "effusion",
    "no",
    "focal",
    "consolidation",
    "in",
    "right",
    "lower",
    "frontal",
]


def vocabulary(n_words):
    letters = [chr(ord("a") + i) for i in range(26)]
    known = [*SPECIAL, *WORDS, *letters, *(f"##{c}" for c in letters), *"0123456789.,-?!"]
    known = list(dict.fromkeys(known))
    return known + [f"[unused{i}]" for i in range(n_words - len(known))]


def normal(shape, generator, scale=1.0):
    return torch.randn(shape, generator=generator) * scale


def weight(shape, generator):
    """Of a size that keeps what passes through at its own."""
    return normal(shape, generator, 1.4 / math.sqrt(math.prod(shape[1:])))


def batch_norm(state, name, n, g):
    state[f"{name}.weight"] = 0.5 + torch.rand(n, generator=g)
    state[f"{name}.bias"] = normal(n, g, 0.3)
    state[f"{name}.running_mean"] = normal(n, g, 0.3)
    state[f"{name}.running_var"] = 0.5 + torch.rand(n, generator=g)
    state[f"{name}.num_batches_tracked"] = torch.tensor(100)


def dense(state, name, outside, inside, g, bias=True):
    state[f"{name}.weight"] = weight((outside, inside), g)
    if bias:
        state[f"{name}.bias"] = normal(outside, g, 0.2)


def layer_norm(state, name, n, g):
    state[f"{name}.weight"] = 0.5 + torch.rand(n, generator=g)
    state[f"{name}.bias"] = normal(n, g, 0.3)


def image_state(with_time, depths, base, d_vit, d_embed, n_classes, g):
    state, resnet = {}, "encoder.encoder"
    state[f"{resnet}.conv1.weight"] = weight((64, 3, 7, 7), g)
    batch_norm(state, f"{resnet}.bn1", 64, g)
    # Grey films between 0 and 1 come out around 0 and large, or the biases alone would decide, the same for every film.
    state[f"{resnet}.bn1.running_mean"] = 0.5 * state[f"{resnet}.conv1.weight"].sum(dim=(1, 2, 3))
    state[f"{resnet}.bn1.running_var"] *= 0.01
    wide = 64
    for stage, depth in enumerate(depths, start=1):
        narrow, out = base * 2 ** (stage - 1), 256 * 2 ** (stage - 1)
        for block in range(depth):
            name = f"{resnet}.layer{stage}.{block}"
            sizes = ((narrow, wide, 1, 1), (narrow, narrow, 3, 3), (out, narrow, 1, 1))
            for i, shape in enumerate(sizes, start=1):
                state[f"{name}.conv{i}.weight"] = weight(shape, g)
                batch_norm(state, f"{name}.bn{i}", shape[0], g)
            if block == 0:
                state[f"{name}.downsample.0.weight"] = weight((out, wide, 1, 1), g)
                batch_norm(state, f"{name}.downsample.1", out, g)
            wide = out
    dense(state, f"{resnet}.fc", n_classes, wide, g)
    if with_time:
        state["encoder.backbone_to_vit.weight"] = weight((d_vit, wide, 1, 1), g)
        state["encoder.missing_previous_emb"] = normal((1, d_vit, 1, 1), g)
        state["encoder.vit_pooler.type_embed"] = normal((2, 1, d_vit), g)
        for block in range(3):
            name = f"encoder.vit_pooler.blocks.{block}"
            layer_norm(state, f"{name}.norm1", d_vit, g)
            for part in ("proj_q", "proj_k", "proj_v"):
                dense(state, f"{name}.attn.{part}", d_vit, d_vit, g, bias=False)
            dense(state, f"{name}.attn.proj", d_vit, d_vit, g)
            layer_norm(state, f"{name}.norm2", d_vit, g)
            dense(state, f"{name}.mlp.fc1", d_vit, d_vit, g)
            dense(state, f"{name}.mlp.fc2", d_vit, d_vit, g)
        layer_norm(state, "encoder.vit_pooler.norm_post", d_vit, g)
        wide = 2 * d_vit
    state["projector.model.0.weight"] = weight((d_embed, wide, 1, 1), g)
    batch_norm(state, "projector.model.1", d_embed, g)
    state["projector.model.3.weight"] = weight((d_embed, d_embed, 1, 1), g)
    state["projector.model.3.bias"] = normal(d_embed, g, 0.2)
    return state


def text_state(with_time, n_words, width, depth, inner, length, d_embed, g):
    state = {"bert.embeddings.position_ids": torch.arange(length)[None]}
    state["bert.embeddings.word_embeddings.weight"] = normal((n_words, width), g)
    state["bert.embeddings.position_embeddings.weight"] = normal((length, width), g, 0.5)
    state["bert.embeddings.token_type_embeddings.weight"] = normal((2, width), g, 0.5)
    layer_norm(state, "bert.embeddings.LayerNorm", width, g)
    for layer in range(depth):
        name = f"bert.encoder.layer.{layer}"
        for part in ("query", "key", "value"):
            dense(state, f"{name}.attention.self.{part}", width, width, g)
        dense(state, f"{name}.attention.output.dense", width, width, g)
        layer_norm(state, f"{name}.attention.output.LayerNorm", width, g)
        dense(state, f"{name}.intermediate.dense", inner, width, g)
        dense(state, f"{name}.output.dense", width, inner, g)
        layer_norm(state, f"{name}.output.LayerNorm", width, g)
    if with_time:
        dense(state, "bert.pooler.dense", width, width, g)
    state["cls.predictions.bias"] = normal(n_words, g)
    dense(state, "cls.predictions.transform.dense", width, width, g)
    layer_norm(state, "cls.predictions.transform.LayerNorm", width, g)
    state["cls.predictions.decoder.weight"] = state["bert.embeddings.word_embeddings.weight"]
    state["cls.predictions.decoder.bias"] = state["cls.predictions.bias"]
    dense(state, "cls_projection_head.dense_to_hidden", d_embed, width, g)
    layer_norm(state, "cls_projection_head.LayerNorm", d_embed, g)
    dense(state, "cls_projection_head.dense_to_output", d_embed, d_embed, g)
    return state


def make(folder, size, with_time):
    g = torch.Generator().manual_seed(3 + with_time)
    full = size == "full"
    d_embed = 128 if full else 12
    image = ((3, 4, 6, 3), 64, 256, d_embed, 1000) if full else ((1, 2, 1, 1), 4, 16, d_embed, 5)
    text = (30522, 768, 12, 3072, 512, d_embed) if full else (100, 128, 2, 96, 40, d_embed)
    torch.save(image_state(with_time, *image, g), folder / IMAGE[with_time])
    torch.save(text_state(with_time, *text, g), folder / "pytorch_model.bin")
    (folder / "vocab.txt").write_text("\n".join(vocabulary(text[0])) + "\n", encoding="utf-8")
    config = {"_name_or_path": NAME[with_time], "architectures": ["CXRBertModel"], "projection_size": d_embed}
    config |= {"auto_map": {"AutoModel": "modeling_cxrbert.CXRBertModel"}, "vocab_size": text[0]}
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = {"do_lower_case": True, "tokenizer_class": "CXRBertTokenizer", "strip_accents": None}
    tokenizer |= {"auto_map": {"AutoTokenizer": ["configuration_cxrbert.CXRBertTokenizer", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    return f"biovil:{folder}"


def view(picture, side):
    """Preprocess as hi-ml does, with PIL and numpy alone."""
    from PIL import Image

    pixels = np.asarray(picture).astype(float)
    pixels = pixels - pixels.min()
    pixels = (pixels / pixels.max() * 255).astype(np.uint8)
    grey = Image.fromarray(pixels).convert("L")
    width, height = grey.size
    short = min(width, height)
    grey = grey.resize((int(512 * width / short), int(512 * height / short)), Image.Resampling.BILINEAR)
    left, top = round((grey.width - side) / 2), round((grey.height - side) / 2)
    grey = grey.crop((left, top, left + side, top + side))
    return torch.from_numpy(np.stack([np.asarray(grey)] * 3) / 255).float()


def patches(folder, pictures, with_time):
    """Patches in the joint space, ``(n, d, rows, columns)``, by functional operations on the published tensors."""
    state = torch.load(folder / IMAGE[with_time], weights_only=True)

    def norm(x, name):
        parts = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return functional.batch_norm(x, *parts, training=False, eps=1e-5)

    x = torch.stack([view(picture, 448 if with_time else 480) for picture in pictures])
    x = functional.conv2d(x, state["encoder.encoder.conv1.weight"], stride=2, padding=3)
    x = functional.max_pool2d(functional.relu(norm(x, "encoder.encoder.bn1")), 3, stride=2, padding=1)
    for stage in (1, 2, 3, 4):
        block = 0
        while f"encoder.encoder.layer{stage}.{block}.conv1.weight" in state:
            name, stride = f"encoder.encoder.layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = functional.relu(norm(functional.conv2d(x, state[f"{name}.conv1.weight"]), f"{name}.bn1"))
            y = functional.conv2d(y, state[f"{name}.conv2.weight"], stride=stride, padding=1)
            y = functional.relu(norm(y, f"{name}.bn2"))
            y = norm(functional.conv2d(y, state[f"{name}.conv3.weight"]), f"{name}.bn3")
            if block == 0:
                x = functional.conv2d(x, state[f"{name}.downsample.0.weight"], stride=stride)
                x = norm(x, f"{name}.downsample.1")
            x = functional.relu(x + y)
            block += 1
    if with_time:
        x = functional.conv2d(x, state["encoder.backbone_to_vit.weight"])
        x = torch.cat([x, state["encoder.missing_previous_emb"].repeat(len(x), 1, *x.shape[2:])], dim=1)
    x = functional.relu(norm(functional.conv2d(x, state["projector.model.0.weight"]), "projector.model.1"))
    return functional.conv2d(x, state["projector.model.3.weight"], state["projector.model.3.bias"])


def images(folder, pictures, with_time):
    return patches(folder, pictures, with_time).mean(dim=(2, 3))


def texts(folder, sentences):
    """The last layer's first token through the head, by transformers' BertForMaskedLM, a sentence at a time."""
    from transformers import BertConfig, BertForMaskedLM, BertTokenizer

    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    n_words, width = state["bert.embeddings.word_embeddings.weight"].shape
    depth = len({name.split(".")[3] for name in state if name.startswith("bert.encoder.layer.")})
    config = BertConfig(
        vocab_size=n_words,
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=width // 64,
        intermediate_size=len(state["bert.encoder.layer.0.intermediate.dense.weight"]),
        max_position_embeddings=len(state["bert.embeddings.position_embeddings.weight"]),
    )
    model = BertForMaskedLM(config)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not missing
    own = ("cls_projection_head.", "bert.pooler.", "bert.embeddings.position_ids")
    assert all(name.startswith(own) for name in unexpected)
    tokenizer = BertTokenizer(vocab=str(Path(folder) / "vocab.txt"), do_lower_case=True)
    rows = []
    for sentence in sentences:
        tokens = tokenizer(sentence.rstrip("!?."), return_tensors="pt")
        with torch.no_grad():
            hidden = model.eval()(**tokens, output_hidden_states=True).hidden_states[-1][:, 0]
        head = {name.rpartition("projection_head.")[2]: v for name, v in state.items() if "projection_head" in name}
        hidden = functional.linear(hidden, head["dense_to_hidden.weight"], head["dense_to_hidden.bias"])
        hidden = functional.gelu(hidden)
        n = (hidden.shape[1],)
        hidden = functional.layer_norm(hidden, n, head["LayerNorm.weight"], head["LayerNorm.bias"], eps=1e-12)
        rows.append(functional.linear(hidden, head["dense_to_output.weight"], head["dense_to_output.bias"]))
    return torch.cat(rows)


def row(name, with_time):
    return Published(
        name,
        lambda folder, size: make(folder, size, with_time),
        lambda folder, pictures: images(folder, pictures, with_time),
        texts,
    )


ROWS = [row("BioViL", False), row("BioViL-T", True)]
