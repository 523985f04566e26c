"""Keeping the maps of a layer as they are, for what asks where a unit is strong and not only how strong."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mammi.capture.plan import LayerPlan
from mammi.capture.recorder import Recorder
from mammi.errors import CaptureError
from mammi.targets import Target

__all__ = ["MapPlan", "plan_maps"]


@dataclass(frozen=True)
class MapPlan(LayerPlan):
    """A layer whose maps are recorded whole, ``(n_images, n_units, height, width)``.

    Attributes:
        aspect: height and width of the network's input: how a row of patches is told from a column.
    """

    aspect: tuple[int, int] = (1, 1)

    def pool(self, value: Any) -> Tensor:  # noqa: ANN401 - whatever the module gave
        """Return a copy of the maps; the patches of a transformer become a grid.

        Raises:
            CaptureError: if it is no tensor, has other axes than planned, or its tokens are no grid.
        """
        given = self.one_tensor(value)
        if self.layout == "map":
            return given.clone()
        if self.layout == "map_last":
            return given.movedim(-1, 1).clone()
        patches = given[:, self.n_prefix :]
        n_patches = patches.shape[1]
        rows = round(math.sqrt(n_patches * self.aspect[0] / self.aspect[1]))
        columns = n_patches // max(1, rows)
        if rows * columns != n_patches or rows * self.aspect[1] != columns * self.aspect[0]:
            raise CaptureError(
                f"layer {self.name!r} gives {n_patches} tokens behind {self.n_prefix} that are no patches, which is no "
                f"grid with the proportions of its {self.aspect[0]}x{self.aspect[1]} input: choose a layer with maps"
            )
        return patches.mT.reshape(len(patches), -1, rows, columns).clone()


def plan_maps(target: Target, plans: Sequence[LayerPlan]) -> list[MapPlan]:
    """Plan the recording of the maps of some layers, and try it on one black film.

    Args:
        target: the network under study.
        plans: the layers.

    Raises:
        CaptureError: if a layer has no maps.
    """
    for plan in plans:
        if plan.layout == "vector":
            raise CaptureError(
                f"layer {plan.name!r} gives one number a unit and no map, so where its units are strong cannot be told: "
                "choose a layer with maps ('mammi layers' shows the shapes)"
            )
    maps = [
        MapPlan(plan.name, plan.layout, plan.pooling, plan.n_units, plan.n_prefix, target.preprocessing.size)
        for plan in plans
    ]
    with Recorder(target.model, maps) as recorder:
        shape = (1, target.preprocessing.channels, *target.preprocessing.size)
        recorder.record(torch.zeros(shape, device=target.device))
    return maps
