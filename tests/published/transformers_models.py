"""CLIP, SigLIP and SigLIP 2 in the Hugging Face format, as the field's checkpoints have them."""

import json
import string
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from tests.published import by_hand, vocabularies
from tests.published.chexzero import ids_of
from tests.published.vlm_row import Published
from torch.nn import functional as F


@dataclass(frozen=True)
class Model:
    """Sizes of one checkpoint and how its files are written; heads and names are the class's own."""

    name: str
    repository: str
    kind: str
    vision: tuple[int, int, int, int]  # width, layers, heads, width of the perceptron
    text: tuple[int, int, int, int]
    image: int
    patch: int
    words: int
    embed: int
    activation: str
    file: str = "model.safetensors"
    resample: int = 3

    def sized(self, size):
        if size == "full":
            return self
        text = (32, 2, 2, 40)
        vision = text if self.kind != "clip" else (64, 2, 2, 80)
        words = self.words if self.kind == "clip" else 1024
        parts = {"vision": vision, "text": text, "image": 5 * self.patch, "words": words}
        return Model(**{**self.__dict__, **parts, "embed": 24 if self.kind == "clip" else 32})


B32 = {"kind": "clip", "vision": (768, 12, 12, 3072), "text": (512, 12, 8, 2048), "image": 224, "words": 49408}
BASE = {"vision": (768, 12, 12, 3072), "text": (768, 12, 12, 3072), "activation": "tanh", "embed": 768}
#: Its row takes some 10 GiB.
SO = {"vision": (1152, 27, 16, 4304), "text": (1152, 27, 16, 4304), "activation": "tanh", "embed": 1152}
QUICK = {"patch": 32, "embed": 512, "activation": "quick", "file": "pytorch_model.bin"}
MODELS = [
    Model("PubMedCLIP", "flaviagiammarino/pubmed-clip-vit-base-patch32", **B32, **QUICK),
    Model("PLIP", "vinid/plip", **B32, **QUICK),
    Model(
        "XrayCLIP", "StanfordAIMI/XrayCLIP__vit-b-16__laion2b-s34b-b88k", **B32, patch=16, embed=512, activation="gelu"
    ),
    Model(
        "XraySigLIP",
        "StanfordAIMI/XraySigLIP__vit-b-16-siglip-512__webli",
        "siglip",
        image=512,
        patch=16,
        words=32000,
        **BASE,
    ),
    Model("MedSigLIP", "google/medsiglip-448", "siglip", image=448, patch=14, words=32000, **SO),
    Model(
        "SigLIP 2", "google/siglip2-base-patch16-224", "siglip", image=224, patch=16, words=256000, resample=2, **BASE
    ),
    Model(
        "SigLIP 2, variable size",
        "google/siglip2-base-patch16-naflex",
        "siglip2",
        image=256,
        patch=16,
        words=256000,
        resample=2,
        **BASE,
    ),
]
CONTEXT = {"clip": 77, "siglip": 64, "siglip2": 64}
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def shapes(m):
    """Every tensor, by the names that the checkpoints have."""
    (v_width, v_layers, _, v_inner), (t_width, t_layers, _, t_inner) = m.vision, m.text
    text, vision = "text_model.", "vision_model."
    found = [("logit_scale", ())] if m.kind == "clip" else [("logit_scale", (1,)), ("logit_bias", (1,))]
    found += [(f"{text}embeddings.token_embedding.weight", (m.words, t_width))]
    found += [(f"{text}embeddings.position_embedding.weight", (CONTEXT[m.kind], t_width))]
    tokens, square = (m.image // m.patch) ** 2, (3, m.patch, m.patch)
    if m.kind == "clip":
        found += [(f"{vision}embeddings.class_embedding", (v_width,))]
        tokens += 1
    cut = (3 * m.patch**2,) if m.kind == "siglip2" else square
    found += [(f"{vision}embeddings.patch_embedding.weight", (v_width, *cut))]
    found += [] if m.kind == "clip" else [(f"{vision}embeddings.patch_embedding.bias", (v_width,))]
    found += [(f"{vision}embeddings.position_embedding.weight", (tokens, v_width))]
    for i in range(t_layers):
        found += by_hand.block_shapes(f"{text}encoder.layers.{i}.", t_width, t_inner, "transformers")
    for i in range(v_layers):
        found += by_hand.block_shapes(f"{vision}encoder.layers.{i}.", v_width, v_inner, "transformers")
    found += [*by_hand.norm(f"{text}final_layer_norm", t_width), *by_hand.norm(f"{vision}post_layernorm", v_width)]
    if m.kind == "clip":
        found += by_hand.norm(f"{vision}pre_layrnorm", v_width)  # as it is spelt there
        return [
            *found,
            ("visual_projection.weight", (m.embed, v_width)),
            ("text_projection.weight", (m.embed, t_width)),
        ]
    found += [*by_hand.affine(f"{text}head", m.embed, t_width), (f"{vision}head.probe", (1, 1, v_width))]
    found += [(f"{vision}head.attention.in_proj_weight", (3 * v_width, v_width))]
    found += [(f"{vision}head.attention.in_proj_bias", (3 * v_width,))]
    found += [*by_hand.affine(f"{vision}head.attention.out_proj", v_width, v_width)]
    found += [*by_hand.norm(f"{vision}head.layernorm", v_width)]
    return [
        *found,
        *by_hand.affine(f"{vision}head.mlp.fc1", v_inner, v_width),
        *by_hand.affine(f"{vision}head.mlp.fc2", v_width, v_inner),
    ]


def config(m):
    """Return ``config.json``."""
    act = {"quick": "quick_gelu", "gelu": "gelu", "tanh": "gelu_pytorch_tanh"}[m.activation]
    towers = []
    for width, layers, heads, inner in (m.text, m.vision):
        tower = {"hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers, "hidden_act": act}
        towers.append(tower | {"num_attention_heads": heads})
    text, vision = towers
    text |= {"vocab_size": m.words, "max_position_embeddings": CONTEXT[m.kind]}
    vision |= {"patch_size": m.patch}
    if m.kind == "clip":
        text |= {"bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407}
        whole = {"projection_dim": m.embed, "architectures": ["CLIPModel"]}
    else:
        end, pad = (1, 0) if m.resample == 2 else (1, 1)
        text |= {"projection_size": m.embed, "bos_token_id": 2, "eos_token_id": end, "pad_token_id": pad}
        whole = {"architectures": [f"{m.kind.capitalize()}Model"]}
    vision |= {"num_patches": (m.image // m.patch) ** 2} if m.kind == "siglip2" else {"image_size": m.image}
    return whole | {"model_type": m.kind, "text_config": text, "vision_config": vision}


def preprocessor(m):
    """Return ``preprocessor_config.json``."""
    steps = {"do_resize": True, "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255}
    steps |= {"resample": m.resample}
    if m.kind == "clip":
        size = {"size": {"shortest_edge": m.image}, "crop_size": {"height": m.image, "width": m.image}}
        crop = {"do_center_crop": True, "do_convert_rgb": True, "image_mean": list(MEAN), "image_std": list(STD)}
        return steps | size | crop | {"image_processor_type": "CLIPImageProcessor"}
    steps |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    if m.kind == "siglip2":
        return steps | {"image_processor_type": "Siglip2ImageProcessor", "patch_size": m.patch, "max_num_patches": 256}
    size = {"height": m.image, "width": m.image}
    return steps | {"image_processor_type": "SiglipImageProcessor", "size": size}


def make(model, folder, size):
    m = model.sized(size)
    folder = folder / m.repository.rpartition("/")[2]
    folder.mkdir()
    state = by_hand.fill(shapes(m))
    if m.kind == "clip" and m.file.endswith(".bin"):  # written by transformers before 4.31
        for tower, tokens in (("text", 77), ("vision", (m.image // m.patch) ** 2 + 1)):
            state[f"{tower}_model.embeddings.position_ids"] = torch.arange(tokens)[None]
    if m.file.endswith(".bin"):
        torch.save(state, folder / m.file)
    else:
        from safetensors.torch import save_file

        save_file(state, folder / m.file, metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config(m)))
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor(m)))
    if m.kind == "clip":
        vocabularies.write_clip(folder)
    elif m.resample == 2:
        vocabularies.write_gemma(folder, m.words)
    else:
        vocabularies.write_t5(folder, m.words)
    return f"transformers:{folder}"


class Tensors:
    """A checkpoint's tensors, read when asked for."""

    def __init__(self, folder):
        from safetensors import safe_open

        whole = folder / "pytorch_model.bin"
        if whole.is_file():
            self.file = torch.load(whole, weights_only=True)
            self.names, self.one = set(self.file), self.file.__getitem__
        else:
            self.file = safe_open(folder / "model.safetensors", "pt")
            self.names, self.one = set(self.file.keys()), self.file.get_tensor

    def __getitem__(self, name):
        return self.one(name)

    def get(self, name):
        return self.one(name) if name in self.names else None


def pixels_of(m, picture):
    """Preprocess one picture: the Pillow resize that the processor names, the rest by hand in float64."""
    image = picture.convert("RGB")
    if m.kind == "clip":
        short = min(image.size)
        image = image.resize(tuple(int(m.image * side / short) for side in image.size), Image.Resampling.BICUBIC)
        left, top = ((side - m.image) // 2 for side in image.size)
        image = image.crop((left, top, left + m.image, top + m.image))
        mean, std = MEAN, STD
    else:
        size = (m.image, m.image) if m.kind == "siglip" else naflex_size(picture.size, m.patch)
        image = image.resize(size, Image.Resampling(m.resample))
        mean, std = [0.5] * 3, [0.5] * 3
    values = (np.asarray(image, dtype=np.float64) / 255 - mean) / std
    return torch.tensor(values.transpose(2, 0, 1), dtype=torch.float32)[None]


def naflex_size(size, patch, most=256):
    """Return the largest size in whole patches, sides rounded up, that keeps at most ``most`` of them."""

    def fits(scale):
        sides = [max(patch, int(np.ceil(side * scale / patch) * patch)) for side in size]
        return sides, (sides[0] // patch) * (sides[1] // patch) <= most

    low, high = 1e-6, 100.0
    while high - low >= 1e-5:
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle)[1] else (low, middle)
    return tuple(fits(low)[0])


def embed_picture(m, state, picture):
    pixels, name = pixels_of(m, picture), "vision_model."
    weight = state[f"{name}embeddings.patch_embedding.weight"]
    positions = state[f"{name}embeddings.position_embedding.weight"]
    if m.kind == "siglip2":  # patches with the channels last, positions stretched to the picture
        weight = weight.unflatten(1, (m.patch, m.patch, 3)).permute(0, 3, 1, 2)
        side = round(len(positions) ** 0.5)
        grid = [length // m.patch for length in pixels.shape[-2:]]
        square = positions.T.unflatten(1, (side, side))[None]
        stretched = F.interpolate(square, grid, mode="bilinear", align_corners=False, antialias=True)
        positions = stretched[0].flatten(1).T
    x = by_hand.patches(weight, pixels)
    if m.kind == "clip":
        x = torch.cat([state[f"{name}embeddings.class_embedding"].expand(1, 1, -1), x], dim=1) + positions
        x = by_hand.layer_norm(state, f"{name}pre_layrnorm", x)
    else:
        x = x + state[f"{name}embeddings.patch_embedding.bias"] + positions
    x = tower(m, state, f"{name}encoder.layers.", x, m.vision)
    if m.kind == "clip":
        return by_hand.linear(state, "visual_projection", by_hand.layer_norm(state, f"{name}post_layernorm", x[0, 0]))
    x = by_hand.layer_norm(state, f"{name}post_layernorm", x, 1e-6)
    head = f"{name}head."
    weights, biases = (state[f"{head}attention.in_proj_{part}"].chunk(3) for part in ("weight", "bias"))
    q, k, v = (F.linear(y, w, b) for y, w, b in zip((state[f"{head}probe"], x, x), weights, biases, strict=True))
    x = by_hand.linear(state, f"{head}attention.out_proj", by_hand.attend(q, k, v, m.vision[2]))
    y = by_hand.linear(state, f"{head}mlp.fc1", by_hand.layer_norm(state, f"{head}layernorm", x, 1e-6))
    return (x + by_hand.linear(state, f"{head}mlp.fc2", by_hand.ACTIVATIONS[m.activation](y)))[0, 0]


def tower(m, state, prefix, x, sizes, mask=None):
    for i in range(sizes[1]):
        eps = 1e-5 if m.kind == "clip" else 1e-6
        x = by_hand.block(state, f"{prefix}{i}.", x, sizes[2], "transformers", m.activation, eps, mask)
    return x


def embed_text(m, state, folder, text):
    name = "text_model."
    if m.kind == "clip":
        ids = ids_of(text)
    else:
        gemma = m.resample == 2
        plain = text.lower() if gemma else text.lower().translate(str.maketrans("", "", string.punctuation))
        ids = torch.tensor(vocabularies.padded_ids(folder, plain, 64, 0 if gemma else 1))
    x = state[f"{name}embeddings.token_embedding.weight"][ids]
    x = (x + state[f"{name}embeddings.position_embedding.weight"][: len(ids)])[None]
    mask = by_hand.causal(len(ids)) if m.kind == "clip" else None
    x = tower(m, state, f"{name}encoder.layers.", x, m.text, mask)
    last = by_hand.layer_norm(state, f"{name}final_layer_norm", x[0, -1], 1e-5 if m.kind == "clip" else 1e-6)
    return by_hand.linear(state, "text_projection" if m.kind == "clip" else f"{name}head", last)


def row(model):
    def opened(folder):
        inside = folder / model.repository.rpartition("/")[2]
        written = json.loads((inside / "config.json").read_text())
        size = "full" if written["text_config"]["hidden_size"] == model.text[0] else "tiny"
        return model.sized(size), Tensors(inside), inside

    def images(folder, pictures):
        m, state, _ = opened(folder)
        return torch.stack([embed_picture(m, state, picture) for picture in pictures])

    def texts(folder, words):
        m, state, inside = opened(folder)
        return torch.stack([embed_text(m, state, inside, word) for word in words])

    return Published(model.name, lambda folder, size: make(model, folder, size), images, texts)


ROWS = [row(model) for model in MODELS]
