"""CXR-CLIP's checkpoints, as its training script writes them (transformers 4.26, torchvision's ResNet)."""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from tests.published.clinical_pair import Draw, batch_norm, draw_bert, read, texts_of, write
from tests.published.vlm_row import Published

WINDOW = 7


def config(tower, *data):
    encoder = {"source": "torchvision", "name": "resnet", "pretrained": True}
    if tower == "swint":
        encoder = {"source": "huggingface", "name": "microsoft/swin-tiny-patch4-window7-224", "model_type": "swin"}
    model = {"image_encoder": encoder, "text_encoder": {"pooling": "eos"}, "projection_head": {"name": "linear"}}
    return {"model": model, "data_train": {name: {"name": name, "data_type": "imagetext"} for name in data}}


def make_resnet(folder, size, **settings):
    draw = Draw(1)
    depths, group = ((3, 4, 6, 3), 64) if size == "full" else ((1, 2, 1, 1), 4)
    prefix = "image_encoder.resnet."
    draw.linear(f"{prefix}conv1", 64, 3, 7, 7, bias=False, scale=1.4)
    draw.batch_norm(f"{prefix}bn1", 64)
    into = 64
    for stage, depth in enumerate(depths):
        inner, out = group * 2**stage, 256 * 2**stage
        for index in range(depth):
            block = f"{prefix}layer{stage + 1}.{index}"
            for i, (a, b, k) in enumerate(((into, inner, 1), (inner, inner, 3), (inner, out, 1)), 1):
                draw.linear(f"{block}.conv{i}", b, a, k, k, bias=False, scale=1.4)
                draw.batch_norm(f"{block}.bn{i}", b)
            if index == 0:
                draw.linear(f"{block}.downsample.0", out, into, 1, 1, bias=False)
                draw.batch_norm(f"{block}.downsample.1", out)
            into = out
    return f"cxr-clip:{finish(draw, folder, size, into, 'r50', **settings)}"


def make_swin(folder, size, **settings):
    draw = Draw(2)
    width, depths, heads = (96, (2, 2, 6, 2), (3, 6, 12, 24)) if size == "full" else (8, (2, 1, 2, 2), (1, 2, 2, 4))
    prefix = "image_encoder.image_encoder."
    draw.linear(f"{prefix}embeddings.patch_embeddings.projection", width, 3, 4, 4, scale=2)
    draw.norm(f"{prefix}embeddings.norm", width)
    for stage, (depth, n_heads) in enumerate(zip(depths, heads, strict=True)):
        layer = f"{prefix}encoder.layers.{stage}"
        for index in range(depth):
            block = f"{layer}.blocks.{index}"
            draw.norm(f"{block}.layernorm_before", width)
            inside = f"{block}.attention.self"
            draw.state[f"{inside}.relative_position_bias_table"] = draw.normal((2 * WINDOW - 1) ** 2, n_heads)
            draw.state[f"{inside}.relative_position_index"] = places()
            for name in ("query", "key", "value"):
                draw.linear(f"{inside}.{name}", width, width, scale=1.5)
            draw.linear(f"{block}.attention.output.dense", width, width)
            draw.norm(f"{block}.layernorm_after", width)
            draw.linear(f"{block}.intermediate.dense", 4 * width, width)
            draw.linear(f"{block}.output.dense", width, 4 * width)
        if stage < len(depths) - 1:
            draw.linear(f"{layer}.downsample.reduction", 2 * width, 4 * width, bias=False)
            draw.norm(f"{layer}.downsample.norm", 4 * width)
            width *= 2
    draw.norm(f"{prefix}layernorm", width)
    return f"cxr-clip:{finish(draw, folder, size, width, 'swint', **settings)}"


def finish(draw, folder, size, width, tower, data=("mimic_cxr", "chexpert"), name="mc"):
    d_embed = 512 if size == "full" else 24
    words = draw_bert(draw, "text_encoder.text_encoder.", size, position_ids=True)
    draw.linear("image_projection.projection", d_embed, width)
    draw.linear("text_projection.projection", d_embed, words)
    draw.state["logit_scale"] = torch.tensor(2.66)
    return write(folder, f"{tower}_{name}.tar", draw.state, config(tower, *data))


def places():
    """Row of the table for each pair of places in a window: offset down times 13, plus offset to the right."""
    axis = torch.arange(WINDOW)
    down, right = (grid.flatten() for grid in torch.meshgrid(axis, axis, indexing="ij"))
    side = 2 * WINDOW - 1
    return (down[:, None] - down + WINDOW - 1) * side + right[:, None] - right + WINDOW - 1


def view(image, mean, std):
    width, height = image.size
    short = min(width, height)
    size = (224, int(224 * height / width)) if width == short else (int(224 * width / height), 224)
    image = image.convert("RGB").resize(size, Image.Resampling.BILINEAR)
    left, top = (round((side - 224) / 2) for side in size)
    pixels = np.asarray(image, dtype=np.float64)[top : top + 224, left : left + 224] / 255
    return torch.from_numpy((pixels - mean) / std).permute(2, 0, 1).float()


def projected(state, rows):
    return F.linear(rows, state["image_projection.projection.weight"], state["image_projection.projection.bias"])


def images_of_resnet(folder, images):
    state = read(folder)
    part = {name.removeprefix("image_encoder.resnet."): value for name, value in state.items()}
    x = torch.stack([view(image, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) for image in images])
    x = batch_norm(F.conv2d(x, part["conv1.weight"], stride=2, padding=3), part, "bn1").relu()
    x = F.max_pool2d(x, 3, 2, 1)
    for stage in range(1, 5):
        for index in range(len({name.split(".")[1] for name in part if name.startswith(f"layer{stage}.")})):
            block, stride = f"layer{stage}.{index}", 2 if index == 0 and stage > 1 else 1
            y = batch_norm(F.conv2d(x, part[f"{block}.conv1.weight"]), part, f"{block}.bn1").relu()
            y = F.conv2d(y, part[f"{block}.conv2.weight"], stride=stride, padding=1)
            y = batch_norm(y, part, f"{block}.bn2").relu()
            y = batch_norm(F.conv2d(y, part[f"{block}.conv3.weight"]), part, f"{block}.bn3")
            if index == 0:
                x = F.conv2d(x, part[f"{block}.downsample.0.weight"], stride=stride)
                x = batch_norm(x, part, f"{block}.downsample.1")
            x = (x + y).relu()
    return projected(state, x.mean((2, 3)))


def images_of_swin(folder, images, token=0):
    """Windows, shifted ones with what came round the edge masked, and a bias by offset (Liu et al., ICCV 2021)."""
    state = read(folder)
    part = {name.removeprefix("image_encoder.image_encoder."): value for name, value in state.items()}

    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], part[f"{name}.weight"], part[f"{name}.bias"], 1e-5)

    def linear(x, name):
        return F.linear(x, part[f"{name}.weight"], part.get(f"{name}.bias"))

    x = torch.stack([view(image, 0.5, 0.5) for image in images])
    patches = "embeddings.patch_embeddings.projection"
    x = F.conv2d(x, part[f"{patches}.weight"], part[f"{patches}.bias"], stride=4).permute(0, 2, 3, 1)
    x = norm(x, "embeddings.norm")
    for stage in range(4):
        layer = f"encoder.layers.{stage}"
        depth = len({name.split(".")[4] for name in part if name.startswith(f"{layer}.blocks.")})
        for index in range(depth):
            block, shift = f"{layer}.blocks.{index}", WINDOW // 2 if index % 2 and x.shape[1] > WINDOW else 0
            x = x + attend(norm(x, f"{block}.layernorm_before"), part, f"{block}.attention", shift, linear)
            wide = F.gelu(linear(norm(x, f"{block}.layernorm_after"), f"{block}.intermediate.dense"))
            x = x + linear(wide, f"{block}.output.dense")
        if stage < 3:
            corners = [x[:, down::2, right::2] for down, right in ((0, 0), (1, 0), (0, 1), (1, 1))]
            x = linear(norm(torch.cat(corners, -1), f"{layer}.downsample.norm"), f"{layer}.downsample.reduction")
    return projected(state, norm(x, "layernorm").flatten(1, 2)[:, token])


def attend(x, part, name, shift, linear):
    side = x.shape[1]
    region = torch.zeros(side)
    if shift:  # of the rolled picture, the last strip came round from the other side
        region[side - WINDOW : side - shift], region[side - shift :] = 1, 2
    region = (region[:, None] * 3 + region)[None, :, :, None]
    x = x.roll((-shift, -shift), (1, 2))
    windows = [
        (x[:, i : i + WINDOW, j : j + WINDOW].flatten(1, 2), region[:, i : i + WINDOW, j : j + WINDOW].flatten())
        for i in range(0, side, WINDOW)
        for j in range(0, side, WINDOW)
    ]
    table = part[f"{name}.self.relative_position_bias_table"]
    bias = table[places()].permute(2, 0, 1)
    out = torch.zeros_like(x)
    for index, (tokens, regions) in enumerate(windows):
        parts = [linear(tokens, f"{name}.self.{kind}") for kind in ("query", "key", "value")]
        q, k, v = (one.unflatten(2, (table.shape[1], -1)).transpose(1, 2) for one in parts)
        scores = q @ k.mT / q.shape[-1] ** 0.5 + bias
        scores = scores.masked_fill(regions[:, None] != regions, float("-inf"))
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        i, j = (WINDOW * place for place in divmod(index, side // WINDOW))
        found = linear(mixed, f"{name}.output.dense").unflatten(1, (WINDOW, WINDOW))
        out[:, i : i + WINDOW, j : j + WINDOW] = found
    return out.roll((shift, shift), (1, 2))


ROWS = [
    Published("CXR-CLIP, ResNet-50", make_resnet, images_of_resnet, texts_of),
    Published("CXR-CLIP, Swin-T", make_swin, images_of_swin, texts_of),
]
