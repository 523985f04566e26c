"""Cosines as algebra: rows of unit length, so that every similarity is a product."""

import torch
from torch import Tensor

from mammi.errors import InputError

__all__ = ["unit_rows"]


def unit_rows(embeddings: Tensor, what: str = "embeddings") -> Tensor:
    """Scale each row to unit length, in float64.

    Args:
        embeddings: shape ``(n, d_embed)``, floating, finite.
        what: the argument's name, for messages.

    Returns:
        Shape ``(n, d_embed)``, float64.

    Raises:
        InputError: if ``embeddings`` is not 2-D, or a row is zero, NaN or infinite: such a row has no direction.
    """
    if embeddings.ndim != 2:
        raise InputError(f"{what!r} must be (n, d_embed), got {tuple(embeddings.shape)}")
    rows = embeddings.double()
    lengths: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    bad = (~(torch.isfinite(lengths) & (lengths > 0))).flatten().nonzero().flatten()
    if len(bad):
        raise InputError(
            f"{what!r} has {len(bad)} rows without a direction (zero, NaN or infinite), the first is row {int(bad[0])}"
        )
    return rows / lengths
