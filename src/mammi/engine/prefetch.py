"""Films are decoded in threads while the network computes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["decoded", "decoded_batches"]

T = TypeVar("T")


def decoded(load: Callable[[int], T], batches: Iterable[Sequence[int]], decoders: int) -> Iterator[list[T]]:
    """Yield loaded batches in order, while the next are being loaded in threads.

    Args:
        load: turns a row into whatever the caller needs of a film; runs in a thread (decoders release the
            interpreter's lock).
        batches: the rows of each batch; taken one ahead, or as many as keep all threads busy. Batches never depend on
            timing, so results are the same to the bit however many threads decode.
        decoders: number of threads.
    """
    decoders = max(1, decoders)
    with ThreadPoolExecutor(max_workers=decoders, thread_name_prefix="mammi-decode") as pool:
        ahead: deque[list[Future[T]]] = deque()
        waiting = 0
        try:
            for rows in batches:
                ahead.append([pool.submit(load, row) for row in rows])
                waiting += len(rows)
                # One batch is always being loaded behind the one that is handed out; small batches go further ahead.
                while len(ahead) > 1 and waiting - len(ahead[0]) >= decoders:
                    waiting -= len(ahead[0])
                    yield [future.result() for future in ahead.popleft()]
            while ahead:
                yield [future.result() for future in ahead.popleft()]
        finally:
            for futures in ahead:
                for future in futures:
                    future.cancel()


def decoded_batches(
    load: Callable[[int], T], rows: Sequence[int], batch_size: int, workers: int = 2
) -> Iterator[list[T]]:
    """Yield batches of ``batch_size`` loaded rows in order, the last possibly short; see `decoded`."""
    batches = (rows[start : start + batch_size] for start in range(0, len(rows), batch_size))
    return decoded(load, batches, workers)
