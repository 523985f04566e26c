r"""CLIP-Dissect's pointwise mutual information between a unit's strongest images and a concept (WPMI, SoftWPMI).

Images that excite a unit are taken as drawn by a concept; what a concept would say of the images of *any* unit of the
layer is taken off. Source: Oikarinen, Weng: CLIP-Dissect, ICLR 2023, section 3.2 and appendix.
"""

import math

import torch
from torch import Tensor

from mammi.errors import InputError
from mammi.functional.selection import Selection
from mammi.functional.similarity import check_widths

__all__ = ["soft_wpmi", "wpmi"]

#: Keeps the logarithm finite, as published.
FLOOR = 1e-7

#: Numbers in one block of image x concept probabilities: bounds memory (32 MB a temporary), not results.
CELLS = 2**22


def wpmi(
    selection: Selection,
    image_embeddings: Tensor,
    concept_embeddings: Tensor,
    *,
    scale: float = 2.0,
    penalty: float = 0.6,
) -> Tensor:
    r"""Score concepts by weighted pointwise mutual information.

    With :math:`Q = \mathrm{softmax}_m(a P)`, :math:`P` the cosines of images and concepts and :math:`J_k` the examples
    of unit :math:`k`,

    .. math:: L_{km} = \sum_{j \in J_k} \ln(Q_{jm} + 10^{-7}), \qquad
              S_{km} = L_{km} - \lambda \left( \ln \sum_{k'} e^{L_{k'm}} - \ln K \right).

    Args:
        selection: the examples (published: the 28 strongest); image indices are rows of ``image_embeddings``.
        image_embeddings: rows of unit length, shape ``(n_images, d_embed)``, float64.
        concept_embeddings: rows of unit length, shape ``(n_concepts, d_embed)``, float64.
        scale: :math:`a`, the inverse temperature of the softmax over concepts.
        penalty: :math:`\lambda`.

    Returns:
        Shape ``(n_units, n_concepts)``, float64, unbounded; NaN rows for units without examples, which are no part of
        the marginal either.

    Raises:
        InputError: if the widths differ.

    Notes:
        The marginal runs over the units given: show a whole layer, since the scores of a part of it are others.
        Memory: the scores and as much again, and blocks of at most 4 million image x concept cells.
    """
    likelihoods = _log_likelihoods(selection, image_embeddings, concept_embeddings, scale, None)
    return _less_marginal(likelihoods, selection.counts > 0, penalty)


def soft_wpmi(
    selection: Selection,
    image_embeddings: Tensor,
    concept_embeddings: Tensor,
    *,
    top_k: int = 100,
    scale: float = 10.0,
    penalty: float = 1.0,
    first: float = 0.998,
    last: float = 0.97,
) -> Tensor:
    r"""Score concepts by WPMI with examples that belong to the unit only with a probability that falls with the rank.

    .. math:: p_r = p_0 - \frac{r}{k}(p_0 - p_1), \qquad L_{km} = \sum_r \ln(1 + p_r (Q_{j_r m} - 1) + 10^{-7}),

    ranks :math:`r` from 0, :math:`j_r` the image at rank :math:`r`; the rest as in :func:`wpmi`.

    Args:
        selection: the examples, strongest first, at most ``top_k`` a unit; indices are rows of ``image_embeddings``.
        image_embeddings: rows of unit length, shape ``(n_images, d_embed)``, float64.
        concept_embeddings: rows of unit length, shape ``(n_concepts, d_embed)``, float64.
        top_k: :math:`k`, over which the probability falls; a unit with fewer examples has the head of the schedule.
        scale: :math:`a`, the inverse temperature of the softmax over concepts.
        penalty: :math:`\lambda`.
        first: :math:`p_0`, the probability of the strongest image.
        last: :math:`p_1`, where the schedule would end, one rank past ``top_k``.

    Returns:
        Shape ``(n_units, n_concepts)``, float64; NaN rows for units without examples, which are no part of the
        marginal either. At most :math:`\ln K` with a penalty of 1, which many concepts reach where a unit's films are
        unlike those of all other units.

    Raises:
        InputError: if the widths differ, or a unit has more than ``top_k`` examples.
    """
    if len(selection.images) and int(selection.counts.max()) > top_k:
        raise InputError(f"a unit has {int(selection.counts.max())} examples, more than 'top_k' = {top_k}")
    chances = first - torch.arange(top_k, dtype=torch.float64) / top_k * (first - last)
    ranks = torch.arange(len(selection.images)) - selection.offsets[selection.units]
    likelihoods = _log_likelihoods(selection, image_embeddings, concept_embeddings, scale, chances[ranks])
    return _less_marginal(likelihoods, selection.counts > 0, penalty)


def _log_likelihoods(
    selection: Selection, images: Tensor, concepts: Tensor, scale: float, chances: Tensor | None
) -> Tensor:
    """Sum the logarithms over examples, image by image: the softmax of an image is computed for all its units at once.

    ``chances`` holds one probability per example; None for certain ones.
    """
    check_widths(images, concepts)
    totals = images.new_zeros((selection.n_units, len(concepts)))
    order = selection.images.argsort(stable=True)
    for pairs in torch.split(order, max(1, CELLS // max(1, len(concepts)))):
        films, place = torch.unique_consecutive(selection.images[pairs], return_inverse=True)
        inside = torch.softmax(scale * (images[films] @ concepts.T), dim=1)[place]
        if chances is not None:
            # 1 + p (Q - 1), written so that a small Q keeps its digits.
            inside = inside.mul_(chances[pairs, None]).add_(1 - chances[pairs, None])
        totals.index_add_(0, selection.units[pairs], inside.add_(FLOOR).log_())
    return totals


def _less_marginal(likelihoods: Tensor, live: Tensor, penalty: float) -> Tensor:
    marginal = torch.logsumexp(likelihoods[live], dim=0) - math.log(max(1, int(live.sum())))
    scores = likelihoods - penalty * marginal
    scores[~live] = torch.nan
    return scores
