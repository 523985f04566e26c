"""Transformer towers of CLIP's kin written out in plain torch, over tensors under any library's names."""

import torch
from torch.nn import functional as F

ACTIVATIONS = {
    "gelu": F.gelu,
    "tanh": lambda x: F.gelu(x, approximate="tanh"),
    "quick": lambda x: x * torch.sigmoid(1.702 * x),
}
#: Each library's names of a block's parts: two norms, the attention, its output, two layers of the perceptron.
NAMES = {
    "openai": ("ln_1", "attn.in_proj_", "attn.out_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"),
    "timm": ("norm1", "attn.qkv.", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"),
    "transformers": ("layer_norm1", "self_attn.{}_proj", "self_attn.out_proj", "layer_norm2", "mlp.fc1", "mlp.fc2"),
}


def fill(shapes, seed=0):
    """Give every tensor values at which all of them count; ``shapes`` is (name, shape) in the order of the file."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes:
        values = torch.randn(shape, generator=generator)
        if name.endswith("logit_scale"):
            values = torch.full(shape, 4.6052)
        elif len(shape) == 1 and name.endswith("weight"):
            values = 1 + 0.2 * values  # a norm
        elif len(shape) < 2:
            values = 0.1 * values
        elif "embed" not in name or "patch" in name:
            values = values / (values[0].numel() ** 0.5)
        state[name] = values
    return state


def affine(name, out, inside):
    return [(f"{name}.weight", (out, inside)), (f"{name}.bias", (out,))]


def norm(name, width):
    return [(f"{name}.weight", (width,)), (f"{name}.bias", (width,))]


def block_shapes(prefix, width, inner, library):
    """Return a block's tensors in the order in which the library's class makes them."""
    norm_1, attention, output, norm_2, first, second = (f"{prefix}{part}" for part in NAMES[library])
    if library == "transformers":
        parts = [affine(attention.format(k), width, width) for k in "kvq"]
        joint = [*parts[0], *parts[1], *parts[2]]
    else:
        joint = [(f"{attention}weight", (3 * width, width)), (f"{attention}bias", (3 * width,))]
    attend = [*joint, *affine(output, width, width)]
    perceive = [*affine(first, inner, width), *affine(second, width, inner)]
    one, two = norm(norm_1, width), norm(norm_2, width)
    if library == "timm":
        return [*one, *attend, *two, *perceive]
    return [*attend, *one, *perceive, *two]


def linear(state, name, x):
    return F.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))


def layer_norm(state, name, x, eps=1e-5):
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps)


def attend(q, k, v, heads, mask=None):
    """Attend over ``(n, tokens, width)``; ``mask`` is added to the logits, ``(queries, keys)`` or ``(n, 1, 1, keys)``."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    logits = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    weights = (logits if mask is None else logits + mask).softmax(-1)
    return (weights @ v).transpose(1, 2).flatten(2)


def block(state, prefix, x, heads, library, activation, eps=1e-5, mask=None):
    """Run one block whose norms come first."""
    norm_1, attention, output, norm_2, first, second = (f"{prefix}{part}" for part in NAMES[library])
    y = layer_norm(state, norm_1, x, eps)
    if library == "transformers":
        q, k, v = (linear(state, attention.format(part), y) for part in "qkv")
    else:
        q, k, v = F.linear(y, state[f"{attention}weight"], state[f"{attention}bias"]).chunk(3, dim=-1)
    x = x + linear(state, output, attend(q, k, v, heads, mask))
    y = ACTIVATIONS[activation](linear(state, first, layer_norm(state, norm_2, x, eps)))
    return x + linear(state, second, y)


def patches(weight, pixels):
    """Cut ``(n, 3, h, w)`` into patches and project them: ``(n, tokens, width)``, rows of patches first."""
    size = weight.shape[-1]
    cut = pixels.unfold(2, size, size).unfold(3, size, size)  # n, 3, rows, columns, size, size
    return cut.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2) @ weight.flatten(1).T


def causal(tokens):
    return torch.full((tokens, tokens), float("-inf")).triu(1)
