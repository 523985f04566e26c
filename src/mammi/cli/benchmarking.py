"""``mammi benchmark``: every method on units whose concept is known."""

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from mammi.cli.app import app, command, table
from mammi.cli.console import err, out, progress_bars

__all__ = ["benchmark"]

#: Films drawn for each seed, and how much the annotator is blurred: in full, and for a quick look.
FULL = (3600, (0, 1, 2), (3.0, 6.0))
QUICK = (900, (0,), ())


@app.command()
@command
def benchmark(
    folder: Annotated[Path, typer.Option("--out", "-o", help="Where to put page, numbers and pictures.")] = Path(
        "benchmark"
    ),
    quick: Annotated[bool, typer.Option("--quick", help="One seed, fewer films, the annotator as it is.")] = False,
) -> None:
    """Plant units whose concept is known, let every method name them, and write tables and pictures."""
    from mammi.benchmark import degraded, held_out_truth, phantom_material, run_contest, write_page
    from mammi.benchmark.page import summary
    from mammi.registry import import_extra

    # What is missing is said before the work, not after it.
    import_extra("matplotlib", "plots")
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    films, seeds, blurs = QUICK if quick else FULL
    with progress_bars() as progress:
        truth = held_out_truth(films // 3, progress)
        clear = [(seed, phantom_material(films, seed, truth, progress)) for seed in seeds]
        blurred = [(seed, degraded(material, blur, seed)) for blur in blurs for seed, material in clear]
        results = run_contest([*clear, *blurred], progress=progress)
    kept = sum(len(material.films) for _, material in clear) // len(clear)
    settings = {
        "films": films,
        "kept": kept,
        "seeds": list(seeds),
        "concepts": len(clear[0][1].terms),
        "cores": os.cpu_count() or 1,
        "seconds": round(time.monotonic() - began, 1),
    }
    page = write_page(results, folder, settings)
    found = summary(results)
    found = found[found["quality"] == found["quality"].iloc[0]]
    shown = table("method", "right first", "named", "false names", right=("right first", "named", "false names"))
    for method, rows in found.groupby("method", sort=False):
        if len(rows) < found["kind"].nunique():
            continue  # held on a few kinds only: the page has it
        meaning, nothing = rows[rows["hit1"].notna()], rows[rows["hit1"].isna()]
        shown.add_row(
            str(method),
            f"{meaning['hit1'].mean():.2f}",
            f"{meaning['named'].mean():.2f}",
            f"{nothing['named'].mean():.2f}",
        )
    out.print(shown)
    err.print("means over kinds of unit; false names are names of units that mean nothing")
    out.print(f"page: {page} ({settings['seconds']:.0f} s)", markup=False, soft_wrap=True)
