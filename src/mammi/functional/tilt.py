r"""Activation-weighted evidence: every film counts by how strongly it excites the unit, every concept by its own spread.

A unit's films are weighted by an exponential tilt of its standardised activation, :math:`w_n = e^{\tau z_n}`. With
:math:`\tau \to 0` this is Pearson's correlation; with a larger :math:`\tau` the strongest films count for more, as in
a mean over examples, but no film is cut off and none outweighs all others.
"""

import torch
from torch import Tensor

from mammi.errors import InputError
from mammi.functional.similarity import check_widths

__all__ = ["CAP", "concept_directions", "evidence", "hub_corrected", "standardised", "tilt", "tilted_effects"]

#: Standard deviations beyond which a film weighs no more: otherwise one outlier would be the only example.
CAP = 5.0
#: Share of the median spread that is added to every concept's own: keeps concepts that the annotator cannot tell
#: apart on these films from being blown up to the size of the others (Tusher et al., PNAS 2001).
FUDGE = 0.25
#: Spread of a similarity at or below this is rounding: models embed in single precision.
ROUNDING = 1e-6


def standardised(activations: Tensor) -> Tensor:
    """Shift and scale each unit to mean 0 and standard deviation 1.

    Args:
        activations: shape ``(n_films, n_units)``, floating; no unit is constant.

    Returns:
        Shape ``(n_films, n_units)``, float64.

    Raises:
        InputError: if a unit never varies.
    """
    values = activations.double()
    if not bool((varies := values.amax(dim=0) > values.amin(dim=0)).all()):
        raise InputError(f"{int((~varies).sum())} units never vary: leave them out")
    # Scaled first, so that neither a sum of huge activations nor a square of tiny ones leaves the range of floats.
    values = values / values.abs().amax(dim=0)
    values = values - values.mean(dim=0)
    values = values / values.abs().amax(dim=0)
    return values / values.square().mean(dim=0).sqrt()


def tilt(standard: Tensor, temperature: float) -> Tensor:
    r"""Weigh films: :math:`w_{nk} = e^{\tau \min(z_{nk}, 5)}`.

    Args:
        standard: standardised activations, ``(n_films, n_units)``.
        temperature: :math:`\tau`, above 0.

    Returns:
        Shape ``(n_films, n_units)``, positive; of the same dtype.
    """
    return (temperature * standard.clamp(max=CAP)).exp()


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
    centred = films - films.mean(dim=0)
    covariance = centred.T @ centred / len(films)
    # From the covariance, not film by film: concepts x width instead of films x concepts.
    spread = ((concepts @ covariance) * concepts).sum(dim=1).clamp(min=0).sqrt()
    spread = torch.where(spread > ROUNDING, spread, 0)
    scale = spread + fudge * spread.median()
    return torch.where(spread[:, None] > 0, concepts / scale.clamp(min=1e-300)[:, None], 0.0), spread


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
    centred = weights - weights.mean(dim=0)
    length = torch.linalg.vector_norm(centred, dim=0)
    # Told by the weights: the mean of many equal numbers is off by rounding, and what is left has a length.
    varies = weights.amax(dim=0) > weights.amin(dim=0)
    centred = torch.where(varies, centred / length.clamp(min=1e-300), 0.0)
    return (centred.T @ films) @ directions.T


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
    half = -(-len(scores) // 2)
    hub = relative.topk(half, dim=0).values.mean(dim=0)
    return largest * (relative - strength * hub)


def tilted_effects(weights: Tensor, films: Tensor, concepts: Tensor, spread: Tensor, centre: Tensor) -> Tensor:
    r"""Say how much more of a concept films show when they are weighed by the unit.

    :math:`\sum_n w_{nk} (e_n - \bar e) \cdot t_m / (\sigma_m \sum_n w_{nk})`: standard deviations of the concept's
    similarity over the probing set.

    Args:
        weights: shape ``(n_films, n_units)``, positive.
        films: shape ``(n_films, d_embed)``.
        concepts: one concept a unit, shape ``(n_units, d_embed)``.
        spread: its spread, shape ``(n_units,)``.
        centre: mean of the embeddings over the probing set, ``(d_embed,)``.

    Returns:
        Shape ``(n_units,)``; NaN where the concept never varies.
    """
    means = weights.T @ films / weights.sum(dim=0)[:, None]
    return ((means - centre) * concepts).sum(dim=1) / torch.where(spread > 0, spread, torch.nan)
