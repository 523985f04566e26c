"""A network seen through another forward: the layers, names and weights stay those of the network inside."""

from typing import Any

from torch import Tensor, nn

__all__ = ["LogitsOnly", "Shell"]


class Shell(nn.Module):
    """Holds another network's modules, parameters and buffers as its own, under their own names.

    A plain wrapper would put a prefix before every layer's name and every tensor's; here ``named_modules()`` and
    ``state_dict()`` are those of the network inside, which is what people know and what their files hold.

    Args:
        inner: the network inside; its tensors are shared, not copied.
    """

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.__dict__["inner"] = inner  # past nn.Module, which would register it as a child
        self._parameters = inner._parameters
        self._buffers = inner._buffers
        self._non_persistent_buffers_set = inner._non_persistent_buffers_set
        self._modules = dict(inner._modules)
        self.training = inner.training

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the network inside offers
        try:
            return super().__getattr__(name)
        except AttributeError:
            inner = self.__dict__.get("inner")  # absent while a copy is being made
            if inner is None:
                raise
            return getattr(inner, name)

    def _get_name(self) -> str:
        return str(self.__dict__["inner"]._get_name())

    def run(self, films: Tensor) -> Any:  # noqa: ANN401 - whatever the network inside returns
        """Run the network inside, in this one's mode."""
        inner: nn.Module = self.__dict__["inner"]
        inner.training = self.training  # it is in nobody's list of modules, so nobody else sets it
        return inner(films)

    def forward(self, films: Tensor) -> Any:  # noqa: ANN401
        """Return what the network inside returns."""
        return self.run(films)


class LogitsOnly(Shell):
    """Returns the tensor of logits alone, of a network whose output is an object or a tuple that begins with it."""

    def forward(self, films: Tensor) -> Tensor:
        """Return the logits, ``(n_images, n_outputs)``."""
        output = self.run(films)
        logits: Tensor = output[0] if isinstance(output, tuple) else output.logits
        return logits
