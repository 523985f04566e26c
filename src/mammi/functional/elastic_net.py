"""Sparse linear models of many units on the same concepts, from second moments alone."""

import torch
from torch import Tensor

from mammi.errors import InputError

__all__ = ["elastic_net"]


def elastic_net(
    gram: Tensor,
    cross: Tensor,
    penalty: float = 0.05,
    l1_share: float = 0.99,
    sweeps: int = 500,
    tolerance: float = 1e-5,
) -> Tensor:
    r"""Fit elastic nets by coordinate descent, all units at once.

    Each unit's weights minimise
    :math:`\frac{1}{2n}\lVert y - X w \rVert^2 + \lambda\,(\alpha \lVert w \rVert_1 + \frac{1-\alpha}{2} \lVert w
    \rVert^2)` (Friedman, Hastie, Tibshirani, 2010; the objective that GLM-SAGA minimises, Wong et al., 2021).

    Args:
        gram: ``X.T @ X / n``, shape ``(n_concepts, n_concepts)``, float64.
        cross: ``Y.T @ X / n``, shape ``(n_units, n_concepts)``, float64.
        penalty: the weight lambda of the penalty, above 0.
        l1_share: the share alpha of the absolute part, in ``[0, 1]``.
        sweeps: most passes over all concepts.
        tolerance: a unit is left alone once a pass moves none of its weights by more.

    Returns:
        Weights, shape ``(n_units, n_concepts)``, float64; 0 for a concept that is 0 on all films.

    Raises:
        InputError: if the shapes do not fit, or the penalty is out of range.
    """
    if gram.shape != (cross.shape[1], cross.shape[1]):
        raise InputError(f"'gram' must be {(cross.shape[1],) * 2} to fit 'cross', got {tuple(gram.shape)}")
    if not penalty > 0 or not 0 <= l1_share <= 1:
        raise InputError(f"'penalty' must be above 0 and 'l1_share' in [0, 1], got {penalty} and {l1_share}")
    absolute, square = penalty * l1_share, penalty * (1 - l1_share)
    weights, left = torch.zeros_like(cross), cross.clone()  # left = cross - weights @ gram: what is not yet explained
    columns = gram.diagonal().nonzero().flatten().tolist()
    power = gram.diagonal().tolist()
    # A unit that has settled is left alone, so that its weights do not depend on the units beside it.
    moving = torch.arange(len(cross))
    for _ in range(sweeps):
        if not len(moving):
            break
        own, rest = weights[moving], left[moving]
        largest = own.new_zeros(len(moving))
        for column in columns:
            pull = rest[:, column] + power[column] * own[:, column]
            new = pull.sign() * (pull.abs() - absolute).clamp(min=0) / (power[column] + square)
            step = new - own[:, column]
            stepped = step.nonzero().flatten()
            if len(stepped):
                rest[stepped] -= step[stepped, None] * gram[column]
                own[:, column] = new
                largest = torch.maximum(largest, step.abs())
        weights[moving], left[moving] = own, rest
        moving = moving[largest > tolerance]
    return weights
