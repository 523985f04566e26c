"""Engines by name, for the command line and for `annotate`."""

from mammi.engine.local import LocalEngine
from mammi.engine.processes import ProcessEngine
from mammi.engine.work import Engine
from mammi.errors import InputError, UnknownNameError

__all__ = ["create_engine"]

_NAMES = ("local", "ray")


def create_engine(
    name: str = "local", *, workers: int = 1, decoders: int | None = None, address: str | None = None
) -> Engine:
    """Make an engine.

    Args:
        name: ``"local"`` for processes of this machine, ``"ray"`` for Ray Data, here or on a cluster.
        workers: how many there are, each with models of its own. One of ``"local"`` is this process.
        decoders: threads that decode films, per process; None shares the cores among them.
        address: of a running Ray cluster, ``"auto"`` for the one this machine is part of; None starts one here.

    Raises:
        UnknownNameError: if there is no such engine.
        InputError: if a number is wrong, or an address is given to ``"local"``.
        MissingExtraError: if Ray is asked for and not installed.
    """
    if name not in _NAMES:
        raise UnknownNameError.among("Engine", name, _NAMES, f"Known: {', '.join(_NAMES)}.")
    if workers < 1 or (decoders is not None and decoders < 1):
        raise InputError(f"'workers' and 'decoders' must be at least 1, got {workers} and {decoders}")
    if name == "ray":
        from mammi.engine.ray_data import RayEngine

        return RayEngine(workers, decoders, address)
    if address is not None:
        raise InputError(f"'address' is for the engine 'ray', and the engine is 'local', got {address!r}")
    return LocalEngine(decoders) if workers == 1 else ProcessEngine(workers, decoders)
