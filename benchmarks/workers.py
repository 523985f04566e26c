"""What workers bring and what they cost: one thread, one process, two, and Ray, on the same films, in turns.

    python benchmarks/workers.py [--data DATA] [--films 128] [--rounds 2] [--ray]

A DenseNet-121 with random weights records real films (or, without DATA, drawn ones). Ratios within one run hold from
machine to machine; seconds do not. The first round warms the disk and loads the libraries into the process that workers are forked from; it is not counted.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
from record import save

import mammi
from mammi.capture import plan_layers
from mammi.engine import Engine, Piece
from mammi.engine.recording import RecordFilms


def films(data: Path | None, n: int) -> mammi.ProbingSet:
    if data is None:
        from mammi.phantoms.writing import write_cohort

        folder = Path(tempfile.mkdtemp())
        write_cohort(folder, n)
        return mammi.ProbingSet.open(folder / "images")
    opened = mammi.ProbingSet.open(data / "images")
    return opened.subset(range(min(n, len(opened))))


def seconds(engine: Engine, work: RecordFilms, pieces: list[Piece]) -> tuple[float, float]:
    """Return the seconds until the first batch was done, and from there to the end."""
    begun = time.perf_counter()
    first = 0.0

    def on_batch(_: int) -> None:
        nonlocal first
        first = first or time.perf_counter() - begun

    for _ in engine.run(work, pieces, on_batch):
        pass
    return first, time.perf_counter() - begun - first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="a folder with images/")
    parser.add_argument("--films", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--ray", action="store_true")
    options = parser.parse_args()
    images = films(options.data, options.films)
    target = mammi.create_target("torchvision:densenet121", "random")
    plans = plan_layers(target, ["features.norm5"])
    work = RecordFilms(target, tuple(plans), images, 16)
    pieces = [Piece(n, range(n * 64, min(len(images), n * 64 + 64))) for n in range(-(-len(images) // 64))]
    threads = torch.get_num_threads()
    engines: dict[str, Engine] = {
        "one thread": mammi.create_engine(decoders=1),
        "one process": mammi.create_engine(),
        "two processes": mammi.create_engine(workers=2),
    }
    if options.ray:
        engines["ray, one actor"] = mammi.create_engine("ray", workers=1)
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in engines}
    for turn in range(options.rounds + 1):
        for name, engine in engines.items():
            torch.set_num_threads(1 if name == "one thread" else threads)
            found = seconds(engine, work, pieces)
            if turn:
                measured[name].append(found)
    firsts = {name: median(first for first, _ in found) for name, found in measured.items()}
    totals = {name: median(first + rest for first, rest in found) for name, found in measured.items()}
    base = totals["one process"]
    figures = [
        (f"{len(images)} films, DenseNet-121: films a second of one process", f"{len(images) / base:.1f}"),
        ("one process: times as fast as one thread", f"{totals['one thread'] / base:.2f}"),
        ("two processes: times as fast as one thread", f"{totals['one thread'] / totals['two processes']:.2f}"),
    ]
    for name in list(engines)[2:]:
        figures.append((f"{name}: times as fast as one process, its start included", f"{base / totals[name]:.2f}"))
        figures.append(
            (f"{name}: seconds to the first batch (one process: {firsts['one process']:.1f})", f"{firsts[name]:.1f}")
        )
    for what, value in figures:
        print(f"{what:90s} {value:>6s}")
    save("workers", figures, {"seconds": totals, "to the first batch": firsts})


if __name__ == "__main__":
    main()
