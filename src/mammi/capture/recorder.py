"""Recording units while a network runs, without leaving a trace in it."""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from mammi.capture.plan import LayerPlan
from mammi.errors import CaptureError
from mammi.functional.precision import as_input

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

__all__ = ["Recorder"]


class Recorder:
    """Records the pooled activations of some layers of a network, as a context manager.

    On entry the network is put in ``eval()`` and hooks are registered; on exit, also after an error, the hooks are
    removed and the training flags of every module restored. Activations are reduced inside the hook: nothing of a
    feature map is kept, so what the network later overwrites in place (``relu(features, inplace=True)``) cannot
    change what was recorded.

    Args:
        model: the network under study.
        plans: the layers to record and how to pool each.
        precision: in which numbers the network computes (`Target.precision`); batches are cast to it, and what is
            recorded is pooled in float32 all the same.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(inplace=True))
        >>> with Recorder(model, [LayerPlan("0", "map", "mean", 2)]) as recorder:
        ...     recorded = recorder.record(torch.ones(3, 1, 4, 4))
        >>> {layer: tuple(values.shape) for layer, values in recorded.items()}
        {'0': (3, 2)}
    """

    def __init__(self, model: nn.Module, plans: Sequence[LayerPlan], precision: str = "float32") -> None:
        self.model = model
        self.plans = list(plans)
        self.precision = precision
        self._handles: list[RemovableHandle] = []
        self._training: dict[nn.Module, bool] = {}
        self._seen: dict[str, Tensor] = {}

    def __enter__(self) -> Self:
        try:
            self._training = {module: module.training for module in self.model.modules()}
            self.model.eval()
            modules = dict(self.model.named_modules())
            for plan in self.plans:
                if plan.module not in modules:
                    raise CaptureError(f"layer {plan.module!r} is not in the network: 'mammi layers' lists them all")
                module = modules[plan.module]
                if plan.is_input:
                    self._handles.append(module.register_forward_pre_hook(self._input_hook(plan), with_kwargs=True))
                else:
                    self._handles.append(module.register_forward_hook(self._output_hook(plan)))
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
        self._seen.clear()
        for module, training in self._training.items():
            module.training = training
        self._training.clear()

    def _output_hook(self, plan: LayerPlan) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:  # noqa: ANN401 - whatever a module returns
            self._keep(plan, output)

        return hook

    def _input_hook(self, plan: LayerPlan) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:  # noqa: ANN401 - whatever a module takes
            self._keep(plan, args[0] if args else next(iter(kwargs.values()), None))

        return hook

    def _keep(self, plan: LayerPlan, value: Any) -> None:  # noqa: ANN401 - whatever a module returns
        if plan.name in self._seen:
            raise CaptureError(
                f"layer {plan.name!r} is called more than once in one forward pass, so its units have no single "
                "value: record the layer before or after it"
            )
        self._seen[plan.name] = plan.pool(value)

    @torch.inference_mode()
    def record(self, batch: Tensor) -> dict[str, Tensor]:
        """Show the network one batch.

        Args:
            batch: what the network takes, float32 of shape ``(n_images, ...)``; it is brought to the network's device.

        Returns:
            For each layer, float32 of shape ``(n_images, n_units)`` on the CPU, in the order asked for; maps
            ``(n_images, n_units, height, width)`` where the plan keeps them.

        Raises:
            CaptureError: if a layer was not reached, was called twice, or gave another shape than planned.
        """
        self._seen.clear()
        weight = next(self.model.parameters(), batch)
        self.model(as_input(batch, self.precision, weight.device))
        missing = [plan.name for plan in self.plans if plan.name not in self._seen]
        if missing:
            raise CaptureError(f"the network ran without calling {', '.join(map(repr, missing))}: choose other layers")
        for plan in self.plans:
            got, expected = tuple(self._seen[plan.name].shape), (len(batch), plan.n_units)
            if got[:2] != expected:
                raise CaptureError(f"layer {plan.name!r} gave {got} after pooling, expected {expected}")
        recorded = {plan.name: self._seen[plan.name].float().cpu() for plan in self.plans}
        self._seen.clear()
        return recorded
