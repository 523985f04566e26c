"""A network with some units of a layer held at a value, for as long as one looks."""

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from mammi.capture import LayerPlan
from mammi.errors import CaptureError, InputError
from mammi.explain.gradients import replaced_at

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

__all__ = ["Ablated"]


class Ablated:
    """Holds units of one layer at a value while a network runs, as a context manager.

    What the layer gives is copied and the unit's values replaced at all its places: a channel of a map becomes constant,
    a feature of tokens the same on every token, so that the pooled unit is the value whatever the pooling. On entry the
    network is put in ``eval()``; on exit, also after an error, the hook is removed and the training flags restored.

    Args:
        model: the network.
        plan: the layer, as it was recorded.
        values: what each unit is held at; every other unit stays as it is.

    Raises:
        InputError: if the layer has no such unit, or a value is not finite.
        CaptureError: if the layer is not in the network, or is not reached or called twice while the network runs.

    Example:
        >>> model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.Linear(2, 1, bias=False))
        >>> for weights in model.parameters():
        ...     _ = nn.init.ones_(weights)
        >>> with Ablated(model, LayerPlan("0", "vector", "none", 2), {1: 5.0}):
        ...     print(model(torch.ones(1, 1)).item())
        6.0
        >>> model(torch.ones(1, 1)).item()
        2.0
    """

    def __init__(self, model: nn.Module, plan: LayerPlan, values: Mapping[int, float]) -> None:
        wrong = [unit for unit in values if not 0 <= unit < plan.n_units]
        if wrong:
            raise InputError(f"layer {plan.name!r} has units 0 to {plan.n_units - 1}, got {wrong[0]}")
        self.model = model
        self.plan = plan
        self._units = torch.tensor(list(values), dtype=torch.int64)
        self._values = torch.tensor(list(values.values()), dtype=torch.float32)
        if not torch.isfinite(self._values).all():
            raise InputError(f"units of layer {plan.name!r} can only be held at finite values")
        self._handles: list[RemovableHandle] = []
        self._training: dict[nn.Module, bool] = {}
        self._calls = 0

    def __enter__(self) -> Self:
        modules = dict(self.model.named_modules())
        if self.plan.module not in modules:
            raise CaptureError(f"layer {self.plan.module!r} is not in the network: 'mammi layers' lists them all")
        self._training = {module: module.training for module in modules.values()}
        try:
            self.model.eval()
            self._handles = [replaced_at(self.model, self.plan, self._held)]
            if self.plan.module:
                self._handles += [
                    self.model.register_forward_pre_hook(self._start),
                    self.model.register_forward_hook(self._check),
                ]
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        for module, training in self._training.items():
            module.training = training
        self._training.clear()

    def _held(self, value: Any) -> Tensor:  # noqa: ANN401 - whatever the module gave
        given = self.plan.one_tensor(value)
        axis = 1 if self.plan.layout in ("vector", "map") else given.ndim - 1
        units = self._units.to(given.device)
        size = [len(units) if place == axis else length for place, length in enumerate(given.shape)]
        values = self._values.to(given.device, given.dtype)
        values = values.reshape([-1 if place == axis else 1 for place in range(given.ndim)]).expand(size)
        self._calls += 1
        return given.index_copy(axis, units, values)  # a copy: the layer's own output may be needed elsewhere

    def _start(self, model: nn.Module, args: Any) -> None:  # noqa: ANN401 - whatever a module takes
        self._calls = 0

    def _check(self, model: nn.Module, args: Any, output: Any) -> None:  # noqa: ANN401 - whatever a module gives
        if self._calls != 1:
            raise CaptureError(
                f"layer {self.plan.name!r} was called {self._calls} times in one forward pass, so holding its units has "
                "no single meaning: choose another layer"
            )
