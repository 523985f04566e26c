"""The work in one process: threads decode while the models compute."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mammi.engine.work import Piece, Work, do_pieces

__all__ = ["LocalEngine", "n_cores"]


def n_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class LocalEngine:
    """One process, with the models it was given.

    Attributes:
        decoders: threads that decode films; None for one a core.
    """

    decoders: int | None = None

    def run(self, work: Work, pieces: Sequence[Piece], on_batch: Callable[[int], None]) -> Iterator[tuple[Piece, Any]]:
        """Do the pieces in order."""
        return do_pieces(work, pieces, self.decoders or n_cores(), on_batch)
