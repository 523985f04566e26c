"""Weighted sums of films for many units at once, a few films at a time: no copy of the films is made."""

from torch import Tensor

__all__ = ["CHUNK", "film_covariance", "film_sums"]

#: Films that are multiplied together: their rows stay in the processor's cache.
CHUNK = 4096


def film_sums(weights: Tensor, films: Tensor, rows: Tensor) -> Tensor:
    r"""Sum films by weight: :math:`\sum_n w_{nk}\, e_{r_n}`.

    Args:
        weights: shape ``(n, n_units)``, floating.
        films: shape ``(n_films, d_embed)``, of the same dtype.
        rows: int64, shape ``(n,)``: the film that each row of weights is for.

    Returns:
        Shape ``(n_units, d_embed)``.
    """
    sums = films.new_zeros((weights.shape[1], films.shape[1]))
    for start in range(0, len(rows), CHUNK):
        part = slice(start, start + CHUNK)
        sums.addmm_(weights[part].T, films[rows[part]])
    return sums


def film_covariance(films: Tensor) -> Tensor:
    """Return the covariance of the embeddings over the films, ``(d_embed, d_embed)``."""
    centre = films.mean(dim=0)
    covariance = films.new_zeros((films.shape[1], films.shape[1]))
    for start in range(0, len(films), CHUNK):
        centred = films[start : start + CHUNK] - centre
        covariance.addmm_(centred.T, centred)
    return covariance.div_(len(films))
