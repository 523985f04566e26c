"""What of an open_clip model's work can be left out without changing an embedding, found out when it is loaded.

Texts: open_clip pads each to the context length, 77 tokens, of which "a chest x-ray image of a mass" fills ten. In a
causal tower that is read at the end-of-text token, and in a tower that masks padding, no token that counts ever looks
at what lies behind it: the columns of padding can be cut off.

Pictures: its transforms resize before they convert to RGB, so that a grey film need not be resized three times.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

__all__ = ["can_be_cut", "cut", "encode_cut", "takes_grey"]

#: Largest difference of two embeddings of unit length that is rounding: float32, other shapes of the same products.
ROUNDING = 1e-4


def cut(tokens: Tensor, padding: int, spare: int) -> Tensor:
    """Leave out the columns that are padding in every text.

    Args:
        tokens: int64 ``(n_texts, context_length)``, padded on the right.
        padding: the token that pads.
        spare: columns of padding that stay: 1 where the token that pads is also the one that ends a text.

    >>> cut(torch.tensor([[5, 6, 9, 0, 0, 0], [5, 9, 0, 0, 0, 0]]), 0, 1).tolist()
    [[5, 6, 9, 0], [5, 9, 0, 0]]
    """
    used = (tokens != padding).any(dim=0).nonzero()
    return tokens[:, : int(used.max()) + 1 + spare] if len(used) else tokens


def encode_cut(model: nn.Module, tokens: Tensor) -> Tensor:
    """Encode texts of any length up to the context, by the model's own forward with its positions and mask cut to them.

    Args:
        model: one that `can_be_cut`.
        tokens: int64 ``(n_texts, length)``, from `cut`.

    Returns:
        ``(n_texts, d_embed)``; rows of any length.
    """
    tower, length = _text_tower(model), tokens.shape[1]
    own: Any = tower
    if _masks_padding(tower):
        rows: Tensor = own(tokens)
        return rows
    swapped = {"positional_embedding": own.positional_embedding[:length], "attn_mask": own.attn_mask[:length, :length]}
    if tower is not model:
        rows = torch.func.functional_call(tower, swapped, (tokens,))
    else:
        both = torch.func.functional_call(model, swapped, (None, tokens))  # no image
        rows = both["text_features"] if isinstance(both, dict) else both[1]
    return rows


def can_be_cut(model: nn.Module, tokens: Tensor, padding: int | None, spare: int) -> bool:
    """Tell whether a model's texts can be cut: by how its tower is made, and by trying it.

    Args:
        model: as ``open_clip.create_model`` returns it, on its device.
        tokens: int64 ``(n_texts, context_length)`` on the same device, of some short texts of unequal length.
        padding: the token that pads; None if there is none.
        spare: as for `cut`.
    """
    tower = _text_tower(model)
    if padding is None or not (_masks_padding(tower) or _is_causal(tower)):
        return False
    with torch.inference_mode():
        try:
            whole = nn.functional.normalize(model.encode_text(tokens), dim=1)  # type: ignore[operator]
            short = [
                encode_cut(model, cut(part, padding, spare))
                for part in (tokens, *(tokens[i : i + 1] for i in range(len(tokens))))
            ]
        except Exception:  # noqa: BLE001 - another version of the library, another tower: the long way still works
            return False
        together, *alone = (nn.functional.normalize(rows, dim=1) for rows in short)
        differences = [(rows - whole).abs().max() for rows in (together, torch.cat(alone))]
    return all(float(difference) < ROUNDING for difference in differences)


def takes_grey(transform: "Callable[[Image.Image], Tensor]") -> bool:
    """Tell whether a transform makes the same of a grey picture as of the same in RGB, to the bit, larger and smaller."""
    from PIL import Image

    values = np.random.default_rng(0).integers(0, 256, 700 * 600, dtype=np.uint8)
    for shape in ((700, 600), (90, 110)):
        grey = Image.fromarray(values[: shape[0] * shape[1]].reshape(shape))
        try:
            if not torch.equal(transform(grey), transform(grey.convert("RGB"))):
                return False
        except Exception:  # noqa: BLE001 - a transform that needs three bands says so as it likes
            return False
    return True


def _text_tower(model: nn.Module) -> nn.Module:
    """Return the module that holds the positions: the model itself in the oldest of open_clip's classes."""
    tower = getattr(model, "text", None)
    return tower if isinstance(tower, nn.Module) else model


def _masks_padding(tower: nn.Module) -> bool:
    """Tell whether it is a Hugging Face tower, which open_clip gives a mask of what is padding."""
    return type(tower).__name__ == "HFTextEncoder"


def _is_causal(tower: nn.Module) -> bool:
    """Tell whether every token sees those before it only, and the text is read at its end."""
    pooling = getattr(tower, "text_pool_type", getattr(tower, "pool_type", None))
    extra = getattr(tower, "cls_emb", None) is not None or getattr(tower, "use_pad_mask", False)
    causal = isinstance(getattr(tower, "attn_mask", None), Tensor)
    return causal and pooling in ("argmax", "eos") and not extra and hasattr(tower, "positional_embedding")
