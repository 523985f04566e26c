"""Which images represent a unit: by a share of its own range (MAMMI), by rank, or by quantile."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mammi.errors import InputError
from mammi.functional.strongest import ranked, strongest

__all__ = ["Selection", "limit_examples", "select_adaptive", "select_quantile", "select_top", "select_where"]


@dataclass(frozen=True)
class Selection:
    """The examples of many units as one ragged table: no sentinel, so a unit may have none.

    Attributes:
        images: int64, shape ``(n_examples,)``: image indices, unit after unit, each by falling activation, ties by
            lower index.
        activations: float32 or float64, shape ``(n_examples,)``: the unit's activation on each.
        offsets: int64, shape ``(n_units + 1,)``: unit ``u`` owns ``images[offsets[u]:offsets[u + 1]]``.
    """

    images: Tensor
    activations: Tensor
    offsets: Tensor

    @property
    def n_units(self) -> int:
        """Number of units, those without an example included."""
        return len(self.offsets) - 1

    @property
    def counts(self) -> Tensor:
        """Number of examples per unit, int64, shape ``(n_units,)``."""
        return self.offsets.diff()

    @property
    def units(self) -> Tensor:
        """The unit that owns each example, int64, shape ``(n_examples,)``."""
        return torch.repeat_interleave(torch.arange(self.n_units), self.counts)

    def per_unit(self) -> list[Tensor]:
        """Return one int64 tensor of image indices per unit."""
        return list(torch.split(self.images, self.counts.tolist()))

    def only(self, units: Tensor) -> "Selection":
        """Return the selection of some units, int64 indices in the order wanted."""
        counts = self.counts[units]
        offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        moved = (self.offsets[units] - offsets[:-1]).repeat_interleave(counts)
        entries = torch.arange(len(moved)) + moved
        return Selection(self.images[entries], self.activations[entries], offsets)

    @staticmethod
    def concatenate(parts: "list[Selection]") -> "Selection":
        """Join selections of consecutive blocks of units."""
        counts = torch.cat([part.counts for part in parts])
        return Selection(
            torch.cat([part.images for part in parts]),
            torch.cat([part.activations for part in parts]),
            torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)]),
        )


def _checked(activations: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the activations, float32 at least, and the least and the greatest of each unit; refuse what has none."""
    if activations.ndim != 2:
        raise InputError(f"'activations' must be (n_images, n_units), got {tuple(activations.shape)}: pool it first")
    if not activations.is_floating_point():
        raise InputError(f"'activations' must be floating, got {activations.dtype}")
    if activations.shape[0] == 0:
        raise InputError("'activations' holds no image: show the network at least one")
    activations = activations.detach() if activations.dtype == torch.float64 else activations.detach().float()
    low, high = activations.amin(dim=0), activations.amax(dim=0)
    # A NaN is both bounds of its unit, and an infinite value is one of them: no pass over the values is needed.
    if not bool((low.isfinite() & high.isfinite()).all()):
        raise InputError(f"'activations' holds {int((~torch.isfinite(activations)).sum())} values NaN or infinite")
    return activations, low, high


def _above(activations: Tensor, line: Tensor) -> Tensor:
    """Tell which activations exceed a line of each unit, float64 ``(n_units,)``, exactly; bool ``(n_units, n_images)``."""
    rows = activations.T
    if rows.dtype != torch.float32:
        return rows.double() > line[:, None]
    # A float32 exceeds the line if it exceeds the greatest float32 that does not: no value need be widened.
    edge = line.float()
    edge = torch.where(edge.double() > line, edge.nextafter(edge.new_tensor(-torch.inf)), edge)
    return torch.from_numpy(rows.numpy() > edge.numpy()[:, None])  # twice as quick as in torch


def _table(activations: Tensor, units: Tensor, images: Tensor) -> Selection:
    """Return the examples given as ranked pairs of a unit and an image."""
    counts = torch.bincount(units, minlength=activations.shape[1])
    return Selection(images, activations[images, units], torch.cat([counts.new_zeros(1), counts.cumsum(0)]))


def select_adaptive(activations: Tensor, threshold: float = 0.93) -> Selection:
    r"""Choose each unit's examples by a share of its own activation range.

    Image :math:`i` represents unit :math:`u` when
    :math:`a_{iu} > \min_i a_{iu} + r\,(\max_i a_{iu} - \min_i a_{iu})` (Kim, Ahn, Kim, MICCAI 2024, adaptive neuron
    representative image selection). The line is drawn in float64.

    Args:
        activations: pooled activations, shape ``(n_images, n_units)``, floating, finite.
        threshold: the share ``r`` of the range, in ``[0, 1)``.

    Returns:
        The examples; none for a unit whose activation never varies.

    Raises:
        InputError: if ``activations`` is not 2-D, floating and finite, or ``threshold`` is out of range.

    Notes:
        The official code writes ``max - range * (1 - r)``; an image exactly on the line can differ by rounding. The
        rule is unchanged by a positive affine map of a unit, but not by a sigmoid: logits and probabilities differ.

    Example:
        >>> a = torch.tensor([[0.0, 5.0], [9.0, 5.0], [10.0, 5.0]])
        >>> [images.tolist() for images in select_adaptive(a, threshold=0.8).per_unit()]
        [[2, 1], []]
    """
    activations, least, greatest = _checked(activations)
    if not 0 <= threshold < 1:
        raise InputError(f"'threshold' must be in [0, 1), got {threshold}")
    low, high = least.double(), greatest.double()
    return _table(activations, *ranked(activations.T, _above(activations, low + threshold * (high - low))))


def select_top(activations: Tensor, k: int) -> Selection:
    """Choose each unit's ``k`` strongest images, ties by lower index.

    Args:
        activations: pooled activations, shape ``(n_images, n_units)``, floating, finite.
        k: how many, at least 1; all images where there are fewer.

    Returns:
        The examples; none for a unit whose activation never varies, since no rank means anything there.

    Raises:
        InputError: if ``activations`` is not 2-D, floating and finite, or ``k`` is below 1.
    """
    activations, low, high = _checked(activations)
    if k < 1:
        raise InputError(f"'k' must be at least 1, got {k}")
    units, images = strongest(activations.T, k)
    varies = (high > low)[units]
    return _table(activations, units[varies], images[varies])


def select_quantile(activations: Tensor, quantile: float) -> Selection:
    """Choose each unit's images strictly above a quantile of its activations (linear interpolation, float64).

    Args:
        activations: pooled activations, shape ``(n_images, n_units)``, floating, finite.
        quantile: in ``[0, 1)``; 0.99 keeps about one image in a hundred.

    Returns:
        The examples; none for a unit whose activation never varies.

    Raises:
        InputError: if ``activations`` is not 2-D, floating and finite, or ``quantile`` is out of range.
    """
    activations, _, _ = _checked(activations)
    if not 0 <= quantile < 1:
        raise InputError(f"'quantile' must be in [0, 1), got {quantile}")
    place = quantile * (len(activations) - 1)
    below = int(place)
    above = min(below + 1, len(activations) - 1)
    ordered = np.partition(activations.T.numpy(), (below, above), axis=1)
    low, high = (torch.from_numpy(ordered[:, at]).double() for at in (below, above))
    return _table(activations, *ranked(activations.T, _above(activations, low + (place - below) * (high - low))))


def select_where(activations: Tensor, chosen: Tensor) -> Selection:
    """Rank the images that some other rule chose.

    Args:
        activations: pooled activations, shape ``(n_images, n_units)``, floating, finite.
        chosen: bool, the same shape: which images represent which unit.

    Raises:
        InputError: if ``activations`` is not 2-D, floating and finite, or ``chosen`` does not fit it.
    """
    activations, _, _ = _checked(activations)
    if chosen.shape != activations.shape or chosen.dtype != torch.bool:
        raise InputError(
            f"'chosen' must be bool of shape {tuple(activations.shape)}, got {chosen.dtype} {tuple(chosen.shape)}"
        )
    return _table(activations, *ranked(activations.T, chosen.T))


def limit_examples(
    activations: Tensor, selection: Selection, minimum: int = 0, maximum: int | None = None
) -> Selection:
    """Bound the number of examples: too few are filled up by rank, too many are cut at the weakest.

    Args:
        activations: the activations that ``selection`` was made from, shape ``(n_images, n_units)``.
        selection: any rule's answer on them, whose choice follows the activation.
        minimum: fill up to this many (0: leave as they are); a unit that never varies stays empty.
        maximum: keep at most this many (None: all).

    Raises:
        InputError: if ``minimum`` is negative, or ``maximum`` is below 1 or below ``minimum``.
    """
    if minimum < 0:
        raise InputError(f"the minimum number of examples must be 0 or more, got {minimum}")
    if maximum is not None and maximum < max(1, minimum):
        raise InputError(f"the maximum number of examples must be at least {max(1, minimum)}, got {maximum}")
    counts = selection.counts
    bounded = counts if maximum is None else counts.clamp(max=maximum)
    if minimum and bool((counts < minimum).any()):
        # Each rule takes a unit's strongest images first, so a longer ranking holds every choice as its head.
        selection = select_top(activations, max(minimum, int(bounded.max())))
        bounded = torch.minimum(bounded.clamp(min=minimum), selection.counts)
    places = torch.arange(len(selection.images)) - selection.offsets[:-1].repeat_interleave(selection.counts)
    keep = places < bounded.repeat_interleave(selection.counts)
    offsets = torch.cat([bounded.new_zeros(1), bounded.cumsum(0)])
    return Selection(selection.images[keep], selection.activations[keep], offsets)
