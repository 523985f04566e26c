"""The control that every table needs: the same network, having learned nothing."""

import copy
import inspect
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mammi.errors import InputError, TargetError
from mammi.functional.fingerprint import fingerprint_module, fingerprint_value
from mammi.targets.target import Target
from mammi.types import Film

__all__ = ["copied", "randomised"]


def copied(target: Target) -> nn.Module:
    """Return a copy of a target's network on the CPU, whose random numbers are the same everywhere.

    Raises:
        TargetError: if the network cannot be copied.
    """
    try:
        return copy.deepcopy(target.model).cpu()
    except (RuntimeError, TypeError, ValueError, AttributeError, copy.Error) as error:
        raise TargetError(f"{target.name} cannot be copied ({type(error).__name__}: {error})") from error


def randomised(target: Target, films: Sequence[Film], seed: int = 0) -> Target:
    """Return a copy of a target with weights drawn anew, for the comparison with a network that has learned nothing.

    Every module with a ``reset_parameters()`` starts as it was made to; parameters of no such module (class tokens,
    positions, layer scales) are drawn from a normal of the same mean and standard deviation. The running statistics
    of batch normalisation are then estimated again from ``films``: left as trained, or at 0 and 1, they do not fit the
    new weights, and activations vanish or explode with depth.

    Args:
        target: left as it is.
        films: a small batch, 16 or more; at least 2 where the network has batch normalisation, else it may be empty.
        seed: of the weights; the same seed gives the same weights on any device.

    Returns:
        The copy, in ``eval()`` mode on the same device, with a fingerprint of its own.

    Raises:
        InputError: if the network has batch normalisation and there are fewer than 2 films.
        TargetError: if the network cannot be copied, or puts out something not finite.
    """
    model = copied(target)
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if norms and len(films) < 2:
        raise InputError(f"{target.name} has batch normalisation: give 2 films or more to fit it, got {len(films)}")
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        _draw(model)
    model = model.to(target.device).eval()
    if films:
        _check(_settle(model, norms, torch.stack([target.view(film) for film in films]).to(target.device)), target)
    return replace(
        target,
        name=f"{target.name} (random weights, seed {seed})",
        model=model,
        fingerprint=fingerprint_value([fingerprint_module(model), target.preprocessing.to_dict()]),
        source=None,
        base=target.source,
        notes=(*target.notes, f"RANDOM WEIGHTS (seed {seed}): a control, it has learned nothing"),
    )


def _draw(model: nn.Module) -> None:
    """Start every parameter anew, in place."""
    trained = {name: value.clone() for name, value in model.named_parameters()}
    own: set[int] = set()
    for module in model.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset) and not _needs_arguments(reset):
            reset()
            own |= {id(value) for value in module.parameters(recurse=False)}
    for name, value in model.named_parameters():
        before = trained[name]
        # Some modules reset what is computed from the parameter (weight norm), which then stays as it was trained.
        stayed = torch.equal(before, value) and bool((before != before.flatten()[0]).any())
        if (id(value) not in own or stayed) and value.is_floating_point() and value.numel():
            spread = before.float().std(correction=0)
            value.copy_(before.float().mean() + spread * torch.randn(value.shape))


def _needs_arguments(function: object) -> bool:
    if not callable(function):
        return True
    parameters = inspect.signature(function).parameters.values()
    return any(p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)


def _settle(model: nn.Module, norms: Sequence[_BatchNorm], views: Tensor) -> object:
    """Fit the running statistics of ``norms`` to ``views`` in one pass, layer by layer; return what comes out after."""
    momenta = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over batches: with one batch, its own statistics
            norm.train()
        with torch.no_grad():
            if norms:
                model(views)
            model.eval()
            return model(views)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()


def _check(output: object, target: Target) -> None:
    if isinstance(output, Tensor) and not bool(torch.isfinite(output).all()):
        raise TargetError(f"{target.name} puts out values that are not finite once its weights are drawn anew")
