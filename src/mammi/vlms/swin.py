"""Swin transformers as checkpoints of the field hold them: of any size, under the names of any transformers version.

transformers 5 renamed what is inside a Swin block. MedCLIP's and CXR-CLIP's files were written by versions before.
"""

import re

from torch import Tensor, nn

from mammi.errors import VlmError
from mammi.registry import import_extra
from mammi.weights_file import load_weights

__all__ = ["swin_from"]

#: Parts of names up to transformers 4, and since 5; the first that fits is taken.
_RENAMED = (
    (r"\.attention\.self\.query\.", ".attention.q_proj."),
    (r"\.attention\.self\.key\.", ".attention.k_proj."),
    (r"\.attention\.self\.value\.", ".attention.v_proj."),
    (r"\.attention\.self\.(relative_position_bias_table)$", r".attention.relative_position_bias.\1"),
    (r"\.attention\.output\.dense\.", ".attention.o_proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
)
#: Where each pair of a window's places looks in the table: counted by the model itself.
_COUNTER = ".attention.self.relative_position_index"
_TABLE = re.compile(r"encoder\.layers\.(\d+)\.blocks\.(\d+)\..*relative_position_bias_table$")


def swin_from(state: dict[str, Tensor], source: str, *, image_size: int = 224) -> nn.Module:
    """Build a Swin transformer of the size its tensors have, and load them, every one.

    Args:
        state: tensors by the names of transformers' ``SwinModel``, of version 4 or 5, for example
            ``embeddings.patch_embeddings.projection.weight``.
        source: what to call the weights in messages.
        image_size: pixels along a side of the input; a Swin has no tensor that tells.

    Returns:
        ``SwinModel`` in ``eval()`` mode and float32; its ``last_hidden_state`` is normed, its pooler has no weights.

    Raises:
        VlmError: if tensors are missing, superfluous or of another shape.
    """
    transformers = import_extra("transformers", "transformers")
    new = {_new_name(name): value for name, value in state.items() if not name.endswith(_COUNTER)}
    patches = new.get("embeddings.patch_embeddings.projection.weight")
    tables = {(int(m[1]), int(m[2])): value for name, value in new.items() if (m := _TABLE.match(name))}
    inner = new.get("encoder.layers.0.blocks.0.mlp.fc1.weight")
    n_stages = 1 + max((stage for stage, _ in tables), default=-1)
    if patches is None or inner is None or any((stage, 0) not in tables for stage in range(n_stages)):
        raise VlmError(
            f"{source} holds no Swin image tower where one was expected: is it the checkpoint of another model?"
        )
    config = transformers.SwinConfig(
        image_size=image_size,
        patch_size=patches.shape[-1],
        num_channels=patches.shape[1],
        embed_dim=patches.shape[0],
        depths=[1 + max(block for stage, block in tables if stage == wanted) for wanted in range(n_stages)],
        num_heads=[tables[stage, 0].shape[1] for stage in range(n_stages)],
        window_size=(round(len(tables[0, 0]) ** 0.5) + 1) // 2,  # a table has a row for each of (2 w - 1)^2 offsets
        mlp_ratio=inner.shape[0] / inner.shape[1],
    )
    model: nn.Module = transformers.SwinModel(config)
    load_weights(model, new, source, error=VlmError)
    return model.float().eval()


def _new_name(name: str) -> str:
    """Return the name that transformers 5 gives a tensor.

    >>> _new_name("encoder.layers.2.blocks.1.output.dense.bias"), _new_name("layernorm.weight")
    ('encoder.layers.2.blocks.1.mlp.fc2.bias', 'layernorm.weight')
    """
    for old, new in _RENAMED:
        name, found = re.subn(old, new, name)
        if found:
            break
    return name
