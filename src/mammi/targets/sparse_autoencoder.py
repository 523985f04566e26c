"""Latents of a sparse autoencoder as units: a layer of their own beside the layer they read.

A sparse autoencoder (Bricken et al. 2023; TopK: Gao et al. 2024, arXiv 2406.04093; JumpReLU: Rajamanoharan et al. 2024,
arXiv 2407.14435) writes a layer's vector at one place or token as few of many directions. Here only its encoder runs,
on what the layer gives, and nothing of it goes back: the network's own output is the same to the bit.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from mammi.errors import InputError, TargetError, UnknownNameError
from mammi.targets.layers import Layout, list_layers, unit_axis
from mammi.targets.preprocessing import TargetPreprocessing
from mammi.targets.sae_file import SaeWeights, read_sae
from mammi.targets.shell import Shell

__all__ = ["SAE", "SparseEncoder", "attached"]

#: What the layers of latents begin with: ``sae.features.norm5`` reads ``features.norm5``.
SAE = "sae"


class SparseEncoder(nn.Module):
    """The encoder of a sparse autoencoder, over the axis of a layer's units.

    Args:
        weights: what its file holds.
        layout: of the layer that it reads.
    """

    weight: Tensor
    bias: Tensor
    shift: Tensor
    threshold: Tensor | None

    def __init__(self, weights: SaeWeights, layout: Layout) -> None:
        super().__init__()
        self.layout, self.k, self.kind = layout, weights.k, weights.layout
        self.register_buffer("weight", weights.weight)
        self.register_buffer("bias", weights.bias)
        self.register_buffer("shift", weights.shift)
        self.register_buffer("threshold", weights.threshold)

    def forward(self, given: Tensor) -> Tensor:
        """Return the latents, at least 0, with ``n_latents`` in place of the layer's units and all other axes kept."""
        axis = unit_axis(self.layout)
        vectors = given.detach().movedim(axis, -1).to(self.weight.dtype)
        latents = torch.relu((vectors - self.shift) @ self.weight + self.bias)
        if self.threshold is not None:
            latents = latents * (latents > self.threshold)
        if self.k:
            largest = latents.topk(self.k, dim=-1)
            latents = torch.zeros_like(latents).scatter_(-1, largest.indices, largest.values)
        return latents.movedim(-1, axis)

    def extra_repr(self) -> str:
        """Return what the weights do not tell: with them it is the content of the network."""
        width, n_latents = self.weight.shape
        rule = f"TopK {self.k}" if self.k else "ReLU" if self.threshold is None else "JumpReLU"
        return f"{width} to {n_latents}, {rule}, {self.layout}"


class _WithLatents(Shell):
    """A network whose forward also runs sparse encoders on some of its layers."""

    def __init__(self, inner: nn.Module, encoders: Mapping[str, SparseEncoder]) -> None:
        super().__init__(inner)
        self._reads = tuple(encoders)
        room = nn.Module()
        for layer, encoder in sorted(encoders.items(), key=lambda pair: pair[0].count(".")):
            *path, last = layer.split(".")
            place = room
            for name in path:
                if name not in place._modules:
                    place.add_module(name, nn.Module())
                place = place.get_submodule(name)
            place.add_module(last, encoder)
        self.add_module(SAE, room)

    def forward(self, films: Tensor) -> object:
        """Return what the network inside returns; its hooks are gone again afterwards."""
        handles = []
        try:
            for layer in self._reads:
                encoder = self.get_submodule(f"{SAE}.{layer}")

                def read(_module: nn.Module, _inputs: object, output: Tensor, encoder: nn.Module = encoder) -> None:
                    encoder(output)

                handles.append(self.get_submodule(layer).register_forward_hook(read))
            return self.run(films)
        finally:
            for handle in handles:
                handle.remove()


def attached(
    model: nn.Module, preprocessing: TargetPreprocessing, name: str, sae: Mapping[str, str | Path]
) -> tuple[nn.Module, tuple[str, ...]]:
    """Return a network whose layers ``sae.LAYER`` are the latents of sparse autoencoders on its layers.

    Args:
        model: in ``eval()`` mode; its modules are shared, its output is not changed.
        preprocessing: tells the size of its input.
        name: what to call it in messages.
        sae: weights files (or folders) by the layer they read, see `read_sae`.

    Returns:
        The network, and notes in words.

    Raises:
        UnknownNameError: if a layer is not in the network; the nearest is named.
        TargetError: if a file cannot be used, a layer's units cannot be told, or there are not as many as the
            autoencoder reads.
        InputError: if ``sae`` is empty.
    """
    if not sae:
        raise InputError("'sae' names no layer: give {layer: file}")
    if SAE in dict(model.named_children()):
        raise TargetError(f"{name} has a layer {SAE!r} of its own, the name that the latents would get: rename it")
    layers = {layer.name: layer for layer in list_layers(model, preprocessing)}
    encoders, notes = {}, []
    for layer, file in sae.items():
        if layer not in layers:
            raise UnknownNameError.among(f"Layer of {name}:", layer, layers, "'mammi layers' lists them all.")
        info = layers[layer]
        if info.layout is None or info.n_calls != 1:
            reason = info.reason or f"it is called {info.n_calls} times in one forward pass"
            raise TargetError(f"a sparse autoencoder cannot read layer {layer!r} of {name}: {reason}")
        weights = read_sae(Path(file).expanduser())
        width, n_latents = weights.weight.shape
        if width != info.n_units:
            raise TargetError(
                f"the sparse autoencoder {str(file)!r} reads {width} units, but layer {layer!r} of {name} has "
                f"{info.n_units}: give the layer it was trained on"
            )
        device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        encoders[layer] = SparseEncoder(weights, info.layout).to(device).eval()
        notes += [f"layer '{SAE}.{layer}': {n_latents:,} latents of {layer} ({weights.layout})", *weights.notes]
    return _WithLatents(model, encoders).eval(), tuple(notes)
