"""Catch what libraries warn of while one film is decoded, in several threads at once."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["caught_warnings"]

_lock = threading.Lock()
_local = threading.local()
_state: dict[str, Any] = {"users": 0}


def _show(message: Warning | str, category: type[Warning], filename: str, lineno: int, *rest: Any) -> None:  # noqa: ANN401
    caught: list[str] | None = getattr(_local, "caught", None)
    if caught is not None:
        caught.append(" ".join(str(message).split()))
    else:
        _state["show"](message, category, filename, lineno, *rest)


@contextmanager
def caught_warnings() -> Iterator[list[str]]:
    """Yield a list that receives the text of each Python warning this thread raises inside the block.

    ``warnings.catch_warnings`` changes the whole process, so two threads that overlap can leave it changed for good.
    Here the first thread in makes the change, the last one out undoes it, and a warning goes to the list of the thread
    that raised it; those of threads outside such a block go where they went before. Not re-entrant.
    """
    with _lock:
        if _state["users"] == 0:
            context = warnings.catch_warnings()
            context.__enter__()
            _state.update(context=context, show=warnings.showwarning)
            warnings.simplefilter("always")
            warnings.showwarning = _show  # type: ignore[assignment]
        _state["users"] += 1
    caught: list[str] = []
    _local.caught = caught
    try:
        yield caught
    finally:
        _local.caught = None
        with _lock:
            _state["users"] -= 1
            if _state["users"] == 0:
                _state.pop("context").__exit__(None, None, None)
