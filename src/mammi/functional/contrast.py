r"""FALCON's contrast: films that look alike to the rest of the layer but leave the unit cold.

What such films show as well cannot be what the unit responds to. Source: Kalibhat, Bhardwaj, Bruss, Firooz, Sanjabi,
Feizi: Identifying Interpretable Subspaces in Image Representations, ICML 2023.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from mammi.errors import InputError
from mammi.functional.selection import Selection
from mammi.functional.similarity import check_widths

__all__ = ["caption_scores", "contrast_films", "high_films"]

#: Numbers in one block of films x units or films x concepts: bounds memory (32 MB a temporary), not results.
CELLS = 2**22


def high_films(activations: Tensor, n_std: float = 5.0) -> Tensor:
    r"""Find the films on which units stand out from the layer.

    Each film's activations are scaled to unit length, :math:`R_{nk} = A_{nk} / \|A_n\|`; a film is high for a unit when
    :math:`R_{nk} \ge \bar R + s\,\mathrm{std}(R)`, mean and (unbiased) standard deviation over all films and units.

    Args:
        activations: pooled activations of a whole layer, shape ``(n_films, n_units)``, floating, finite.
        n_std: :math:`s`.

    Returns:
        Bool, shape ``(n_films, n_units)``. A film on which every unit is 0 has rows of 0.

    Notes:
        :math:`|R| \le 1` and its standard deviation is at most :math:`1/\sqrt K`, about that where the mean is near 0:
        with :math:`s = 5`, a layer of some 25 units or fewer has hardly a high film.
    """
    mean, std = _spread(activations)
    return torch.cat([rows >= mean + n_std * std for rows in _rows(activations)])


def contrast_films(activations: Tensor, high: Tensor, similarity: float = 0.3, most: int = 10) -> list[Tensor]:
    r"""Find each unit's contrast films.

    Films with :math:`R_{nk} < \bar R` and :math:`\sum_{i \ne k} R_{ni} \bar h_{ki} \ge` ``similarity``, where
    :math:`\bar h_k` is the mean of :math:`R` over the unit's high films; the most similar first.

    Args:
        activations: pooled activations of a whole layer, shape ``(n_films, n_units)``, floating, finite.
        high: bool, the same shape, from :func:`high_films`.
        similarity: how similar the rest of the layer must be.
        most: how many films at most.

    Returns:
        One int64 tensor of film indices per unit, most similar first, ties by lower index; empty for a unit without a
        high film.

    Notes:
        Time: twice films x units x units. Memory: units x units, and blocks of at most 4 million cells.
    """
    n_units = activations.shape[1]
    mean, _ = _spread(activations)
    typical = torch.zeros((n_units, n_units), dtype=torch.float64)
    step = _step(n_units)
    for rows, chosen in zip(_rows(activations), torch.split(high, step), strict=True):
        typical += chosen.double().T @ rows
    counts = high.sum(dim=0)
    # Without a high film there is nothing to resemble: the similarity is NaN, and no film reaches the line.
    typical /= counts[:, None]
    typical.fill_diagonal_(0)
    typical[counts == 0] = torch.nan
    films = torch.empty((n_units, 0), dtype=torch.int64)
    values = torch.empty((n_units, 0), dtype=torch.float64)
    for start, rows in zip(range(0, len(activations), step), _rows(activations), strict=True):
        alike = typical @ rows.T
        alike[~((rows < mean).T & (alike >= similarity))] = -torch.inf
        numbers = torch.arange(start, start + len(rows)).expand(n_units, -1)
        values, order = torch.cat([values, alike], dim=1).sort(dim=1, descending=True, stable=True)
        films = torch.cat([films, numbers], dim=1).gather(1, order)[:, :most]
        values = values[:, :most]
    return [row[found > -torch.inf] for row, found in zip(films, values, strict=True)]


def caption_scores(
    selection: Selection, image_embeddings: Tensor, concept_embeddings: Tensor, *, scale: float = 100.0, top: int = 5
) -> Tensor:
    r"""Score concepts by how often and how surely they caption a unit's films.

    A film's captions are its ``top`` concepts by :math:`\mathrm{softmax}_m(100\,e_n \cdot t_m)`, each with that share;
    the other concepts have 0. The score is the mean over the unit's films.

    Args:
        selection: the films; image indices are rows of ``image_embeddings``.
        image_embeddings: rows of unit length, shape ``(n_images, d_embed)``, float64.
        concept_embeddings: rows of unit length, shape ``(n_concepts, d_embed)``, float64.
        scale: factor of the cosines in the softmax.
        top: captions a film; all concepts where there are fewer.

    Returns:
        Shape ``(n_units, n_concepts)``, float64, in [0, 1]; NaN rows for units without films.

    Raises:
        InputError: if the widths differ.

    Notes:
        Memory: the scores, ``top`` numbers a film, and blocks of at most 4 million film x concept cells.
    """
    check_widths(image_embeddings, concept_embeddings)
    films, place = torch.unique(selection.images, return_inverse=True)
    n_concepts = len(concept_embeddings)
    shares, captions = [], []
    for some in torch.split(films, _step(n_concepts)):
        probabilities = torch.softmax(scale * (image_embeddings[some] @ concept_embeddings.T), dim=1)
        share, caption = probabilities.topk(min(top, n_concepts), dim=1)
        shares.append(share)
        captions.append(caption)
    scores = image_embeddings.new_zeros((selection.n_units, n_concepts))
    if shares:
        order = selection.images.argsort(stable=True)
        cells = selection.units[order, None] * n_concepts + torch.cat(captions)[place[order]]
        scores.view(-1).index_add_(0, cells.flatten(), torch.cat(shares)[place[order]].flatten())
    return scores / selection.counts[:, None]


def _step(width: int) -> int:
    return max(1, CELLS // max(1, width))


def _rows(activations: Tensor) -> Iterator[Tensor]:
    """Give the films in blocks, each film at unit length, float64."""
    if activations.ndim != 2 or not activations.numel():
        raise InputError(
            f"'activations' must be (n_films, n_units) with a film and a unit, got {tuple(activations.shape)}"
        )
    for block in torch.split(activations, _step(activations.shape[1])):
        rows = block.double()
        lengths = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        yield rows / lengths.where(lengths > 0, 1)


def _spread(activations: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the unbiased standard deviation over all films and units."""
    count = activations.numel()
    mean = torch.stack([rows.sum() for rows in _rows(activations)]).sum() / count
    squares = torch.stack([(rows - mean).square().sum() for rows in _rows(activations)]).sum()
    return mean, (squares / max(1, count - 1)).sqrt()
