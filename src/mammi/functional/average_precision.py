"""Average precision: how many of the films that score highest for a concept show it."""

import torch
from torch import Tensor

from mammi.errors import InputError

__all__ = ["average_precision"]


def average_precision(scores: Tensor, labels: Tensor) -> Tensor:
    r"""Area under the precision-recall curve as a sum of steps, films of equal score taken together.

    :math:`AP = \sum_g (R_g - R_{g-1}) P_g` over the distinct scores :math:`g` from the highest down, :math:`R_g` and
    :math:`P_g` being recall and precision of the films that score at least :math:`g` (Davis and Goadrich, ICML 2006;
    the definition of scikit-learn). Without skill it is the share of films that show the concept, not a half.

    Args:
        scores: shape ``(n_films, n_concepts)``, floating, finite.
        labels: the same shape: 1 present, 0 absent, NaN unknown (such films are left out of that concept).

    Returns:
        Shape ``(n_concepts,)``, float64, in [0, 1]; NaN where no known film shows the concept.

    Raises:
        InputError: if the shapes differ.

    Example:
        >>> average_precision(torch.tensor([[3.0], [2.0], [1.0]]), torch.tensor([[1.0], [0.0], [1.0]])).item()
        0.8333333333333333
    """
    if scores.shape != labels.shape or scores.ndim != 2:
        raise InputError(
            f"'scores' and 'labels' must both be (n_films, n_concepts), got {tuple(scores.shape)} and "
            f"{tuple(labels.shape)}"
        )
    found = torch.full((scores.shape[1],), torch.nan, dtype=torch.float64)
    for column in range(scores.shape[1]):
        known = ~labels[:, column].isnan()
        order = scores[known, column].argsort(descending=True, stable=True)
        value, present = scores[known, column][order], labels[known, column][order].double()
        if not bool(present.sum()):
            continue
        last = torch.ones(len(value), dtype=torch.bool)
        last[:-1] = value[1:] != value[:-1]  # the last film of each group of equal scores
        hits = present.cumsum(0)[last]
        shown = torch.arange(1, len(value) + 1, dtype=torch.float64)[last]
        found[column] = (hits.diff(prepend=hits.new_zeros(1)) * hits / shown).sum() / hits[-1]
    return found
