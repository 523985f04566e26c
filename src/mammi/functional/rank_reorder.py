r"""CLIP-Dissect's rank reorder: would a concept put a unit's strongest images in the order of their activation?

Source: Oikarinen, Weng: CLIP-Dissect, ICLR 2023, appendix on similarity functions.
"""

import torch
from torch import Tensor

from mammi.functional.selection import Selection
from mammi.functional.similarity import check_widths

__all__ = ["rank_reorder"]

#: Numbers in one block of concept x image cosines: bounds memory (128 MB), not results.
CELLS = 2**24

#: Steps per unit of cosine within which images are a tie, 4e-12: fine enough for float64, coarse enough for rounding.
GRID = 2**38

#: As published: the exponent of the difference, the exponent of the mean cosine, and the number of random orders.
POWER, SCALE_POWER, ORDERS = 3, 0.5, 5


def rank_reorder(selection: Selection, image_embeddings: Tensor, concept_embeddings: Tensor, seed: int = 0) -> Tensor:
    r"""Score concepts by how little the activations change when they are put in the order of the concept.

    With :math:`t_r` the activation at rank :math:`r` of the :math:`h` examples of unit :math:`k`, :math:`j_r` its
    image, :math:`P` the cosines, :math:`\rho_r` the rank of :math:`P_{j_r m}` among the :math:`h` (0 the lowest) and
    :math:`t^\uparrow` the activations in rising order,

    .. math:: S_{km} = - \frac{\frac1h \sum_r |t_r - t^\uparrow_{\rho_r}|^3}
              {b_k \left(\frac1h \sum_r P_{j_r m}\right)^{1/2}},

    :math:`b_k` being the mean of the same difference over 5 random orders.

    Args:
        selection: the examples, strongest first (published: the strongest 5 % of all images); image indices are rows
            of ``image_embeddings``.
        image_embeddings: rows of unit length, shape ``(n_images, d_embed)``, float64.
        concept_embeddings: rows of unit length, shape ``(n_concepts, d_embed)``, float64.
        seed: of the random orders, which depend on nothing else but the number of examples.

    Returns:
        Shape ``(n_units, n_concepts)``, float64, at most 0. NaN for a unit whose examples do not differ in activation
        (or that has fewer than 2), and where the mean cosine is not above 0: the published root has no value there.

    Raises:
        InputError: if the widths differ.

    Notes:
        Of images with the same cosine (to 4e-12) the stronger takes the lower place: a concept that cannot tell
        images apart gets no credit for their order. :math:`b_k` is one number a unit: it moves scores between units,
        never the order within one. Where all 5 orders leave the activations as they are, which takes two or three
        examples, it is taken as 1. Memory: blocks of at most 16 million concept x image cells; time: units x concepts
        sorts of the examples.
    """
    check_widths(image_embeddings, concept_embeddings)
    scores = torch.full((selection.n_units, len(concept_embeddings)), torch.nan, dtype=torch.float64)
    values = torch.split(selection.activations.double(), selection.counts.tolist())
    units = [
        (unit, images, strongest, _baseline(strongest, seed))
        for unit, (images, strongest) in enumerate(zip(selection.per_unit(), values, strict=True))
        if len(strongest) > 1 and strongest[0] > strongest[-1]
    ]
    step = max(1, CELLS // max(1, len(image_embeddings)))
    for start in range(0, len(concept_embeddings), step):
        block = slice(start, start + step)
        cosines = image_embeddings @ concept_embeddings[block].T
        for unit, images, strongest, baseline in units:
            mine = cosines[images].T.contiguous()
            # The image with the s-th lowest cosine is given the s-th lowest activation.
            order = _rising(mine)
            change = (strongest[order] - strongest.flip(0)).abs().pow(POWER).mean(dim=1)
            mean = mine.mean(dim=1)
            scores[unit, block] = -change / baseline / mean.where(mean > 0, torch.nan).pow(SCALE_POWER)
    return scores


def _rising(cosines: Tensor) -> Tensor:
    """Order each row, ties by lower index.

    Cosine and index are packed into one integer: four times quicker than sorting with indices, and cosines that differ
    by rounding alone, of one film under two names, are a tie whatever the block.
    """
    bits = (cosines.shape[1] - 1).bit_length()
    keys = ((cosines * GRID).round().long() << bits) | torch.arange(cosines.shape[1])
    keys.numpy().sort(axis=1)
    return keys & ((1 << bits) - 1)


def _baseline(strongest: Tensor, seed: int) -> float:
    """Return the mean change under random orders, the same orders for all units with as many examples."""
    generator = torch.Generator().manual_seed(seed)
    orders = torch.stack([torch.randperm(len(strongest), generator=generator) for _ in range(ORDERS)])
    rising = strongest.flip(0)
    change = float((rising - rising[orders]).abs().pow(POWER).mean())
    return change if change > 0 else 1.0
