"""How far `mammi annotate` is from the floor: beside a bare loop of the necessary work, in turns, on the same models.

Both sides run in this process after the models are loaded: `mammi.annotate(...)` into a fresh run folder, and the loop of
``bare.py``. Each round runs both, the order changing; the table holds medians over the rounds, the ratios are medians of the
rounds' own ratios. CPU seconds are those of all threads: read them where others use the machine. The whole command line,
with its imports and the loading of models, is timed once more as information.

    python benchmarks/floor.py [--job real|small] [--films N] [--concepts N] [--rounds N]
        [--precision bfloat16] [--folder FOLDER]
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from bare import PHASES, Clock, bare_loop, forward_time
from jobs import DATA, TEMPLATE, Job, real, small
from record import machine, save

import mammi
from mammi.capture import plan_layers
from mammi.functional.precision import PRECISIONS

#: The steps of `mammi annotate` by phase; whatever else passes is the rest.
STEPS = {
    "recording films": PHASES[0],
    "encoding films": PHASES[1],
    "encoding texts": PHASES[2],
    "selecting": PHASES[3],
    "matching": PHASES[3],
    "trying": PHASES[4],
}
BATCH, WORKERS = 16, os.cpu_count() or 1  # the defaults of `mammi annotate`


def annotate(job: Job, clock: Clock, out: Path, precision: str = "float32") -> list[list[str]]:
    """Run the main job; return the first concept of every unit, ``""`` for none."""
    films = job.probing_set()
    decode = films.film

    def timed(index: int) -> mammi.types.Film:
        began = time.thread_time()
        film = decode(index)
        clock.add("decode, CPU", time.thread_time() - began)
        return film

    films.film = timed  # type: ignore[method-assign]
    steps: set[str] = set()

    def progress(step: str, done: int, total: int) -> None:
        phase = next((phase for name, phase in STEPS.items() if step.startswith(name)), "rest")
        if done == 0 and step not in steps:
            # The first word of a step that has done nothing yet ends what came before it; before recording, that is a trial
            # of the precision asked for, unless it is float32.
            phase = PHASES[4] if step == "recording films" and precision != "float32" else "rest"
        clock.mark(phase)
        steps.add(step)

    clock.start()
    with forward_time(job.target.model, clock):
        run = mammi.annotate(
            *(job.target, films, job.concepts, job.vlm),
            layers=job.layers,
            out=out,
            template=TEMPLATE,
            batch_size=BATCH,
            precision=precision,
            progress=progress,
        )
    clock.mark("rest")
    units = run.units
    return [units.loc[units["layer"] == layer, "name"].replace("no concept", "").tolist() for layer in job.layers]


def whole_process(job: Job, out: Path, precision: str) -> tuple[float, float]:
    """Run the command line once; return its seconds on the wall and of the processor."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [
        sys.executable,
        "-c",
        "from mammi.cli import main; main()",
        "annotate",
        *job.command,
        "--out",
        str(out),
        "--precision",
        precision,
    ]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - our own command
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def compare(job: Job, rounds: int, scratch: Path, precision: str) -> tuple[list[tuple[Clock, Clock]], float]:
    """Run both sides in turns; return their clocks by round and the share of units with the same first concept."""
    clocks: list[tuple[Clock, Clock]] = []
    same = 1.0
    # Casting the weights is no work of the loop: it gets models that are cast already.
    bare = replace(job, target=job.target.at(precision), vlm=job.vlm.at(precision))
    short = replace(job, films=BATCH, concepts=mammi.ConceptSet.from_terms(job.concepts.terms[:BATCH]))
    bare_loop(
        short, Clock(), batch_size=BATCH, workers=WORKERS
    )  # the first forward of a model is slower than any other
    for number in range(rounds):
        floor, ours = Clock(), Clock()
        out = scratch / f"run-{number}"
        found: dict[str, list[list[str]]] = {}
        for side in ("floor", "mammi") if number % 2 == 0 else ("mammi", "floor"):
            if side == "floor":
                found[side] = bare_loop(bare, floor, batch_size=BATCH, workers=WORKERS)
            else:
                found[side] = annotate(job, ours, out, precision)
        shutil.rmtree(out)
        pairs = [pair for a, b in zip(*found.values(), strict=True) for pair in zip(a, b, strict=True)]
        same = min(same, sum(a == b for a, b in pairs) / len(pairs))
        clocks.append((floor, ours))
        print(
            f"round {number + 1}: floor {sum(floor.wall.values()):.1f} s, mammi {sum(ours.wall.values()):.1f} s",
            flush=True,
        )
    return clocks, same


def _row(name: str, pairs: list[tuple[float, float]]) -> tuple[str, float, float, float | None]:
    """Return medians of both sides and the median of the ratios; no ratio where the floor does nothing."""
    ratio = statistics.median(b / a for a, b in pairs) if min(a for a, _ in pairs) > 1e-3 else None
    return (name, statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs), ratio)


def table(clocks: list[tuple[Clock, Clock]], kind: str) -> list[tuple[str, float, float, float | None]]:
    """Tabulate one kind of seconds (``"wall"`` or ``"cpu"``): phase, floor, mammi, ratio."""
    sides = [(getattr(floor, kind), getattr(ours, kind)) for floor, ours in clocks]
    rows = [_row(phase, [(a.get(phase, 0.0), b.get(phase, 0.0)) for a, b in sides]) for phase in PHASES]
    return [*rows, _row("end to end", [(sum(a.values()), sum(b.values())) for a, b in sides])]


def without_trial(clocks: list[tuple[Clock, Clock]]) -> float:
    """Return the ratio of CPU seconds without the fixed price of trying a precision."""
    trial = "trying precisions"
    return statistics.median((sum(b.cpu.values()) - b.cpu.get(trial, 0.0)) / sum(a.cpu.values()) for a, b in clocks)


def show(title: str, rows: list[tuple[str, float, float, float | None]]) -> None:
    print(f"\n{title:<26s}{'floor':>9s}{'mammi':>9s}{'ratio':>8s}")
    for name, floor, ours, ratio in rows:
        print(f"{name:<26s}{floor:9.2f}{ours:9.2f}" + (f"{ratio:8.2f}" if ratio is not None else f"{'-':>8s}"))


def main() -> None:
    """Print both tables and keep them as a result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--job", choices=("real", "small"), default="real")
    parser.add_argument("--films", type=int, help="by default 100 for real, 1,088 for small")
    parser.add_argument("--concepts", type=int, help="by default 1,361 for real, 366 for small")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="of both models, on both sides")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "mammi-benchmark")
    parser.add_argument("--data", type=Path, default=DATA, help="for small: where the real films and models are")
    asked = parser.parse_args()
    usual = {"real": (100, 1361), "small": (1088, 366)}[asked.job]
    films, concepts = asked.films or usual[0], asked.concepts or usual[1]
    folder = asked.folder / asked.job
    job = real(folder, films, concepts) if asked.job == "real" else small(folder, films, concepts, asked.data)
    units = sum(plan.n_units for plan in plan_layers(job.target, job.layers))
    setting = f"{job.films:,} films, {units:,} units of {len(job.layers)} layers, {len(job.concepts):,} concepts, {asked.precision}"
    print(f"{machine()}; {torch.get_num_threads()} threads\n{setting}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        clocks, same = compare(job, asked.rounds, Path(scratch), asked.precision)
        wall, cpu = table(clocks, "wall"), table(clocks, "cpu")
        within = [
            _row(name, [(a.extra.get(name, 0.0), b.extra.get(name, 0.0)) for a, b in clocks])
            for name in ("decode, CPU", "decode and resize, CPU", "target forward, wall")
        ]
        show("seconds on the wall", wall)
        show("CPU seconds", cpu)
        show("within the first phase", within)
        print(f"\nunits with the same first concept on both sides: {same:.1%}")
        process = whole_process(job, Path(scratch) / "cli", asked.precision)
    print(f"`mammi annotate` as a process, with imports and loading: {process[0]:.1f} s, {process[1]:.1f} CPU s")
    shown = f"{cpu[-1][3]:.2f} x in CPU seconds, {wall[-1][3]:.2f} x in time passed"
    if cpu[PHASES.index("trying precisions")][2] > 0:
        shown += f"; {without_trial(clocks):.2f} x in CPU seconds but for the trial of the precision"
    figures = [(f"`mammi annotate` over the bare loop, end to end ({asked.job}: {setting})", shown)]
    values: dict[str, Any] = {"setting": setting, "films": job.films, "units": units, "concepts": len(job.concepts)}
    values |= {"wall": wall, "cpu": cpu, "within": within, "same": same, "process": process, "rounds": asked.rounds}
    suffix = "" if asked.precision == "float32" else f"-{asked.precision}"
    save(f"floor-{asked.job}{suffix}", figures, values)


if __name__ == "__main__":
    main()
