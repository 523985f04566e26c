"""Where a unit is strong, on the film's own geometry: its map, or gradient times activation at an earlier layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mammi.capture import LayerPlan, MapPlan, Recorder, plan_maps
from mammi.engine import declared_preprocessing
from mammi.errors import CaptureError, InputError
from mammi.explain.gradients import Attached, leaf_at, pooled_at
from mammi.explain.receptive import cell_offset
from mammi.targets import Target
from mammi.targets.layers import evaluating
from mammi.targets.preprocessing import Placement
from mammi.types import Film

__all__ = ["Lying", "UnitMaps", "cell_maps", "lay_on_film", "unit_maps", "with_maps"]


@dataclass(frozen=True)
class UnitMaps:
    """Where some units of one layer are strong on one film.

    Attributes:
        maps: float32, shape ``(n_units, height, width)``, the film's own size; in the unit of the activation. NaN where
            the network never saw the film.
        units: index of each, in the order of ``maps``.
        layer: name of the layer.
        kind: ``"map"``, or ``"gradient x activation at LAYER"``.
    """

    maps: NDArray[np.float32]
    units: tuple[int, ...]
    layer: str
    kind: str


def unit_maps(
    target: Target,
    plan: LayerPlan,
    film: Film,
    units: Sequence[int] | None = None,
    *,
    at: LayerPlan | None = None,
) -> UnitMaps:
    """Say where units are strong on a film.

    Args:
        target: the network under study.
        plan: the layer of the units; a `MapPlan` saves a trial pass per call.
        film: any size, grey or colour.
        units: which of its units, in any order; all by default.
        at: an earlier layer with maps, for a layer that has none (a vector), see `cell_maps`. Given for a layer with
            maps, it takes their place.

    Raises:
        InputError: if the target's preprocessing does not tell where a film lies, or a unit is not in the layer.
        CaptureError: if the layer has no maps and ``at`` is not given, or does not follow from ``at``.
    """
    chosen = _chosen(plan, units)
    preprocessing = declared_preprocessing(target)
    cells = cell_maps(target, plan, target.view(film)[None], chosen, at=at)[0]
    offset = cell_offset(target, with_maps(target, plan if at is None else at))
    maps = lay_on_film(cells, preprocessing, film.pixels.shape[:2], offset=offset)
    return UnitMaps(maps, tuple(chosen), plan.name, "map" if at is None else f"gradient x activation at {at.name}")


def cell_maps(
    target: Target, plan: LayerPlan, views: Tensor, units: Sequence[int] | None = None, *, at: LayerPlan | None = None
) -> Tensor:
    r"""Return the maps of units on the network's own cells, for a batch of films.

    Without ``at`` these are the maps of the layer itself (patches of a transformer as a grid). With it

    .. math:: M_u(p) = \sum_k \frac{\partial A_u}{\partial F_k(p)} F_k(p)

    with :math:`A_u` the pooled activation of unit u and :math:`F_k(p)` what channel k of ``at`` holds in cell p:
    gradient times activation (Shrikumar et al., 2016), at a layer, as in the variant of Grad-CAM (Selvaraju et al.,
    ICCV 2017) that neither averages gradients over cells nor cuts off what is negative. Where :math:`A_u` is linear in
    F, as a logit behind a global average is, :math:`\sum_p M_u(p)` is exactly :math:`A_u` less its bias; elsewhere it
    is a first-order account of the film as it is, no more.

    Args:
        target: the network under study; its parameters need no gradient, and get none.
        plan: the layer of the units.
        views: what the network takes, shape ``(n_films, channels, height, width)``.
        units: which units; all by default.
        at: an earlier layer with maps.

    Returns:
        float32 on the CPU, shape ``(n_films, n_units, rows, columns)``.

    Raises:
        InputError: if a unit is not in the layer.
        CaptureError: as `unit_maps`.
    """
    chosen = _chosen(plan, units)
    views = views.to(target.device)
    if at is None:
        if plan.layout == "vector":
            raise CaptureError(
                f"layer {plan.name!r} gives one number a unit and no map: give an earlier layer with maps as 'at', and "
                "its cells are weighed by gradient x activation ('mammi layers' shows the shapes)"
            )
        with Recorder(target.model, [with_maps(target, plan)]) as recorder:
            return recorder.record(views)[plan.name][:, chosen]
    return _gradient_maps(target, plan, with_maps(target, at), views, chosen)


class Lying(Protocol):
    """Tells where films come to lie on an input; `Preprocessing` does."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the input."""
        ...

    def placement(self, height: int, width: int) -> Placement:
        """Return where a film of this size lies there."""
        ...


def lay_on_film(
    cells: Tensor,
    preprocessing: Lying,
    shape: tuple[int, int],
    size: tuple[int, int] | None = None,
    *,
    offset: tuple[float, float] = (0.0, 0.0),
) -> NDArray[np.float32]:
    r"""Lay maps of the network's input back on the film it was made from: undo squash, crop or padding.

    The centre of film pixel r of H lies at :math:`y = top + (r + 1/2)\,h / H` on the input, with ``top`` and ``h`` of the
    film's placement there, and so at :math:`c = (y - o)\,n / N - 1/2` among the n cells that share the N rows of the input
    and look o pixels away from the middles of their shares; the value is linear between the two nearest cells, rows and columns alike, and beyond the outermost centres it is
    that of the outermost cell. For a squashed film this is ``interpolate(mode="bilinear", align_corners=False)`` of
    torch to the film's size. What was padded is dropped.

    Args:
        cells: shape ``(..., rows, columns)``, floating; the cells cover the network's input.
        preprocessing: a declared `Preprocessing`, see `declared_preprocessing`, or what else tells where films lie.
        shape: height and width of the film, in pixels.
        size: rows and columns of the result, a grid over the whole film; ``shape`` by default.
        offset: how far down and to the right the cells look away from the middles of their shares of the input, in pixels
            of the input, from `mammi.explain.receptive.cell_offset`.

    Returns:
        float32, shape ``(..., *size)``; NaN where the centre of a pixel lies outside the network's input (cropped away).

    Raises:
        InputError: if ``cells`` is not floating or has no cell.
    """
    if cells.ndim < 2 or not cells.is_floating_point() or 0 in cells.shape[-2:]:
        raise InputError(f"'cells' must be floating, (..., rows, columns), got {cells.dtype} {tuple(cells.shape)}")
    place = preprocessing.placement(*shape)
    size = shape if size is None else size
    rows, columns = preprocessing.size
    down, seen_down = _weights(size[0], cells.shape[-2], rows, place.top, place.height, offset[0])
    right, seen_right = _weights(size[1], cells.shape[-1], columns, place.left, place.width, offset[1])
    laid = (down @ cells.double() @ right.T).float()
    laid[..., ~(seen_down[:, None] & seen_right)] = torch.nan
    return laid.numpy()


def _weights(
    n_pixels: int, n_cells: int, n_input: int, start: int, length: int, offset: float
) -> tuple[Tensor, Tensor]:
    """Return how much each cell gives to each pixel of one axis, and which pixels the network saw."""
    on_input = start + (torch.arange(n_pixels, dtype=torch.float64) + 0.5) * (length / n_pixels)
    centres = ((on_input - offset) * (n_cells / n_input) - 0.5).clamp(0, n_cells - 1)
    weights = (1 - (centres[:, None] - torch.arange(n_cells, dtype=torch.float64)).abs()).clamp(min=0)
    return weights, (on_input >= 0) & (on_input < n_input)


def _chosen(plan: LayerPlan, units: Sequence[int] | None) -> list[int]:
    chosen = list(range(plan.n_units)) if units is None else [int(unit) for unit in units]
    outside = [unit for unit in chosen if not 0 <= unit < plan.n_units]
    if outside:
        raise InputError(f"layer {plan.name!r} has units 0 to {plan.n_units - 1}, got {outside[0]}")
    return chosen


def with_maps(target: Target, plan: LayerPlan) -> MapPlan:
    """Return a plan that keeps a layer's maps whole.

    Raises:
        CaptureError: if the layer has none.
    """
    return plan if isinstance(plan, MapPlan) else plan_maps(target, [plan])[0]


def _gradient_maps(target: Target, plan: LayerPlan, at: MapPlan, views: Tensor, units: list[int]) -> Tensor:
    """Return gradient x activation at a layer, ``(n_films, n_units, rows, columns)``."""
    # The pooling of the plan decides what one unit is; a MapPlan pools nothing.
    attached = Attached(plan.name, plan.layout, plan.pooling, plan.n_units, plan.n_prefix)
    model = target.model
    with evaluating(model), leaf_at(model, at) as caught, pooled_at(model, attached) as pooled, torch.enable_grad():
        model(views)
        unrelated = f"layer {plan.name!r} does not follow from {at.name!r}: give an earlier layer as 'at'"
        if "leaf" not in caught or not pooled or not pooled[0].requires_grad:
            raise CaptureError(unrelated)
        leaf = caught["leaf"]
        # Films do not mix in eval(), so the gradient of a sum over films is each film's own. One pass back per unit
        # through the layers between: batched passes (vmap) were no quicker on a CPU, and up to five times slower.
        totals = pooled[0].sum(dim=0)[units].unbind()
    maps = []
    for total in totals:
        try:
            (gradient,) = torch.autograd.grad(total, leaf, retain_graph=True, allow_unused=True)
        except RuntimeError as error:
            text = " ".join(str(error).split())[:200]
            raise CaptureError(f"layer {plan.name!r} cannot be followed back to {at.name!r} ({text})") from error
        if gradient is None:
            raise CaptureError(unrelated)
        summed = (gradient * leaf.detach()).sum(dim=1 if at.layout == "map" else -1, keepdim=True)
        maps.append(at.pool(summed)[:, 0].float().cpu())
    if not maps:
        return torch.empty(len(views), 0, *at.pool(leaf).shape[-2:])
    return torch.stack(maps, dim=1)
