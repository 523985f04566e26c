r"""How closely a unit's activation follows a concept over all images, without the table of images x concepts.

The cosines of all images with concept :math:`m` are :math:`P_m = E\,t_m`, linear in the concept. So the products with
the activations are :math:`(A^\top E)\,t_m`, and the length of :math:`P_m` is that of :math:`R\,t_m` with the triangle
:math:`R` of :math:`E = QR`: everything comes from arrays of units x width and width x width.
"""

import torch
from torch import Tensor

from mammi.errors import InputError
from mammi.functional.similarity import check_widths

__all__ = ["film_correlations", "film_cosines", "film_cosines_cubed"]

#: Below this root mean square a concept's cosines are rounding: float32 embeddings hold seven digits.
FLAT = 1e-7

#: Numbers in one block of image x concept cosines: bounds memory (128 MB), not results.
CELLS = 2**24


def film_correlations(activations: Tensor, image_embeddings: Tensor, concept_embeddings: Tensor) -> Tensor:
    r"""Correlate activations with cosines: Pearson's :math:`r(A_k, P_m)` over all images.

    Args:
        activations: pooled activations, shape ``(n_images, n_units)``, floating, finite.
        image_embeddings: rows of unit length, shape ``(n_images, d_embed)``, float64.
        concept_embeddings: rows of unit length, shape ``(n_concepts, d_embed)``, float64.

    Returns:
        Shape ``(n_units, n_concepts)``, float64, in [-1, 1]. NaN for a unit that never varies, and for a concept whose
        cosine varies by no more than rounding (a standard deviation of 1e-7).

    Raises:
        InputError: if the shapes do not fit.
    """
    _check(activations, image_embeddings, concept_embeddings)
    centred = activations.double() - activations.double().mean(dim=0)
    return _cosines(centred, image_embeddings - image_embeddings.mean(dim=0), concept_embeddings)


def film_cosines(activations: Tensor, image_embeddings: Tensor, concept_embeddings: Tensor) -> Tensor:
    r"""Compare activations with cosines as they are: :math:`A_k \cdot P_m / (\|A_k\| \|P_m\|)` over all images.

    CLIP-Dissect's ``cos_similarity`` (Oikarinen, Weng, ICLR 2023). Arguments, result and errors as in
    :func:`film_correlations`, but for a unit to be NaN it must be 0 on every image.
    """
    _check(activations, image_embeddings, concept_embeddings)
    return _cosines(activations.double(), image_embeddings, concept_embeddings)


def film_cosines_cubed(activations: Tensor, image_embeddings: Tensor, concept_embeddings: Tensor) -> Tensor:
    r"""Compare the cubes of centred activations with the cubes of centred cosines, so that extremes weigh most.

    .. math:: \frac{\sum_n x_n^3 y_n^3}{\max(\|x^3\|, 10^{-3}) \max(\|y^3\|, 10^{-3})}, \qquad
              x = A_k - \bar A_k, \quad y = P_m - \bar P_m.

    CLIP-Dissect's ``cos_similarity_cubed`` (Oikarinen, Weng, ICLR 2023).

    Args:
        activations: pooled activations, shape ``(n_images, n_units)``, floating, finite.
        image_embeddings: rows of unit length, shape ``(n_images, d_embed)``, float64.
        concept_embeddings: rows of unit length, shape ``(n_concepts, d_embed)``, float64.

    Returns:
        Shape ``(n_units, n_concepts)``, float64, in [-1, 1].

    Raises:
        InputError: if the shapes do not fit.

    Notes:
        The lengths have the published floor of 1e-3. Cosines that vary by 0.02 over 600 images have cubes below it:
        there the floor holds back the concepts that vary least. Memory: the activations twice in float64, and blocks
        of at most 16 million image x concept cells.
    """
    _check(activations, image_embeddings, concept_embeddings)
    cubes = _cubes(activations.double())
    scores = cubes.new_empty((activations.shape[1], len(concept_embeddings)))
    step = max(1, CELLS // len(image_embeddings))
    for start in range(0, len(concept_embeddings), step):
        block = slice(start, start + step)
        scores[:, block] = cubes.T @ _cubes(image_embeddings @ concept_embeddings[block].T)
    return scores.clamp_(-1, 1)


def _cubes(columns: Tensor) -> Tensor:
    cubes = (columns - columns.mean(dim=0)).pow_(3)
    lengths: Tensor = torch.linalg.vector_norm(cubes, dim=0)
    return cubes.div_(lengths.clamp_(min=1e-3))


def _cosines(columns: Tensor, images: Tensor, concepts: Tensor) -> Tensor:
    """Return the cosine of each column with ``images @ concept``."""
    columns = columns / columns.abs().amax(dim=0)  # a square of a large activation must not overflow
    follow: Tensor = (columns.T @ images) @ concepts.T
    triangle = torch.linalg.qr(images, mode="r").R
    lengths: Tensor = torch.linalg.vector_norm(concepts @ triangle.T, dim=1)
    lengths[lengths <= FLAT * len(images) ** 0.5] = torch.nan
    follow /= torch.linalg.vector_norm(columns, dim=0)[:, None] * lengths
    return follow.clamp_(-1, 1)


def _check(activations: Tensor, images: Tensor, concepts: Tensor) -> None:
    if activations.ndim != 2 or len(activations) != len(images) or not len(images):
        raise InputError(
            f"'activations' must be ({len(images)}, n_units) with an image, got {tuple(activations.shape)}"
        )
    check_widths(images, concepts)
