"""MAMMI's concept matching as one matrix product over the units' mean embeddings.

The mean over a unit's examples of ``cos(image, concept) - cos(image, template)`` is linear in the image, so it equals
``mean(image embeddings) . (concept - template)``: the same scores for units x width instead of examples x concepts.
"""

import math

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from mammi.errors import InputError
from mammi.functional.selection import Selection
from mammi.functional.similarity import check_widths
from mammi.functional.strongest import ranked
from mammi.functional.tiles import unit_tiles

__all__ = ["concept_scores", "keep_best", "keep_first", "mean_embeddings"]


def mean_embeddings(selection: Selection, image_embeddings: Tensor) -> Tensor:
    """Average the embeddings of each unit's examples.

    Args:
        selection: the examples; its image indices are rows of ``image_embeddings``.
        image_embeddings: rows of unit length, shape ``(n_images, d_embed)``, float64.

    Returns:
        Shape ``(n_units, d_embed)``, float64; NaN for a unit without examples. Not of unit length: the shorter, the
        less alike the examples.

    Raises:
        InputError: if an example lies outside the rows given.
    """
    if len(selection.images) and int(selection.images.max()) >= len(image_embeddings):
        raise InputError(
            f"example {int(selection.images.max())} has no row among {len(image_embeddings)} image embeddings"
        )
    embeddings, offsets = image_embeddings.detach().double().numpy(), selection.offsets.numpy()
    sums = np.empty((selection.n_units, embeddings.shape[1]))
    longest = int(selection.counts.max()) if selection.n_units else 0
    for units in unit_tiles(selection.n_units, longest):
        starts = offsets[units.start : units.stop + 1]
        images = selection.images[starts[0] : starts[-1]].numpy()
        members = sparse.csr_array(
            (np.ones(len(images)), images, starts - starts[0]), shape=(len(starts) - 1, len(embeddings))
        )
        # Each row is summed example by example in index order: a unit's mean depends on nothing but its own examples.
        members.sort_indices()
        sums[units] = members @ embeddings
    return torch.from_numpy(sums) / selection.counts[:, None]


def concept_scores(means: Tensor, concept_embeddings: Tensor, template_embedding: Tensor | None = None) -> Tensor:
    r"""Score concepts for units: :math:`W_{km} = \bar e_k \cdot t_m - \bar e_k \cdot t_0` (MAMMI, concept matching).

    Args:
        means: the units' mean example embeddings, shape ``(n_units, d_embed)``, float64.
        concept_embeddings: rows of unit length, shape ``(n_concepts, d_embed)``, float64.
        template_embedding: the bare template at unit length, shape ``(d_embed,)``; None for plain cosines.

    Returns:
        Shape ``(n_units, n_concepts)``, float64, in [-2, 2]; NaN rows for units without examples.

    Raises:
        InputError: if the widths differ.

    Notes:
        The paper's mean is taken; the official code sums, which keeps the same concepts but cannot be compared
        between units. The template's share is one number per unit: it moves the keep line, never the order.
    """
    check_widths(means, concept_embeddings, template_embedding)
    scores = means @ concept_embeddings.T
    if template_embedding is not None:
        scores -= (means @ template_embedding)[:, None]
    return scores


def keep_best(scores: Tensor, threshold: float = 0.95) -> list[Tensor]:
    """Keep each unit's concepts that score strictly above a share of its best score.

    Args:
        scores: shape ``(n_units, n_concepts)``, floating; NaN rows for units without examples.
        threshold: the share, in ``[0, 1)`` (the paper's beta; 0.95 there).

    Returns:
        One int64 tensor of concept indices per unit, best first, ties by lower index. Empty where the best score is
        not above 0 (no concept fits better than the bare template) and for NaN rows.

    Raises:
        InputError: if ``scores`` is not 2-D or ``threshold`` is out of range.
    """
    if scores.ndim != 2 or scores.shape[1] == 0:
        raise InputError(f"'scores' must be (n_units, n_concepts) with a concept, got {tuple(scores.shape)}")
    if not 0 <= threshold < 1:
        raise InputError(f"'concept_threshold' must be in [0, 1), got {threshold}")
    best = scores.amax(dim=1, keepdim=True)
    # With a best score of 0 or below nothing exceeds a share of it: an accident of the rule, kept as published.
    units, concepts = ranked(scores, scores > threshold * best)
    return list(torch.split(concepts, torch.bincount(units, minlength=len(scores)).tolist()))


def keep_first(scores: Tensor, above: float = -math.inf) -> list[Tensor]:
    """Keep each unit's best concept alone.

    Args:
        scores: shape ``(n_units, n_concepts)``, floating; NaN for what has no score.
        above: what the best score must exceed.

    Returns:
        One int64 tensor per unit with the index of its best concept, ties by lower index; empty where no score is
        above the line.

    Raises:
        InputError: if ``scores`` is not 2-D or has no concept.
    """
    if scores.ndim != 2 or scores.shape[1] == 0:
        raise InputError(f"'scores' must be (n_units, n_concepts) with a concept, got {tuple(scores.shape)}")
    known = scores.where(~scores.isnan(), -math.inf)
    best = known.amax(dim=1, keepdim=True)
    return [row.nonzero().flatten()[:1] for row in (known == best) & (best > above)]
