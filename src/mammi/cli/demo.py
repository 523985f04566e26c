"""``mammi demo``: the main job on drawn films, offline, from nothing to a report."""

import shlex
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
LAYERS = ["head", "layer3", "layer2"]


@app.command()
@command
def demo(
    folder: Annotated[Path, typer.Argument(help="Where to put films, runs and report.")] = Path("demo"),
    films: Annotated[int, typer.Option(help="How many films to draw.")] = 600,
    seed: Annotated[int, typer.Option(help="Other numbers draw other patients.")] = 2026,
) -> None:
    """Draw chest films with known findings, name the units of a small network that reads them, and write a report."""
    from mammi.concepts import build_concepts, read_reports
    from mammi.data import ProbingSet
    from mammi.explain.account import open_account
    from mammi.explain.audit import audit
    from mammi.explain.kept import keep
    from mammi.functional.fingerprint import fingerprint_value
    from mammi.phantoms import write_cohort
    from mammi.pipeline import annotate
    from mammi.reports import write_report_folder
    from mammi.targets import Target, create_target, randomised
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

        def name_units(name: str, network: Target, method: str) -> "Run":
            def report(step: str, done: int, total: int) -> None:
                progress(f"{name}: {step}", done, total)

            out = folder / f"{name.replace(' ', '-')}-{films}-{seed}-{content}"
            return annotate(
                network,
                probing,
                concepts,
                vlm,
                layers=LAYERS,
                out=out,
                method=method,
                precision="float32",
                progress=report,
            )

        run = name_units("calibrated", target, "calibrated")
        published = name_units("published rule", target, "mammi")
        settling = [probing.film(row) for row in range(0, len(probing), -(-len(probing) // 64))]
        nothing = randomised(target, settling, seed=seed)
        random = name_units("random weights", nothing, "calibrated")
        random_published = name_units("random weights published rule", nothing, "mammi")
        account = open_account(run, target, progress=progress)
        keep(run, "audit", audit(account, drawn / "labels.csv", progress=progress).to_dict())
        # Drawn films show nobody: here, and only here, pictures are on without being asked for.
        report = write_report_folder(run, folder / "report", with_images=True, account=account, progress=progress)

    shown = table("output unit", "named", "effect", "q", "", right=("effect", "q"))
    accuracy = _accuracy(run)
    first = run.annotations[(run.annotations["rank"] == 1) & run.annotations["kept"]].set_index(["layer", "unit"])
    for row, right in zip(run.to_frame("head").to_dict("records"), accuracy.first, strict=True):
        sure = first.loc[("head", row["unit"])] if row["concepts"] else None
        numbers = (
            ("", "")
            if sure is None
            else (f"{sure['effect']:.2f}", "< 0.001" if sure["q_value"] < 0.001 else f"{sure['q_value']:.3f}")
        )
        cells = (row["output"], row["concepts"] or f"no concept: {row['reason']}", *numbers)
        shown.add_row(*map(escape, cells), "right" if right else "wrong")
    out.print(shown)
    rows = table("", "outputs named right", "of all units named", "of a network with random weights", right=())
    for title, own, control in (("calibrated", run, random), ("MAMMI as published", published, random_published)):
        hits = _accuracy(own).first
        rows.add_row(title, f"{sum(hits)} of {len(hits)}", _named(own), _named(control))
    out.print(rows)
    out.print(
        f"{run.manifest['counts']['films']} films, {len(concepts)} concepts, {len(LAYERS)} layers, "
        f"{time.monotonic() - began:.0f} s. report: {(report / 'index.html').resolve()}\n"
        f"explorer: mammi serve {shlex.quote(str(run.folder))} --with-images",
        markup=False,
        soft_wrap=True,
    )
    if accuracy.compute()["first"] < ENOUGH:
        err.print(f"mammi: fewer than {ENOUGH:.0%} of the outputs are named right: this installation is not sound")
        raise typer.Exit(1)


def _named(run: "Run") -> str:
    counts = run.manifest["counts"]
    return f"{counts['named']} of {counts['units']}"


def _accuracy(run: "Run") -> "NamingAccuracy":
    """Compare the names of the outputs with what the outputs are known to be."""
    from mammi.metrics import NamingAccuracy
    from mammi.phantoms import is_named

    accuracy = NamingAccuracy(is_named)
    for row in run.to_frame("head").to_dict("records"):
        accuracy.update(row["output"], row["concepts"].split("; ") if row["concepts"] else [])
    return accuracy
