"""What one worker can do alone: rows are loaded in threads, computed in batches, and each piece becomes one result."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from mammi.engine.prefetch import decoded

__all__ = ["Engine", "Gathering", "Piece", "Work", "do_batches", "do_pieces"]


@dataclass(frozen=True)
class Piece:
    """Rows that become one stored result: a block of films, a chunk of embeddings.

    Attributes:
        number: of the piece, unique within a job.
        rows: which films or texts, in this order.
    """

    number: int
    rows: Sequence[int]

    def batches(self, size: int) -> list[Sequence[int]]:
        """Return the rows of each batch. They follow from the piece alone, so any worker computes the same bits."""
        return [self.rows[start : start + size] for start in range(0, len(self.rows), size)]


class Work(Protocol):
    """One stage of a job, as data: it can be sent to another process, and opens its models there."""

    @property
    def batch_size(self) -> int:
        """Rows per call of the model."""
        ...

    @property
    def device(self) -> str:
        """Where the models run."""
        ...

    def loader(self) -> "Work":
        """Return the stage for a machine without that device, where nothing but `load` is called."""
        ...

    def load(self, row: int) -> Any:  # noqa: ANN401 - whatever `opened` takes
        """Load one row, on a CPU, in any thread."""
        ...

    def opened(self) -> AbstractContextManager[Callable[[list[Any]], Any]]:
        """Make the models ready; yields the function that turns a batch of loaded rows into its output, in arrays."""
        ...

    def join(self, piece: Piece, outputs: list[Any]) -> Any:  # noqa: ANN401 - what the stage is for
        """Make one result of the outputs of all batches of a piece."""
        ...


class Engine(Protocol):
    """Who does the work. The results are the same to the bit whoever does it and however many there are."""

    def run(self, work: Work, pieces: Sequence[Piece], on_batch: Callable[[int], None]) -> Iterator[tuple[Piece, Any]]:
        """Yield every piece once with its result, in any order.

        Args:
            work: the stage.
            pieces: what to do of it.
            on_batch: told how many rows were computed, after every batch.
        """
        ...


def do_batches(work: Work, batches: Iterable[Sequence[int]], decoders: int) -> Iterator[Any]:
    """Compute batches in this process, in order; while one is computed, the next is being loaded.

    Args:
        work: the stage.
        batches: the rows of each, taken as they are needed, ahead of the one that is computed.
        decoders: threads that load.
    """
    with work.opened() as compute:
        for loaded in decoded(work.load, batches, decoders):
            yield compute(loaded)


def do_pieces(
    work: Work, pieces: Iterable[Piece], decoders: int, on_batch: Callable[[int], None]
) -> Iterator[tuple[Piece, Any]]:
    """Do pieces in this process, in order; while the last batch of one is computed, the next is being loaded.

    Args:
        work: the stage.
        pieces: taken as they are needed, a batch ahead.
        decoders: threads that load.
        on_batch: as in `Engine.run`.
    """
    taken: list[tuple[Piece, int, bool]] = []

    def batches() -> Iterator[Sequence[int]]:
        for piece in pieces:
            parts = piece.batches(work.batch_size)
            for number, rows in enumerate(parts, start=1):
                taken.append((piece, len(rows), number == len(parts)))
                yield rows

    outputs: list[Any] = []
    for output in do_batches(work, batches(), decoders):
        piece, n_rows, is_last = taken.pop(0)
        outputs.append(output)
        on_batch(n_rows)
        if is_last:
            yield piece, work.join(piece, outputs)
            outputs = []


class Gathering:
    """Puts the outputs of batches, that come in any order, together to pieces.

    Args:
        work: the stage.
        pieces: all of them.

    Attributes:
        batches: the rows of every batch, piece after piece.
    """

    def __init__(self, work: Work, pieces: Sequence[Piece]) -> None:
        self._work = work
        self.batches: list[Sequence[int]] = []
        self._home: list[tuple[Piece, int]] = []
        self._outputs: dict[int, list[Any]] = {}
        self._missing: dict[int, int] = {}
        for piece in pieces:
            parts = piece.batches(work.batch_size)
            self._home += [(piece, place) for place in range(len(parts))]
            self.batches += parts
            self._missing[piece.number] = len(parts)

    def add(self, batch: int, output: Any) -> tuple[Piece, Any] | None:  # noqa: ANN401 - whatever the stage puts out
        """Take the output of one batch; return its piece with the result if that was the last one missing."""
        piece, place = self._home[batch]
        outputs = self._outputs.setdefault(piece.number, [None] * -(-len(piece.rows) // self._work.batch_size))
        outputs[place] = output
        self._missing[piece.number] -= 1
        if self._missing[piece.number]:
            return None
        return piece, self._work.join(piece, self._outputs.pop(piece.number))
