"""CheXzero: 302 tensors in OpenAI's layout and order, forward and preprocessing as its repository has them."""

import numpy as np
import torch
from PIL import Image
from tests.published import by_hand
from tests.published.vlm_row import Published
from torch.nn.functional import normalize

FULL = {"embed": 512, "size": 224, "patch": 32, "width": 768, "layers": 12, "text": 512, "text_layers": 12}
TINY = {"embed": 24, "size": 64, "patch": 32, "width": 128, "layers": 2, "text": 64, "text_layers": 2}
SIZES = {"full": FULL, "tiny": TINY}
WORDS, CONTEXT = 49408, 77


def shapes(size):
    """Every tensor of OpenAI's CLIP with a vision transformer, in the order of its ``state_dict``."""
    width, text, embed = size["width"], size["text"], size["embed"]
    tokens = (size["size"] // size["patch"]) ** 2 + 1
    found = [("positional_embedding", (CONTEXT, text)), ("text_projection", (text, embed)), ("logit_scale", ())]
    found += [("visual.class_embedding", (width,)), ("visual.positional_embedding", (tokens, width))]
    found += [("visual.proj", (width, embed)), ("visual.conv1.weight", (width, 3, size["patch"], size["patch"]))]
    found += by_hand.norm("visual.ln_pre", width)
    for i in range(size["layers"]):
        found += by_hand.block_shapes(f"visual.transformer.resblocks.{i}.", width, 4 * width, "openai")
    found += by_hand.norm("visual.ln_post", width)
    for i in range(size["text_layers"]):
        found += by_hand.block_shapes(f"transformer.resblocks.{i}.", text, 4 * text, "openai")
    return [*found, ("token_embedding.weight", (WORDS, text)), *by_hand.norm("ln_final", text)]


def embed_pixels(state, pixels, activation="quick"):
    width = state["visual.conv1.weight"].shape[0]
    x = by_hand.patches(state["visual.conv1.weight"], pixels)
    x = torch.cat([state["visual.class_embedding"].expand(len(x), 1, -1), x], dim=1)
    x = by_hand.layer_norm(state, "visual.ln_pre", x + state["visual.positional_embedding"])
    for i in range(depth(state, "visual.transformer.resblocks.")):
        x = by_hand.block(state, f"visual.transformer.resblocks.{i}.", x, width // 64, "openai", activation)
    return by_hand.layer_norm(state, "visual.ln_post", x[:, 0]) @ state["visual.proj"]


def embed_ids(state, ids, activation="quick"):
    """Embed one text by its token ids, the end among them and no padding."""
    x = (state["token_embedding.weight"][ids] + state["positional_embedding"][: len(ids)])[None]
    for i in range(depth(state, "transformer.resblocks.")):
        mask = by_hand.causal(len(ids))
        heads = x.shape[-1] // 64
        x = by_hand.block(state, f"transformer.resblocks.{i}.", x, heads, "openai", activation, mask=mask)
    return by_hand.layer_norm(state, "ln_final", x[0, -1]) @ state["text_projection"]


def depth(state, prefix):
    return len({name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)})


def ids_of(text):
    import open_clip

    tokenizer = open_clip.SimpleTokenizer()
    return torch.tensor([49406, *tokenizer.encode(text), 49407])


def cubic(n_in, n_out):
    """Weights of bicubic interpolation (a = -0.75, half-pixel centres, no antialias) as ``(n_out, n_in)``."""
    centre = (np.arange(n_out) + 0.5) * n_in / n_out - 0.5
    weights = np.zeros((n_out, n_in))
    for tap in range(-1, 3):
        at = np.floor(centre) + tap
        d = np.abs(centre - at)
        near = 1.25 * d**3 - 2.25 * d**2 + 1
        far = -0.75 * (d**3 - 5 * d**2 + 8 * d - 4)
        np.add.at(weights, (np.arange(n_out), np.clip(at, 0, n_in - 1).astype(int)), np.where(d <= 1, near, far))
    return weights


def pixels_of(picture, size):
    """``data_process.preprocess`` and ``zero_shot.make``'s transforms, the last of them in float64 by hand."""
    ratio = float(320) / max(picture.size)
    new = tuple(int(side * ratio) for side in picture.size)
    square = Image.new("L", (320, 320))
    small = picture.convert("RGB").resize(new, Image.Resampling.LANCZOS)
    square.paste(small, ((320 - new[0]) // 2, (320 - new[1]) // 2))
    levels = (np.asarray(square, dtype=np.float64) - 101.48761) / 83.43944
    weights = cubic(320, size)
    return torch.tensor(weights @ levels @ weights.T, dtype=torch.float32).expand(3, -1, -1)


def write(folder, size, members, half=()):
    for seed in range(members):
        state = by_hand.fill(shapes(SIZES[size]), seed)
        if seed in half:
            state = {name: values.half() for name, values in state.items()}
        torch.save(state, folder / f"best_64_5e-05_original_{22000 + seed}_0.864.pt")


def states(folder):
    for path in sorted(folder.glob("best_*.pt")):
        yield {name: values.float() for name, values in torch.load(path, weights_only=True).items()}


def make_one(folder, size):
    write(folder, size, 1)
    return f"chexzero:{next(folder.glob('best_*.pt'))}"


def make_ensemble(folder, size):
    write(folder, size, 2, half=(1,))
    return f"chexzero:{folder}"


def images(folder, pictures):
    rows = []
    for state in states(folder):
        side = round((len(state["visual.positional_embedding"]) - 1) ** 0.5) * state["visual.conv1.weight"].shape[-1]
        pixels = torch.stack([pixels_of(picture, side) for picture in pictures])
        rows.append(normalize(embed_pixels(state, pixels), dim=1))
    return torch.cat(rows, dim=1)


def texts(folder, words):
    """Rows whose product with those of images is the difference of the two cosines."""
    rows = []
    for state in states(folder):
        pairs = [[embed_ids(state, ids_of(text)) for text in (word, f"no {word}")] for word in words]
        rows.append(torch.stack([normalize(yes, dim=0) - normalize(no, dim=0) for yes, no in pairs]))
    return torch.cat(rows, dim=1)


ROWS = [
    Published("CheXzero", make_one, images, texts),
    Published("CheXzero, ensemble", make_ensemble, images, texts),
]
