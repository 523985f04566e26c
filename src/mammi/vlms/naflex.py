"""SigLIP 2 of variable size (NaFlex): a picture of any shape in one tensor of one shape.

Its processor keeps a picture's proportions, cuts it into at most ``max_num_patches`` patches (256 as published) and
fills up with zeros; the model is told how many rows and columns of patches there are [1]_. Here these two numbers are
one more row below the patches, and which patches are padding follows from them.

References:
    .. [1] Tschannen et al., arXiv 2502.14786, section 2.4.2; ``Siglip2ImageProcessor`` of transformers.
"""

import torch
from torch import Tensor

__all__ = ["pack", "unpack"]


def pack(patches: Tensor, shape: Tensor) -> Tensor:
    """Put a picture's patches and its shape in one tensor.

    Args:
        patches: ``(n_patches, 3 * patch * patch)`` float32, zeros below those in use.
        shape: rows and columns of patches, ``(2,)``.

    Returns:
        ``(n_patches + 1, 3 * patch * patch)`` float32.

    >>> pack(torch.ones(4, 3), torch.tensor([1, 2]))[-1].tolist()
    [1.0, 2.0, 0.0]
    """
    last = patches.new_zeros(1, patches.shape[1])
    last[0, :2] = shape
    return torch.cat([patches, last])


def unpack(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Take a batch of what `pack` made apart.

    Args:
        images: ``(n, n_patches + 1, 3 * patch * patch)``; bfloat16 holds rows and columns up to 256 exactly.

    Returns:
        Patches ``(n, n_patches, 3 * patch * patch)``; a mask of those in use, int64 ``(n, n_patches)``; shapes, int64
        ``(n, 2)``.
    """
    patches, shapes = images[:, :-1], images[:, -1, :2].round().long()
    places = torch.arange(patches.shape[1], device=images.device)
    return patches, (places < shapes.prod(dim=1, keepdim=True)).long(), shapes
