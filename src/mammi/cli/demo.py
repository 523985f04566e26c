"""``mammi demo``: the main job on drawn films, offline, from nothing to a report."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from mammi.cli.app import app, command, table
from mammi.cli.console import err, out, progress_bars
from mammi.errors import RunError

if TYPE_CHECKING:
    from mammi.metrics import NamingAccuracy
    from mammi.store import Run

__all__ = ["demo"]

#: Share of the network's outputs that must be named right for the demo to count as a success.
ENOUGH = 0.9
#: Films that a name rests on at least: the published rule can leave one, and one film shows many things at once.
LEAST = 5


@app.command()
@command
def demo(
    folder: Annotated[Path, typer.Argument(help="Where to put films, run and report.")] = Path("demo"),
    films: Annotated[int, typer.Option(help="How many films to draw.")] = 600,
    seed: Annotated[int, typer.Option(help="Other numbers draw other patients.")] = 2026,
) -> None:
    """Draw chest films with known findings, name the units of a small network that reads them, and write a report."""
    from mammi.concepts import build_concepts, read_reports
    from mammi.data import ProbingSet
    from mammi.functional.fingerprint import fingerprint_value
    from mammi.phantoms import write_cohort
    from mammi.pipeline import annotate
    from mammi.reports import write_report
    from mammi.targets import create_target
    from mammi.vlms import create_vlm

    began = time.monotonic()
    if folder.is_file():
        raise RunError(f"{folder} is a file: give a folder for the demo")
    drawn = folder / f"films-{films}-{seed}"
    with progress_bars() as progress:
        if not (drawn / "boxes.json").is_file():  # written last
            write_cohort(drawn, films, seed=seed, progress=progress)
        concepts = build_concepts(read_reports(drawn / "reports.jsonl"), progress=progress)
        concepts.write_csv(folder / "concepts.csv")
        target, vlm = create_target("phantom"), create_vlm("phantom")
        probing = ProbingSet.open(drawn / "images", drawn / "labels.csv")
        # Named by content: after an update of the package the demo starts runs of its own.
        content = fingerprint_value([target.fingerprint, vlm.fingerprint, concepts.fingerprint])[:8]

        def name_units(name: str, layers: list[str], least: int) -> "Run":
            out = folder / f"{name}-{films}-{seed}-{content}"
            return annotate(
                target, probing, concepts, vlm, layers=layers, out=out, progress=progress, min_examples=least
            )

        published = name_units("published", ["head"], 0)
        run = name_units("run", ["head", "layer3", "layer2"], LEAST)
        # Drawn films show nobody: here, and only here, pictures are on without being asked for.
        report = write_report(run, folder / "report.html", with_images=True, progress=progress)

    shown = table("output unit", "named by mammi", "score", "films", "", right=("score", "films"))
    accuracy = _accuracy(run)
    for row, right in zip(run.to_frame("head").to_dict("records"), accuracy.first, strict=True):
        cells = (row["output"], row["concepts"] or f"no concept: {row['reason']}", f"{row['score']:.3f}")
        shown.add_row(*map(escape, cells), str(row["n_examples"]), "right" if right else "wrong")
    out.print(shown)
    counts = run.manifest["counts"]
    first = _accuracy(published).first
    out.print(
        f"{sum(accuracy.first)} of {len(accuracy.first)} outputs named right from at least {LEAST} films each; "
        f"{sum(first)} by the published rule, which took a single film for {_singles(published)} of them. "
        f"{counts['named']} of {counts['units']} units in 3 layers have a concept "
        f"({counts['films']} films, {len(concepts)} concepts, {time.monotonic() - began:.0f} s).",
        soft_wrap=True,
    )
    out.print(f"report: {report.resolve()}", markup=False, soft_wrap=True)
    if accuracy.compute()["first"] < ENOUGH:
        err.print(f"mammi: fewer than {ENOUGH:.0%} of the outputs are named right: this installation is not sound")
        raise typer.Exit(1)


def _accuracy(run: "Run") -> "NamingAccuracy":
    """Compare the names of the outputs with what the outputs are known to be."""
    from mammi.metrics import NamingAccuracy
    from mammi.phantoms import is_named

    accuracy = NamingAccuracy(is_named)
    for row in run.to_frame("head").to_dict("records"):
        accuracy.update(row["output"], row["concepts"].split("; ") if row["concepts"] else [])
    return accuracy


def _singles(run: "Run") -> int:
    return int((run.to_frame("head")["n_examples"] == 1).sum())
