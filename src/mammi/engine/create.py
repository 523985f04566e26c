"""Engines by name, for the command line and for `annotate`."""

from mammi.engine.local import LocalEngine
from mammi.engine.work import Engine
from mammi.errors import InputError

__all__ = ["create_engine"]


def create_engine(
    name: str = "local", *, workers: int = 1, decoders: int | None = None, address: str | None = None
) -> Engine:
    """Make an engine.

    Args:
        name: ``"local"``.
        workers: processes, each with models of its own; 1 works in this process.
        decoders: threads that decode films, per worker; None shares the cores among the workers.
        address: of a cluster.

    Raises:
        InputError: if the name or a number is wrong.
    """
    if workers < 1 or (decoders is not None and decoders < 1):
        raise InputError(f"'workers' and 'decoders' must be at least 1, got {workers} and {decoders}")
    if name == "local" and workers == 1 and address is None:
        return LocalEngine(decoders)
    raise InputError(f"'engine' must be local, got {name!r}")
