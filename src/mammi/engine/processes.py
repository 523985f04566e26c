"""The work in several processes of this machine, each with models of its own; one that is lost is replaced."""

import os
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from mammi.engine.local import LocalEngine, n_cores
from mammi.engine.sending import Parcel
from mammi.engine.stem import Stem
from mammi.engine.work import Gathering, Piece, Work
from mammi.errors import WorkerError

__all__ = ["ProcessEngine"]

#: A worker has to load its models: one is started for this many batches of a stage, and below that none.
WORTH = 4
#: So many workers may end over the same work before it is blamed.
CHANCES = 3


@dataclass(frozen=True)
class ProcessEngine:
    """Several processes of this machine. Only this process, the leader, writes anything.

    Workers take batches as they become free and send back arrays. One that is lost, for whatever reason, is replaced and
    what it had not sent back is done again; work that three workers were lost over stops the run.

    Attributes:
        workers: processes; torch's threads are shared out among them.
        decoders: threads that decode films, per worker; None shares out the cores.
        stem: what the workers are made of.
    """

    workers: int
    decoders: int | None = None
    stem: Stem = field(default_factory=Stem, repr=False, compare=False)

    def run(self, work: Work, pieces: Sequence[Piece], on_batch: Callable[[int], None]) -> Iterator[tuple[Piece, Any]]:
        """Do the pieces, in the order in which they become whole.

        Raises:
            InputError: if a model cannot be sent to another process.
            WorkerError: if workers are lost again and again, or one fails in a way that has no error of its own.
        """
        gathering = Gathering(work, pieces)
        batches = gathering.batches
        n_workers = min(self.workers, len(batches) // WORTH)
        if n_workers <= 1:
            yield from LocalEngine(self.decoders).run(work, pieces, on_batch)
            return
        decoders = self.decoders or max(1, n_cores() // n_workers)
        # As many rows ahead as keep all threads busy while a batch is computed and the next is on its way.
        crew = _Crew(self.stem, Parcel.of(work), batches, work.device, decoders, decoders + 2 * work.batch_size)
        try:
            crew.start(n_workers)
            for batch, output in crew.outputs():
                on_batch(len(batches[batch]))
                whole = gathering.add(batch, output)
                if whole is not None:
                    yield whole
        finally:
            crew.end()


@dataclass
class _Worker:
    """One process and the batches it was given and has not sent back, oldest first."""

    place: int
    process: int
    connection: Connection
    given: dict[int, int] = field(default_factory=dict)
    ready: bool = False
    told_all: bool = False

    def send(self, message: Any) -> None:  # noqa: ANN401 - a batch, or None for the end
        with suppress(OSError):  # a worker that is gone is met when its messages are waited for
            self.connection.send(message)


class _Crew:
    def __init__(
        self,
        stem: Stem,
        parcel: Parcel,
        batches: Sequence[Sequence[int]],
        device: str,
        decoders: int,
        most_ahead: int,
    ) -> None:
        self._stem = stem
        self._parcel = parcel
        self._batches = batches
        self._device = device
        self._decoders = decoders
        self._most_ahead = most_ahead
        self._todo = deque(range(len(batches)))
        self._n_left = len(batches)
        self._threads = torch.get_num_threads()
        self._workers: list[_Worker] = []
        self._lost_over: Counter[int] = Counter()
        self._lost_starting = 0

    def start(self, n_workers: int) -> None:
        """Start all workers."""
        self._threads = max(1, self._threads // n_workers)
        for place in range(n_workers):
            self._start(place)

    def _start(self, place: int) -> None:
        environment = dict(os.environ)
        if self._device == "cuda" and (n_devices := torch.cuda.device_count()) > 1:
            visible = environment.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(n_devices)))
            environment["CUDA_VISIBLE_DEVICES"] = visible.split(",")[place % n_devices]
        worker = _Worker(place, *self._stem.divide())
        self._workers.append(worker)
        worker.send((Path.cwd(), environment, sys.path, self._threads, self._decoders))
        with suppress(OSError):
            worker.connection.send_bytes(self._parcel.content)

    def outputs(self) -> Iterator[tuple[int, Any]]:
        """Yield every batch once with its output, in any order."""
        while self._n_left:
            self._deal()
            ready = wait([worker.connection for worker in self._workers])
            for worker in [worker for worker in self._workers if worker.connection in ready]:
                try:
                    what, content = worker.connection.recv()
                except (EOFError, OSError):
                    self._replace(worker)
                    continue
                if what == "error":
                    raise content
                if what == "ready":
                    worker.ready = True
                    continue
                del worker.given[what]
                self._n_left -= 1
                yield what, content

    def _deal(self) -> None:
        """Give batches to whoever has least ahead of it; tell all when there is no more."""
        listening = [worker for worker in self._workers if not worker.told_all]
        while self._todo and listening:
            worker = min(listening, key=lambda worker: sum(worker.given.values()))
            if sum(worker.given.values()) >= self._most_ahead:
                return
            batch = self._todo.popleft()
            worker.given[batch] = len(self._batches[batch])
            worker.send((batch, self._batches[batch]))
        for worker in listening:
            worker.send(None)
            worker.told_all = True

    def _replace(self, worker: _Worker) -> None:
        """Put a new worker in the place of one that ended, unless it had done all there was."""
        self._workers.remove(worker)
        worker.connection.close()
        code = self._stem.end(worker.process)
        if worker.told_all and not worker.given:
            return
        how = "" if code is None else f" (the last {f'by signal {-code}' if code < 0 else f'with exit code {code}'})"
        stays = "what is recorded stays, and the same command goes on from there"
        if not worker.ready:
            self._lost_starting += 1
            if self._lost_starting == CHANCES:
                raise WorkerError(
                    f"{CHANCES} workers ended while they started{how}: if memory is short, use fewer workers; {stays}"
                )
        else:
            self._lost_over.update(worker.given.keys())
            blamed = [row for batch, n in self._lost_over.items() if n >= CHANCES for row in self._batches[batch]]
            if blamed:
                raise WorkerError(
                    f"{CHANCES} workers ended while they worked on the same {len(blamed)} films or texts (rows "
                    f"{min(blamed)} to {max(blamed)}){how}: take out what cannot be read, or, if memory is short, use "
                    f"fewer workers or a smaller batch; {stays}"
                )
        self._todo.extendleft(reversed(worker.given))
        self._start(worker.place)

    def end(self) -> None:
        """End every worker: none of them holds anything but memory."""
        for worker in self._workers:
            worker.connection.close()
            self._stem.end(worker.process)
