"""What every command prints through: results on standard output, progress and words of warning on standard error."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from mammi.types import Progress as ProgressCallback

__all__ = ["err", "out", "progress_bars"]

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


class _Rate(ProgressColumn):
    """Items per second since the step began."""

    def render(self, task: Task) -> Text:
        seconds = task.finished_time or task.elapsed or 0.0
        return Text(f"{task.completed / seconds:,.1f}/s" if seconds > 0.5 else "", style="cyan")


@contextmanager
def progress_bars() -> Iterator[ProgressCallback]:
    """Yield a progress callback: a bar with its rate per step on a terminal, a line per finished step elsewhere."""
    if err.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        with Progress(*columns, console=err) as bars:
            tasks = {}

            def show(step: str, done: int, total: int) -> None:
                if step not in tasks:
                    tasks[step] = bars.add_task(step, total=total)
                bars.update(tasks[step], completed=done, total=total)

            yield show
        return

    started: dict[str, tuple[float, int]] = {}

    def log(step: str, done: int, total: int) -> None:
        began, first = started.setdefault(step, (time.monotonic(), done))
        if done >= total and step not in finished:
            finished.add(step)
            seconds = time.monotonic() - began
            rate = f", {(done - first) / seconds:,.1f}/s" if seconds > 0.5 and done > first else ""
            err.print(f"{step}: {done:,} of {total:,} ({seconds:.1f} s{rate})")

    finished: set[str] = set()
    yield log
