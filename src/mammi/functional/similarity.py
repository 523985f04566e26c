"""Cosines as algebra: rows of unit length, so that every similarity is a product."""

import torch
from torch import Tensor

from mammi.errors import InputError

__all__ = ["check_widths", "unit_rows"]


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
    # What was given stays as it is; what was widened for this is scaled in place.
    return rows / lengths if rows is embeddings else rows.div_(lengths)


def check_widths(images: Tensor, concepts: Tensor, template: Tensor | None = None) -> None:
    """Refuse embeddings of different widths.

    Args:
        images: shape ``(n, d_embed)``.
        concepts: shape ``(n_concepts, d_embed)``.
        template: shape ``(d_embed,)``; None without one.

    Raises:
        InputError: if the widths differ.
    """
    if images.shape[1] != concepts.shape[1]:
        raise InputError(
            f"images are embedded in {images.shape[1]} dimensions and concepts in {concepts.shape[1]}: "
            "both must come from the same vision-language model"
        )
    if template is not None and template.shape != images.shape[1:]:
        raise InputError(f"'template_embedding' must be ({images.shape[1]},), got {tuple(template.shape)}")
