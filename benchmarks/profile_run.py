"""Where the time of one run goes: the main thread's stack, looked at 200 times a second, drawn as a flame graph.

Writes docs/pictures/profile.png and names the three largest costs. Read from the top: each box is a function, as wide as its
share of the time, and what it called lies under it. What a library does is counted to the function of ours that called it.

    python benchmarks/profile_run.py [--films N] [--concepts N] [--precision P] [--folder FOLDER] [--out docs/pictures/profile.png]
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import matplotlib as mpl
from bare import Clock
from floor import annotate
from jobs import real
from matplotlib.figure import Figure
from record import machine, save

import mammi
from mammi.functional.precision import PRECISIONS

mpl.use("agg")
ROOM = Path(mammi.__file__).resolve().parent
PAUSE = 0.005
INK, PAPER = "#1b2733", "#ffffff"
COLOURS = {"engine": "#8fb8de", "vlms": "#f2a65a", "capture": "#9fc490", "targets": "#9fc490", "data": "#d9c6e8"}
OTHER = "#d5dbe1"
Stack = tuple[str, ...]


def stack_of(frame: FrameType | None) -> Stack:
    """Return our own functions on a stack, outermost first, as ``room/file.function``."""
    names: list[str] = []
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOM):
            name = f"{path.relative_to(ROOM).with_suffix('')}.{frame.f_code.co_name}"
            if not frame.f_code.co_name.startswith("<") and (not names or names[-1] != name):
                names.append(name)
        frame = frame.f_back
    return tuple(reversed(names))


class Sampler(threading.Thread):
    """Looks at one thread's stack until it is stopped; weighs each look by the time since the last."""

    def __init__(self, thread: int) -> None:
        super().__init__(daemon=True)
        self.watched, self.seen, self.done = thread, Counter[Stack](), threading.Event()

    def run(self) -> None:
        """Sample."""
        last = time.perf_counter()
        while not self.done.wait(PAUSE):
            stack = stack_of(sys._current_frames().get(self.watched))
            now = time.perf_counter()
            self.seen[stack] += now - last  # type: ignore[assignment] - seconds, not counts
            last = now


def draw(seen: Counter[Stack], title: str, out: Path) -> None:
    """Draw the stacks as boxes under one another."""
    total = sum(seen.values())
    depth = max(len(stack) for stack in seen)
    figure = Figure(figsize=(12, 0.34 * depth + 0.9), facecolor=PAPER, layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(0, 1), ylim=(depth, 0), title=title)
    axes.axis("off")

    def boxes(stacks: dict[Stack, float], left: float, row: int) -> None:
        names = sorted({stack[0] for stack in stacks if stack})
        inside = {name: {stack[1:]: t for stack, t in stacks.items() if stack and stack[0] == name} for name in names}
        for name, below in sorted(inside.items(), key=lambda item: -sum(item[1].values())):
            share = sum(below.values()) / total
            if share < 0.002:
                continue
            colour = COLOURS.get(name.partition("/")[0], OTHER)
            axes.barh(row + 0.5, share, left=left, height=0.94, color=colour, edgecolor=PAPER, linewidth=0.8)
            # The longest label that fits: with its room, without, or the share alone.
            labels = (f"{name}  {share:.0%}", f"{name.rpartition('/')[2]}  {share:.0%}", f"{share:.0%}")
            label = next((words for words in labels if share > 0.0056 * len(words) + 0.006), "")
            axes.text(left + share / 2, row + 0.5, label, ha="center", va="center", fontsize=8, color=INK)
            boxes(below, left, row + 1)
            left += share

    boxes(dict(seen), 0.0, 0)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110, pil_kwargs={"optimize": True}, metadata={"Software": None})


def main() -> None:
    """Profile one run, after one that warms up."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--films", type=int, default=48)
    parser.add_argument("--concepts", type=int, default=500)
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "mammi-benchmark")
    out = Path(__file__).resolve().parents[1] / "docs" / "pictures" / "profile.png"
    parser.add_argument("--out", type=Path, default=out)
    asked = parser.parse_args()
    job = real(asked.folder / "real", asked.films, asked.concepts)
    with tempfile.TemporaryDirectory() as scratch:
        short = real(asked.folder / "real", 16, 16)
        annotate(short, Clock(), Path(scratch) / "first", asked.precision)
        sampler = Sampler(threading.get_ident())
        sampler.start()
        clock = Clock()
        annotate(job, clock, Path(scratch) / "run", asked.precision)
        sampler.done.set()
        sampler.join()
    seen = Counter({stack: spent for stack, spent in sampler.seen.items() if stack})
    total = sum(seen.values())
    setting = f"{job.films:,} films, {len(job.concepts):,} concepts, {asked.precision}"
    print(f"{machine()}\n{setting}: {total:.1f} s of the main thread")
    own: Counter[str] = Counter()
    for stack, spent in seen.items():
        own[stack[-1]] += spent  # type: ignore[assignment]
    largest = [(name, spent / total) for name, spent in own.most_common(8)]
    for name, share in largest:
        print(f"{share:6.1%}  {name}")
    draw(seen, f"mammi annotate, {setting}: {total:.0f} s", asked.out)
    named = "; ".join(f"`{name}` {share:.0%}" for name, share in largest[:3])
    save("profile", [(f"three largest costs of a run ({setting})", named)], {"setting": setting, "largest": largest})


if __name__ == "__main__":
    main()
