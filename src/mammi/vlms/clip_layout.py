"""What can be told of a CLIP checkpoint from its tensors alone: its architecture, and which code wrote it.

Two things cannot. Whether it computes with GELU or QuickGELU is in no tensor, and the wrong one loads without an error
and embeds wrongly. And a checkpoint that was trained on from OpenAI's weights looks like one trained from nothing.

One trace is left by the class that wrote a file. ``state_dict`` lists tensors in the order in which the class made
them: in a block of OpenAI's CLIP [1]_ the attention comes before its norm, in one of today's open_clip [2]_ after it.
OpenAI's class knows no activation but QuickGELU. The trace is gone once a file is written again in another order, as
every safetensors file is; and an earlier class of open_clip [3]_ wrote in OpenAI's order, with GELU unless told.

References:
    .. [1] https://github.com/openai/CLIP, ``clip/model.py``; CheXzero's ``model.py`` is a copy of it.
    .. [2] https://github.com/mlfoundations/open_clip, ``src/open_clip/transformer.py``.
    .. [3] The same, ``src/open_clip/model.py`` at commit 02b482909fa9.
"""

from typing import Any

from torch import Tensor

__all__ = ["config_of", "describe", "written_by"]

_ATTENTION = ("attn.in_proj_weight", "attn.in_proj_bias", "attn.out_proj.weight", "attn.out_proj.bias")
_NORM_1, _NORM_2 = ("ln_1.weight", "ln_1.bias"), ("ln_2.weight", "ln_2.bias")
_MLP = ("mlp.c_fc.weight", "mlp.c_fc.bias", "mlp.c_proj.weight", "mlp.c_proj.bias")
_ORDERS = {
    "openai": (*_ATTENTION, *_NORM_1, *_MLP, *_NORM_2),
    "open_clip": (*_NORM_1, *_ATTENTION, *_NORM_2, *_MLP),
}
_BLOCK = "transformer.resblocks.0."
_STEM = "visual.conv1.weight"
#: Width of an attention head in every CLIP of OpenAI; the number of heads is in no tensor.
_HEAD_WIDTH = 64


def written_by(state: dict[str, Tensor]) -> str:
    """Tell whose class listed the tensors in this order: ``"openai"``, ``"open_clip"`` or ``""`` if none can be told.

    >>> import torch
    >>> names = ["attn.in_proj_weight", "ln_1.weight", "ln_1.bias"]
    >>> written_by({f"transformer.resblocks.0.{name}": torch.zeros(1) for name in names})
    ''
    """
    names = (name.removeprefix("module.") for name in state)
    block = tuple(name.removeprefix(_BLOCK) for name in names if name.startswith(_BLOCK))
    return next((code for code, order in _ORDERS.items() if order == block), "")


def config_of(state: dict[str, Tensor]) -> dict[str, Any] | None:
    """Return the open_clip settings of a CLIP with a plain vision transformer, without its activation.

    Args:
        state: tensors by OpenAI's names.

    Returns:
        ``embed_dim``, ``vision_cfg`` and ``text_cfg`` as open_clip's own configurations have them; None if a tensor
        that tells is missing or of another shape.
    """
    try:
        stem, positions, words = state[_STEM], state["visual.positional_embedding"], state["token_embedding.weight"]
        side = round((positions.shape[0] - 1) ** 0.5)
        if side * side + 1 != positions.shape[0]:
            return None
        return {
            "embed_dim": state["visual.proj"].shape[1],
            "vision_cfg": {
                "image_size": side * stem.shape[-1],
                "layers": _depth(state, "visual.transformer.resblocks."),
                "width": stem.shape[0],
                "patch_size": stem.shape[-1],
            },
            "text_cfg": {
                "context_length": state["positional_embedding"].shape[0],
                "vocab_size": words.shape[0],
                "width": words.shape[1],
                "heads": max(1, words.shape[1] // _HEAD_WIDTH),
                "layers": _depth(state, "transformer.resblocks."),
            },
        }
    except (KeyError, IndexError):
        return None


def describe(state: dict[str, Tensor], known: dict[str, dict[str, Any]]) -> str:
    """Say in words what a checkpoint is of: ``"a ViT-B-16"``, ``"an RN50"`` or the layout of another library.

    Args:
        state: tensors by name.
        known: open_clip's configurations by name.
    """
    config = config_of(state)
    if config is not None:
        name = next((name for name, other in known.items() if _same(config, other)), "")
        vision = config["vision_cfg"]
        sizes = f"{vision['layers']} layers of {vision['width']}, patches of {vision['patch_size']}"
        return f"a {name}" if name else f"a vision transformer of {sizes}, pictures of {vision['image_size']}"
    if any(name.startswith("visual.layer1.") for name in state):
        layers = [_depth(state, f"visual.layer{i}.") for i in range(1, 5)]
        width = 2 * state[_STEM].shape[0] if _STEM in state else 0
        name = next((n for n, c in known.items() if _resnet(c) == (layers, width)), "ResNet")
        return f"an {name}, a CLIP with a convolutional tower"
    if any(name.startswith(("vision_model.", "text_model.")) for name in state):
        return "a model in transformers' layout (give its folder as 'transformers:FOLDER')"
    if any(name.startswith(("visual.trunk.", "text.")) for name in state):
        return "an open_clip model with towers of its own (give its folder as 'open_clip:local-dir:FOLDER')"
    return "a CLIP that lacks tensors" if _STEM in state else "no CLIP"


def _depth(state: dict[str, Tensor], prefix: str) -> int:
    return len({name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)})


def _same(config: dict[str, Any], other: dict[str, Any]) -> bool:
    """Tell whether another configuration gives the same tensors, as far as ``config`` says."""
    return all(
        _same(value, other.get(key, {})) if isinstance(value, dict) else other.get(key) == value
        for key, value in config.items()
    )


def _resnet(config: dict[str, Any]) -> tuple[object, object]:
    vision = config.get("vision_cfg", {})
    return vision.get("layers"), vision.get("width")
