"""Whether a unit's films fall into two groups: a unit that fires for two unlike things has two senses."""

import torch
from torch import Tensor

from mammi.errors import InputError

__all__ = ["two_groups"]


def two_groups(points: Tensor, max_rounds: int = 50) -> Tensor:
    """Split points in two by 2-means, started from both ends of their longest axis: no chance, one answer.

    Args:
        points: float64, shape ``(n, d)``, at least 2.
        max_rounds: rounds of moving the centres, if they do not come to rest before.

    Returns:
        bool, shape ``(n,)``: the group of each point; False for the group of the first. All False where all are alike.

    Raises:
        InputError: if there are fewer than 2 points.
    """
    if len(points) < 2:
        raise InputError(f"two groups need at least 2 points, got {len(points)}")
    centred = points - points.mean(dim=0)
    if float(centred.abs().max()) < 1e-12:
        return torch.zeros(len(points), dtype=torch.bool)
    # Of few points in many dimensions, each point's place along the longest axis is an eigenvector of their products.
    wide = centred.shape[1] > len(centred)
    axis = torch.linalg.eigh(centred @ centred.T if wide else centred.T @ centred)[1][:, -1]
    group = (axis if wide else centred @ axis) > 0
    for _ in range(max_rounds):
        if bool(group.all()) or not bool(group.any()):
            break
        near, far = centred[~group].mean(dim=0), centred[group].mean(dim=0)
        moved = (centred - far).square().sum(dim=1) < (centred - near).square().sum(dim=1)
        if bool((moved == group).all()):
            break
        group = moved
    same: Tensor = group != group[0]
    return same
