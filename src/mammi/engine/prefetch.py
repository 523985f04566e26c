"""Films are decoded in threads while the network computes."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["decoded_batches"]

T = TypeVar("T")


def decoded_batches(
    load: Callable[[int], T], rows: Sequence[int], batch_size: int, workers: int = 2
) -> Iterator[list[T]]:
    """Yield batches of loaded films in order, decoding one batch ahead in threads.

    Args:
        load: turns a row into whatever the caller needs of a film; runs in a thread (decoders release the
            interpreter's lock).
        rows: which films, in this order.
        batch_size: films per batch; the last may be short. Batches depend on ``rows`` and ``batch_size`` alone, never
            on timing, so results are the same to the bit however many workers decode.
        workers: number of threads.
    """
    batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    with ThreadPoolExecutor(max_workers=max(1, workers), thread_name_prefix="mammi-decode") as pool:
        ahead: deque[list[Future[T]]] = deque()
        try:
            for number in range(len(batches)):
                while len(ahead) < min(2, len(batches) - number):
                    ahead.append([pool.submit(load, row) for row in batches[number + len(ahead)]])
                yield [future.result() for future in ahead.popleft()]
        finally:
            for futures in ahead:
                for future in futures:
                    future.cancel()
