"""What every command prints through: results on standard output, progress and words of warning on standard error."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from mammi.types import Progress as ProgressCallback

__all__ = ["err", "out", "progress_bars"]

#: Characters that command a terminal, or turn the order of the letters behind them around; ends of lines and tabs stay.
_COMMANDS = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u202a-\\u202e\\u2066-\\u2069]")


class _Tame(Console):
    """Shows what commands a terminal as a mark: names come from reports, networks and runs of others."""

    def render_str(self, text: str, **options: Any) -> Text:  # noqa: ANN401 - as rich has them
        return super().render_str(_COMMANDS.sub("\N{REPLACEMENT CHARACTER}", text), **options)


out = _Tame(highlight=False)
err = _Tame(stderr=True, highlight=False)


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
            TextColumn("{task.description}", markup=False),
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
            err.print(f"{step}: {done:,} of {total:,} ({seconds:.1f} s{rate})", markup=False)

    finished: set[str] = set()
    yield log
