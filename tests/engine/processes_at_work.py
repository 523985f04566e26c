"""A stage without models, with traps in some rows; and the worker processes that a process has."""

import itertools
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mammi.engine import Piece


@dataclass(frozen=True)
class Squares:
    """Squares rows. What ``traps`` says of a row happens when it is computed."""

    traps: dict[int, str] = field(default_factory=dict)
    folder: Path = Path()
    batch_size: int = 4
    device: str = "cpu"

    def loader(self):
        return self

    def load(self, row):
        return row

    @contextmanager
    def opened(self):
        yield self.compute

    def compute(self, rows):
        for row in rows:
            match self.traps.get(row):
                case "die":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "die once" if not (mark := self.folder / f"{row}").exists():
                    mark.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                case "own error":
                    raise ZeroDivisionError(f"row {row}")
        return np.array(rows) ** 2

    def join(self, piece, outputs):
        return np.concatenate(outputs)


def pieces(*sizes: int) -> list[Piece]:
    """Pieces of consecutive rows."""
    starts = np.cumsum([0, *sizes])
    return [Piece(n, range(a, b)) for n, (a, b) in enumerate(itertools.pairwise(starts))]


def children(pid: int) -> Iterator[int]:
    """The processes that another started."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == pid:
                yield int(entry.name)


def workers_of(pid: int) -> list[int]:
    """The workers of a leader."""
    return [worker for stem in children(pid) for worker in children(stem)]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def all_end(pids, seconds: float = 10) -> bool:
    """Wait until processes are gone."""
    end = time.monotonic() + seconds
    while any(map(is_alive, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(map(is_alive, pids))
