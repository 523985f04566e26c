r"""Activation-weighted evidence: every film counts by how strongly it excites the unit, every concept by its own spread.

A unit's films are weighted by an exponential tilt of its standardised activation, :math:`w_n = e^{\tau z_n}`. With
:math:`\tau \to 0` this is Pearson's correlation; with a larger :math:`\tau` the strongest films count for more, as in
a mean over examples, but no film is cut off and none outweighs all others.
"""

import torch
from torch import Tensor

from mammi.errors import InputError
from mammi.functional.film_sums import film_covariance
from mammi.functional.similarity import check_widths

__all__ = [
    "CAP",
    "concept_directions",
    "concept_scales",
    "evidence",
    "hub_corrected",
    "standardised",
    "tilt",
    "unit_columns",
    "upper_half_mean",
]

#: Standard deviations beyond which a film weighs no more: otherwise one outlier would be the only example.
CAP = 5.0
#: Share of the median spread that is added to every concept's own: keeps concepts that the annotator cannot tell
#: apart on these films from being blown up to the size of the others (Tusher et al., PNAS 2001).
FUDGE = 0.25
#: Spread of a similarity at or below this is rounding: models embed in single precision.
ROUNDING = 1e-6
#: Concepts whose spread is worked out together.
CONCEPTS = 4096


def standardised(activations: Tensor) -> Tensor:
    """Shift and scale each unit to mean 0 and standard deviation 1.

    Args:
        activations: shape ``(n_films, n_units)``, floating; no unit is constant.

    Returns:
        Shape ``(n_films, n_units)``, float64.

    Raises:
        InputError: if a unit never varies.
    """
    low, high = activations.aminmax(dim=0)
    if not bool((varies := high > low).all()):
        raise InputError(f"{int((~varies).sum())} units never vary: leave them out")
    # Scaled first, so that neither a sum of huge activations nor a square of tiny ones leaves the range of floats.
    values = activations.double() / torch.maximum(high, -low).double()
    values -= values.mean(dim=0)
    low, high = values.aminmax(dim=0)
    values /= torch.maximum(high, -low)
    values /= torch.linalg.vector_norm(values, dim=0) / len(values) ** 0.5
    return values


def tilt(standard: Tensor, temperature: float | Tensor) -> Tensor:
    r"""Weigh films: :math:`w_{nk} = e^{\tau \min(z_{nk}, 5)}`.

    Args:
        standard: standardised activations, ``(n_films, n_units)``.
        temperature: :math:`\tau`, above 0; one for all units, or one a unit, ``(n_units,)``.

    Returns:
        Shape ``(n_films, n_units)``, positive; of the same dtype.
    """
    return standard.clamp(max=CAP).mul_(temperature).exp_()


def concept_scales(covariance: Tensor, concepts: Tensor, fudge: float = FUDGE) -> tuple[Tensor, Tensor]:
    r"""Return by how much each concept counts, and the spread of its similarity over the films.

    Args:
        covariance: of the films' embeddings, shape ``(d_embed, d_embed)``, float64.
        concepts: unit rows, shape ``(n_concepts, d_embed)``, float64.
        fudge: share :math:`c` of the median spread added to each concept's own.

    Returns:
        :math:`1 / (\sigma_m + c \tilde\sigma)` and the spreads :math:`\sigma_m`, each ``(n_concepts,)``; both 0 for a
        concept whose similarity never varies.
    """
    # From the covariance, not film by film: concepts x width instead of films x concepts.
    parts = [((part @ covariance) * part).sum(dim=1) for part in torch.split(concepts, CONCEPTS)]
    spread = torch.cat(parts).clamp(min=0).sqrt()
    spread = torch.where(spread > ROUNDING, spread, 0)
    scale = spread + fudge * spread.median()
    return torch.where(spread > 0, 1 / scale.clamp(min=1e-300), 0.0), spread


def concept_directions(films: Tensor, concepts: Tensor, fudge: float = FUDGE) -> tuple[Tensor, Tensor]:
    r"""Scale each concept by the spread of its similarity over the films.

    Args:
        films: unit rows, shape ``(n_films, d_embed)``, float64.
        concepts: unit rows, shape ``(n_concepts, d_embed)``, float64.
        fudge: share :math:`c` of the median spread added to each concept's own.

    Returns:
        Directions :math:`t_m / (\sigma_m + c \tilde\sigma)`, ``(n_concepts, d_embed)``, and the spreads
        :math:`\sigma_m`, ``(n_concepts,)``. A concept whose similarity never varies has a zero direction.

    Raises:
        InputError: if the widths differ.
    """
    check_widths(films, concepts)
    scales, spread = concept_scales(film_covariance(films), concepts, fudge)
    return concepts * scales[:, None], spread


def unit_columns(weights: Tensor) -> Tensor:
    """Centre the weights of each unit and scale them to unit length; all 0 for a unit whose weights never vary.

    Args:
        weights: shape ``(n_films, n_units)``.
    """
    low, high = weights.aminmax(dim=0)
    centred = weights - weights.mean(dim=0)
    length = torch.linalg.vector_norm(centred, dim=0).clamp(min=1e-300)
    # Told by the weights: the mean of many equal numbers is off by rounding, and what is left has a length.
    return centred.mul_(torch.where(high > low, 1 / length, 0.0))


def evidence(weights: Tensor, films: Tensor, directions: Tensor) -> Tensor:
    r"""Score concepts by how the weights go along with their similarity, in units of chance.

    :math:`S_{km} = \sum_n \tilde w_{nk} (e_n \cdot d_m)` with :math:`\tilde w` centred and of unit length. If films
    were dealt to the unit at random, it would have mean 0 and, for a concept without the fudge, variance
    :math:`n / (n - 1)`: the closed form of the permutation null of a linear statistic. A set of :math:`n_k` examples is
    the special case of weights 1 and 0.

    Args:
        weights: shape ``(n_films, n_units)``.
        films: shape ``(n_films, d_embed)``.
        directions: from :func:`concept_directions`, ``(n_concepts, d_embed)``.

    Returns:
        Shape ``(n_units, n_concepts)``; 0 for a unit whose weights never vary.
    """
    return (unit_columns(weights).T @ films) @ directions.T


def upper_half_mean(values: Tensor, dim: int) -> Tensor:
    """Return the mean of the larger half of the values along an axis, of the larger half and one where they are odd."""
    half = -(-values.shape[dim] // 2)
    return values.topk(half, dim=dim, sorted=False).values.mean(dim=dim)


def hub_corrected(scores: Tensor, strength: float = 0.5) -> Tensor:
    r"""Take from each concept part of what it gives to every unit of the layer.

    With :math:`R_{km} = S_{km} / \max_m |S_{km}|`, the scores become
    :math:`\max_m |S_{km}| \cdot (R_{km} - \lambda h_m)`, where :math:`h_m` is the mean of :math:`R_{km}` over the half
    of the units that like the concept best. A concept that half the layer has is a hub, and no news about one unit.

    Args:
        scores: shape ``(n_units, n_concepts)``: the whole layer.
        strength: :math:`\lambda`; 0 changes nothing.

    Notes:
        A relative of cross-domain similarity local scaling (Conneau et al., ICLR 2018), with each unit on its own
        scale, so that a weak unit is not drowned by what the strong ones like.
    """
    largest = scores.abs().amax(dim=1, keepdim=True).clamp(min=1e-300)
    relative = scores / largest
    return largest * (relative - strength * upper_half_mean(relative, dim=0))
