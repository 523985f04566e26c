"""One worker process: reads batches from its pipe, sends back their outputs, and ends with the leader."""

import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Thread

import torch

from mammi.engine.sending import Parcel, as_error
from mammi.engine.work import do_batches

__all__ = ["main"]


def main(pipe: int) -> None:
    """Work until told that there is no more, or until the other end of the pipe is gone.

    In come the leader's folder, environment and path, the number of torch's threads, that of decoders; a `Parcel`; then
    batches, ``(number, rows)``, and None after the last. Out go ``("ready", None)``, ``(number, output)`` in the order of the batches, or ``("error", error)``.

    Args:
        pipe: file descriptor of this end.
    """
    connection = Connection(pipe)
    try:
        folder, environment, sys.path[:], threads, decoders = connection.recv()
        os.chdir(folder)
        os.environ.update(environment)
        torch.set_num_threads(threads)
        parcel = Parcel(connection.recv_bytes())
        waiting: SimpleQueue[tuple[int, Sequence[int]] | None] = SimpleQueue()
        Thread(target=_read, args=(connection, waiting), daemon=True).start()
        try:
            work = parcel.open()
            connection.send(("ready", None))
            numbers: SimpleQueue[int] = SimpleQueue()

            def batches() -> Iterator[Sequence[int]]:
                while (batch := waiting.get()) is not None:
                    numbers.put(batch[0])
                    yield batch[1]

            for output in do_batches(work, batches(), decoders):
                connection.send((numbers.get(), output))
        except Exception as error:  # noqa: BLE001 - whatever it is, the leader raises it
            sent = as_error(error)
            sent.add_note("In a worker process:\n" + traceback.format_exc())
            connection.send(("error", sent))
    except (EOFError, OSError):  # the leader is gone
        os._exit(1)


def _read(connection: Connection, waiting: "SimpleQueue[tuple[int, Sequence[int]] | None]") -> None:
    """Pass batches on; without a leader there is nothing left to do, in whatever middle this process may be."""
    try:
        while True:
            waiting.put(connection.recv())
    except (EOFError, OSError):
        os._exit(1)
