"""The loss that teaches two projections one space: films and texts, each with several partners or with unknown ones."""

import torch
from torch import Tensor

from mammi.errors import InputError

__all__ = ["contrastive_loss"]


def contrastive_loss(scores: Tensor, truth: Tensor) -> Tensor:
    r"""Cross-entropy of films over texts and of texts over films, with many positives and unknown pairs.

    With :math:`s_{ij}` the scaled cosine of film :math:`i` and text :math:`j`, :math:`P_i` the texts true of film
    :math:`i` and :math:`K_i` those whose truth is known,

    .. math:: L_{\text{films}} = -\frac{1}{|\{i : P_i \ne \emptyset\}|} \sum_i \frac{1}{|P_i|} \sum_{j \in P_i}
        \log \frac{e^{s_{ij}}}{\sum_{k \in K_i} e^{s_{ik}}},

    the same with films and texts changed over, and the mean of both (Yang et al., UniCL, CVPR 2022, arXiv 2204.03610,
    equation 2; with one partner each it is the loss of CLIP, Radford et al., ICML 2021, arXiv 2103.00020).

    Args:
        scores: shape ``(n_films, n_texts)``, floating: cosines times a scale.
        truth: the same shape, floating: 1 where the text is true of the film, 0 where not, NaN where not known; such
            pairs count neither as partners nor as others.

    Returns:
        A scalar; films and texts without a partner take no part as what is asked, only as what is answered. 0 if there
        is no pair at all.

    Raises:
        InputError: if the shapes differ.

    Notes:
        UniCL sums over films before it divides; each film counts the same here, however many texts are true of it.

    Example:
        >>> round(contrastive_loss(torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.eye(2)).item(), 4)
        0.1269
    """
    if scores.shape != truth.shape or scores.ndim != 2:
        raise InputError(
            f"'scores' and 'truth' must both be (n_films, n_texts), got {tuple(scores.shape)} and {tuple(truth.shape)}"
        )
    return (_one_way(scores, truth) + _one_way(scores.T, truth.T)) / 2


def _one_way(scores: Tensor, truth: Tensor) -> Tensor:
    """Return the mean loss of the rows that have a partner."""
    asked = (truth == 1).any(dim=1)
    if not bool(asked.any()):
        return scores.sum() * 0
    scores, truth = scores[asked], truth[asked]
    known = scores.masked_fill(truth.isnan(), -torch.inf)
    partner = truth == 1
    chances = known.log_softmax(dim=1).masked_fill(~partner, 0.0)  # what is left out is -inf, and inf times 0 is no 0
    return -(chances.sum(dim=1) / partner.sum(dim=1)).mean()
