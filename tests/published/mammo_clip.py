"""Mammo-CLIP's checkpoints, as its training script writes them (transformers 4.41, EfficientNet-PyTorch's names)."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from tests.published.clinical_pair import Draw, batch_norm, draw_bert, read, texts_of, write
from tests.published.vlm_row import Published

#: Of B0, Tan and Le 2019, table 1: blocks, kernel, stride, widening, channels.
STAGES = (
    *((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80)),
    *((3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)),
)
#: Width, depth, and the square the padding is made for.
SCALES = {"b5": (1.6, 2.2, 456), "b2": (1.1, 1.2, 260)}
#: Channels of a network small enough for every test, at the full size of the picture.
TINY = (3, 2, 3, 2, 3, 4, 5, 6, 12)
CALLED = {"b5": "tf_efficientnet_b5_ns-detect", "b2": "tf_efficientnetv2-detect"}


def channels(base, width):
    """The nearest multiple of eight to a scaled number of channels, not below nine tenths of it."""
    scaled = base * width
    found = max(8, int(scaled + 4) // 8 * 8)
    return found + 8 * (found < 0.9 * scaled)


def blocks(variant, size):
    """Channels of the stem; each block's kernel, stride, widening, channels in and out; channels of the head."""
    width, depth, _ = SCALES[variant]
    full = size == "full"
    stem, *outs, head = [channels(base, width) for base in (32, *(base for *_, base in STAGES), 1280)] if full else TINY
    before, found = stem, []
    for (repeats, kernel, stride, widening, _), out in zip(STAGES, outs, strict=True):
        for index in range(math.ceil(depth * repeats) if full else min(repeats, 2)):
            found.append((kernel, 1 if index else stride, widening, before, out))
            before = out
    return stem, found, head


def make(variant, folder, size, data=("upmc_wo_period",), called=True, whole=True):
    draw = Draw(3)
    stem, shapes, head = blocks(variant, size)
    prefix = "image_encoder."
    draw.linear(f"{prefix}_conv_stem", stem, 3, 3, 3, bias=False)
    draw.batch_norm(f"{prefix}_bn0", stem)
    for index, (kernel, _, widening, into, out) in enumerate(shapes):
        block, inner = f"{prefix}_blocks.{index}", into * widening
        if widening > 1:
            draw.linear(f"{block}._expand_conv", inner, into, 1, 1, bias=False)
            draw.batch_norm(f"{block}._bn0", inner)
        draw.linear(f"{block}._depthwise_conv", inner, 1, kernel, kernel, bias=False)
        draw.batch_norm(f"{block}._bn1", inner)
        squeezed = max(1, int(into * 0.25))
        draw.linear(f"{block}._se_reduce", squeezed, inner, 1, 1)
        draw.linear(f"{block}._se_expand", inner, squeezed, 1, 1)
        draw.linear(f"{block}._project_conv", out, inner, 1, 1, bias=False)
        draw.batch_norm(f"{block}._bn2", out)
        draw.state[f"{block}._bn2.weight"] *= 0.5  # what forty skips add stays in bounds
    draw.linear(f"{prefix}_conv_head", head, shapes[-1][-1], 1, 1, bias=False)
    draw.batch_norm(f"{prefix}_bn1", head)
    settle(draw, shapes, SCALES[variant][2])
    d_embed = 512 if size == "full" else 24
    words = draw_bert(draw, "text_encoder.text_encoder.", size, position_ids=False)
    draw.linear("image_projection.projection", d_embed, head)
    draw.linear("text_projection.projection", d_embed, words)
    draw.state["logit_scale"] = torch.tensor(2.66)
    encoder = {"source": "cnn", "model_type": "cnn"} | ({"name": CALLED[variant]} if called else {})
    config = {"model": {"image_encoder": encoder, "text_encoder": {"pooling": "eos"}}}
    config |= {"data_train": {name: {"data_type": "imagetext"} for name in data}}
    epoch = {"b5": 7, "b2": 10}[variant]
    return f"mammo-clip:{write(folder, f'{variant}-model-best-epoch-{epoch}.tar', draw.state, config, whole)}"


def images_of(variant, folder, images):
    state = read(folder)
    _, shapes, _ = blocks(variant, "full" if len(state["image_encoder._bn1.weight"]) > 1000 else "tiny")
    part = {name.removeprefix("image_encoder."): value for name, value in state.items()}
    rows = torch.cat([features(part, shapes, SCALES[variant][2], view(image)[None]) for image in images])
    return F.linear(rows, state["image_projection.projection.weight"], state["image_projection.projection.bias"])


def settle(draw, shapes, side):
    """Give batch norms the statistics of a picture, roughly, as training does; else deep networks drown or explode."""
    part = {name.removeprefix("image_encoder."): value for name, value in draw.state.items()}

    def observe(x, name):
        spread = 0.6 + torch.rand(x.shape[1], generator=draw.generator)
        part[f"{name}.running_var"].copy_(x.square().mean((0, 2, 3)) * spread + x.square().mean())
        part[f"{name}.running_mean"].copy_(x.mean((0, 2, 3)) * spread)

    coarse = torch.rand(2, 1, 9, 8, generator=draw.generator)  # as the pictures that are shown: grey and smooth
    grey = (F.interpolate(coarse, (1520, 912), mode="bicubic")[..., 400:720, 300:620] - 0.3089) / 0.2505
    features(part, shapes, side, grey.expand(-1, 3, -1, -1), observe)


def features(part, shapes, side, x, observe=None):
    """EfficientNet by its formulas, padded as a square of ``side``; one picture at a time."""

    def silu(x):
        return x * torch.sigmoid(x)

    def norm(x, name):
        if observe is not None:
            observe(x, name)
        return batch_norm(x, part, name, 1e-3)

    def padded(x, name, stride, side, groups=1):
        weight = part[f"{name}.weight"]
        kernel = weight.shape[-1]
        lack = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        x = F.pad(x, [lack // 2, lack - lack // 2] * 2)
        return F.conv2d(x, weight, stride=stride, groups=groups), -(-side // stride)

    x, side = padded(x, "_conv_stem", 2, side)
    x = silu(norm(x, "_bn0"))
    for index, (_, stride, widening, into, out) in enumerate(shapes):
        block, given = f"_blocks.{index}", x
        if widening > 1:
            x = silu(norm(F.conv2d(x, part[f"{block}._expand_conv.weight"]), f"{block}._bn0"))
        x, side = padded(x, f"{block}._depthwise_conv", stride, side, into * widening)
        x = silu(norm(x, f"{block}._bn1"))
        gate = x.mean((2, 3))
        for name in ("_se_reduce", "_se_expand"):
            gate = F.linear(gate, part[f"{block}.{name}.weight"].flatten(1), part[f"{block}.{name}.bias"])
            gate = silu(gate) if name == "_se_reduce" else torch.sigmoid(gate)
        x = norm(F.conv2d(x * gate[:, :, None, None], part[f"{block}._project_conv.weight"]), f"{block}._bn2")
        if stride == 1 and into == out:
            x = x + given
    return silu(norm(F.conv2d(x, part["_conv_head.weight"]), "_bn1")).mean((2, 3))


def view(image):
    """The published preparation, step by step and pixel by pixel."""
    grey = np.asarray(image.convert("L")).astype(int)
    if grey.shape != (1520, 912):
        grey = grey[5:-5, 5:-5] - grey[5:-5, 5:-5].min()
        grey = (grey / grey.max() * 255).astype(int)
        dark = grey * (grey > 40)
        part = dark[len(dark) // 2 - int(0.4 * len(dark)) : len(dark) // 2 + int(0.4 * len(dark))]
        columns = longest([part[:, i].std() != 0 for i in range(part.shape[1])])
        dark, grey = dark[:, columns], grey[:, columns]
        middle, reach = len(columns) // 2, int(0.4 * len(columns))
        grey = grey[longest([row[middle - reach : middle + reach].std() != 0 for row in dark])]
        grey = resized(grey)
    grey = grey.astype(np.float32) - np.float32(grey.min())
    grey = (grey / grey.max() - np.float32(0.3089279)) / np.float32(0.25053555408335154)
    return torch.from_numpy(grey).repeat(3, 1, 1)


def longest(varies):
    """Places whose run is the longest, a run at an edge counted one short."""
    lengths, left = [], 0
    for place, own in enumerate(varies):
        left = left if own else place
        right = place
        while varies[right] and right < len(varies) - 1:
            right += 1
        lengths.append(right - left - 1)
    top = max(lengths)
    return [place for place, length in enumerate(lengths) if length == top]


def resized(grey):
    """OpenCV's area resize to 1520 x 912 where a side grows: two taps an axis, in 2048ths."""
    assert grey.shape[0] < 1520 or grey.shape[1] < 912

    def taps(n_in, n_out):
        for place in range(n_out):
            first = math.floor(place * (1 / (n_out / n_in)))
            share = np.float32(place + 1 - (first + 1) * (n_out / n_in))
            share = np.float32(0) if share <= 0 or first >= n_in - 1 else share - np.floor(share)
            yield first, min(first + 1, n_in - 1), round(float((1 - share) * 2048)), round(float(share * 2048))

    wide = np.stack([grey[:, a] * near + grey[:, b] * far for a, b, near, far in taps(grey.shape[1], 912)], axis=1)
    high = [
        (wide[a] // 16 * near // 65536 + wide[b] // 16 * far // 65536 + 2) // 4
        for a, b, near, far in taps(len(wide), 1520)
    ]
    return np.stack(high)


def row(variant):
    return Published(
        f"Mammo-CLIP, EfficientNet-{variant.upper()}",
        lambda folder, size: make(variant, folder, size),
        lambda folder, images: images_of(variant, folder, images),
        texts_of,
    )


ROWS = [row("b5"), row("b2")]
