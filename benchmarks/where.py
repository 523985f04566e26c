"""Where units and classes look, against masks: a real network on ChestX-Det films, the embedded one on drawn films.

    python benchmarks/where.py [DATA]      # DATA: the folder with nih/, mobilenet_nih/, ...; writes docs/where.md and its picture

Everything is fixed before a mask is looked at: the grid, the tolerance, the share of the film that counts as "on".
Baselines that see no film stand beside every map, and what does not beat them is said so.
"""

import io
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pandas as pd
import torch
from PIL import Image
from real_films import chestx_det
from scipy.ndimage import gaussian_filter

import mammi
from mammi.capture import Recorder, plan_layers, plan_maps
from mammi.explain.agreement import unit_agreement
from mammi.explain.gradients import leaf_at
from mammi.explain.overlay import overlay
from mammi.explain.receptive import cell_offset
from mammi.explain.where import cell_maps, lay_on_film, unit_maps
from mammi.functional.agreement import pearson
from mammi.functional.chance import patient_resamples
from mammi.functional.pointing import (
    SHARE,
    TOLERANCE,
    best_iou,
    energy_inside,
    pointing_hit,
    side_agreement,
    strongest_iou,
)
from mammi.phantoms import write_cohort
from mammi.targets import Target, randomised
from mammi.targets.layers import evaluating
from mammi.types import UnitId

PAGE = Path(__file__).resolve().parents[1] / "docs" / "where.md"
PICTURE = PAGE.parent / "pictures" / "where.jpg"
BEGIN, END = "<!-- measured: benchmarks/where.py writes from here -->", "<!-- to here -->"
#: Points along each side of the grid over the film.
SIDE = 160
SEED = 5
RESAMPLES = 1000
POINTS = (np.arange(SIDE) + 0.5) / SIDE
MEASURES: dict[str, Callable[..., np.ndarray]] = {
    "pointing": pointing_hit,
    "IoU": strongest_iou,
    "energy": energy_inside,
    "side": side_agreement,
    "best IoU (oracle)": best_iou,
}
CLASS, UNIT, NAMED, MIDDLE = (
    "class map",
    "its most important unit",
    "the unit most like the label",
    "class map, cells in the middle",
)
UNTRAINED, HABIT = "class map of random weights", "mean class map of other patients"
CENTRE, PRIOR = "centre of the film", "mean mask of other patients"
METHODS = (CLASS, MIDDLE, UNIT, NAMED, UNTRAINED, HABIT, CENTRE, PRIOR)


@dataclass
class Cohort:
    """Films with masks, and the network to ask; its maps are those of ``maps``, its outputs those of ``head``."""

    target: Target
    maps: str
    head: str
    films: mammi.ProbingSet
    masks: mammi.MaskSet
    #: Films of other patients, with labels: where the unit most like a label is found.
    labelled: mammi.ProbingSet


@dataclass
class Case:
    """One finding on one film."""

    row: int
    patient: str
    finding: str
    truth: np.ndarray
    logit: float = float("nan")
    maps: dict[str, np.ndarray] = field(default_factory=dict)


def batches(target: Target, films: mammi.ProbingSet, size: int = 16) -> Iterator[tuple[range, torch.Tensor]]:
    for start in range(0, len(films), size):
        rows = range(start, min(start + size, len(films)))
        yield rows, torch.stack([target.view(films.film(row)) for row in rows])


def find_cases(cohort: Cohort) -> list[Case]:
    """List every finding that is marked on a film and is an output of the network."""
    wanted = [name for name in cohort.masks.concepts if name in cohort.target.output_names]
    cases = []
    for row, name in enumerate(cohort.films.ids):
        shape = cohort.films.film(row).pixels.shape[:2]
        grids = cohort.masks.grid(name, shape, POINTS, POINTS)
        for finding in wanted:
            truth = grids[cohort.masks.concepts.index(finding)]
            if truth.any():
                cases.append(Case(row, str(cohort.films.patients[row]), finding, truth))
    return cases


def like_the_label(cohort: Cohort, findings: list[str]) -> dict[str, int]:
    """Return the unit of the maps whose pooled activation goes best with each label, on films of other patients."""
    labels = {name.lower().replace("_", " "): n for n, name in enumerate(cohort.labelled.label_names)}
    with Recorder(cohort.target.model, plan_layers(cohort.target, [cohort.maps])) as recorder:
        parts = [recorder.record(views)[cohort.maps] for _, views in batches(cohort.target, cohort.labelled)]
    truth = torch.from_numpy(cohort.labelled.labels[:, [labels[name] for name in findings]]).double()
    r = pearson(torch.cat(parts).double(), truth).nan_to_num(-1)
    return dict(zip(findings, r.argmax(dim=0).tolist(), strict=True))


def draw_maps(cohort: Cohort, cases: list[Case]) -> None:
    """Give every case the maps that look at its film."""
    target, outputs = cohort.target, cohort.target.output_names
    maps, head = plan_layers(target, [cohort.maps, cohort.head])
    findings = sorted({case.finding for case in cases})
    alike = like_the_label(cohort, findings)
    spaced = [cohort.labelled.film(row) for row in np.linspace(0, len(cohort.labelled) - 1, 64).astype(int)]
    control = randomised(target, spaced, seed=1)
    at = plan_maps(target, [maps])[0]
    offset = cell_offset(target, at)

    def lay(cells: torch.Tensor, row: int, offset: tuple[float, float] = offset) -> np.ndarray:
        shape = cohort.films.film(row).pixels.shape[:2]
        size = int(shape[0]), int(shape[1])
        return lay_on_film(cells, target.preprocessing, size, (SIDE, SIDE), offset=offset)

    for rows, views in batches(target, cohort.films):
        here = [case for case in cases if case.row in rows]
        needed = sorted({outputs.index(case.finding) for case in here})
        untrained = cell_maps(control, head, views, needed, at=plan_maps(control, [maps])[0])
        units = cell_maps(target, at, views, sorted(set(alike.values())))
        with evaluating(target.model), leaf_at(target.model, at) as caught, torch.enable_grad():
            logits = target.model(views)
            for output in needed:
                (slope,) = torch.autograd.grad(logits[:, output].sum(), caught["leaf"], retain_graph=True)
                shares = at.pool(slope * caught["leaf"].detach())
                for case in here:
                    if outputs.index(case.finding) != output:
                        continue
                    film = case.row - rows.start
                    case.logit = float(logits[film, output].detach())
                    case.maps[CLASS] = lay(shares[film].sum(dim=0), case.row)
                    case.maps[MIDDLE] = lay(shares[film].sum(dim=0), case.row, (0.0, 0.0))
                    case.maps[UNIT] = lay(shares[film, shares[film].sum(dim=(1, 2)).argmax()], case.row)
                    unit = sorted(set(alike.values())).index(alike[case.finding])
                    case.maps[NAMED] = lay(units[film, unit], case.row)
                    case.maps[UNTRAINED] = lay(untrained[film, needed.index(output)], case.row)


def draw_baselines(cases: list[Case]) -> None:
    """Give every case the maps that do not look at its film."""
    away = np.hypot(POINTS[:, None] - 0.5, POINTS - 0.5)
    centre = np.exp(-0.5 * (away / 0.25) ** 2)
    for case in cases:
        others = [c for c in cases if c.finding == case.finding and c.patient != case.patient]
        unknown = np.full((SIDE, SIDE), np.nan)
        case.maps[CENTRE] = centre
        # Smoothed, or a mean of three masks would be flat at its top.
        mean = np.mean([c.truth for c in others], axis=0) if others else unknown
        case.maps[PRIOR] = gaussian_filter(mean, 0.03 * SIDE)
        case.maps[HABIT] = np.mean([c.maps[CLASS] for c in others], axis=0) if others else unknown


class Results:
    """Every measure of every map of every case, and what other draws of patients would give."""

    def __init__(self, cases: list[Case]) -> None:
        self.cases = cases
        self.values = {
            name: np.array([[float(measure(case.maps[m], case.truth)) for m in METHODS] for case in cases])
            for name, measure in MEASURES.items()
        }
        patients = np.unique([case.patient for case in cases], return_inverse=True)[1]
        draws = patient_resamples(torch.from_numpy(patients), RESAMPLES, SEED)
        self.times = torch.stack(list(draws)).numpy().astype(np.float64)

    def known(self, measure: str, method: str, rows: np.ndarray) -> np.ndarray:
        """Return which of some cases have a value."""
        return rows & ~np.isnan(self.values[measure][:, METHODS.index(method)])

    def mean(self, measure: str, method: str, rows: np.ndarray, minus: str | None = None) -> tuple[float, float, float]:
        """Return mean and 95 % interval over patients, of a method or of what it has over another."""
        known = self.known(measure, method, rows)
        values = self.values[measure][:, METHODS.index(method)]
        if minus is not None:
            known &= self.known(measure, minus, rows)
            values = values - self.values[measure][:, METHODS.index(minus)]
        if not known.any():
            return (np.nan,) * 3
        weights = self.times[:, known]
        some = weights.sum(axis=1) > 0
        means = weights[some] @ values[known] / weights[some].sum(axis=1)
        one = len({case.patient for case, k in zip(self.cases, known, strict=True) if k}) < 2
        low, high = (np.nan, np.nan) if one else np.quantile(means, (0.025, 0.975))
        return float(values[known].mean()), float(low), float(high)

    def cell(self, measure: str, method: str, rows: np.ndarray) -> str:
        """Return a mean and its interval as text."""
        mean, low, high = self.mean(measure, method, rows)
        if np.isnan(mean):
            return "-"
        return f"{mean:.2f}" + ("" if np.isnan(low) else f" ({low:.2f} to {high:.2f})")

    def patients(self, rows: np.ndarray) -> int:
        """Return how many patients some cases are of."""
        return len({case.patient for case, there in zip(self.cases, rows, strict=True) if there})


def table(results: Results, methods: tuple[str, ...], rows: np.ndarray) -> list[str]:
    head = ["| map | " + " | ".join(MEASURES) + " |", "|---|" + "---|" * len(MEASURES)]
    return head + [f"| {m} | " + " | ".join(results.cell(name, m, rows) for name in MEASURES) + " |" for m in methods]


def report(title: str, cohort: Cohort, per_finding: tuple[str, ...]) -> str:
    """Measure one cohort and return its part of the page."""
    cases = find_cases(cohort)
    draw_maps(cohort, cases)
    draw_baselines(cases)
    results = Results(cases)
    every = np.ones(len(cases), bool)
    area = np.array([case.truth.mean() for case in cases])
    sided = results.known("side", CLASS, every)
    about = (
        f"{len(cases)} findings on {len({c.row for c in cases})} films of {results.patients(every)} patients; the mark "
        f"covers {area.mean():.3f} of the film on average, which is the energy of a flat map; {sided.sum()} marks lie on "
        "one side. Means over findings on films (95 % interval over patients)."
    )
    lines = [f"### {title}", "", about, "", *table(results, METHODS, every), ""]
    lines += ["The class map against", "", *verdicts(results, every), ""]
    # A map of what a network does not see shows nothing: the films of each finding on which its output is highest.
    called = np.zeros(len(cases), bool)
    findings = sorted({case.finding for case in cases})
    for finding in findings:
        mine = np.array([case.finding == finding for case in cases])
        called |= mine & (
            np.array([case.logit for case in cases]) >= np.median([c.logit for c in cases if c.finding == finding])
        )
    some = f"{called.sum()} findings, {results.patients(called)} patients"
    lines += [f"Only the films of each finding with the higher half of its output ({some}):", ""]
    lines += [*table(results, (CLASS, CENTRE, PRIOR), called), ""]
    lines += [
        "| finding | films, patients, covers | map | pointing | IoU | energy | side |",
        "|---|---|---|---|---|---|---|",
    ]
    for finding in findings:
        mine = np.array([case.finding == finding for case in cases])
        for n, method in enumerate(per_finding):
            first = f"{finding} | {mine.sum()}, {results.patients(mine)}, {area[mine].mean():.3f}" if n == 0 else " | "
            row = " | ".join(results.cell(name, method, mine) for name in ("pointing", "IoU", "energy", "side"))
            lines.append(f"| {first} | {method} | {row} |")
    return "\n".join([*lines, ""])


def verdicts(results: Results, rows: np.ndarray) -> list[str]:
    """Say in words whether the class map beats what sees no film or has learned nothing."""
    said = []
    for other in (UNTRAINED, CENTRE, PRIOR, HABIT):
        parts = []
        for measure in ("pointing", "IoU", "energy", "side"):
            mean, low, high = results.mean(measure, CLASS, rows, minus=other)
            if np.isnan(mean):
                continue
            word = "better" if low > 0 else "worse" if high < 0 else "no difference shown"
            parts.append(f"{measure} {mean:+.2f} ({low:+.2f} to {high:+.2f}), {word}")
        said.append(f"- the *{other}*: {'; '.join(parts)}")
    return said


def real(data: Path, folder: Path) -> Cohort:
    network = data / "mobilenet_nih"
    target = mammi.create_target(f"{network / 'model.py'}:MNV3S", network / "weights.pt")
    masks = mammi.MaskSet.read(chestx_det(data, folder / "places.csv"))
    films = mammi.ProbingSet.open(data / "nih" / "images", data / "nih" / "labels.csv")
    marked = set(masks.films)
    rows = [row for row, name in enumerate(films.ids) if name in marked]
    seen = {films.patients[row] for row in rows}
    others = [row for row in range(len(films)) if films.patients[row] not in seen]
    return Cohort(target, "hs2", "linear4", films.subset(rows), masks, films.subset(others))


def drawn(folder: Path) -> Cohort:
    write_cohort(folder / "marked", 300, seed=4021, masks=True)
    write_cohort(folder / "labelled", 300, seed=4022, masks=True)
    films, labelled = (
        mammi.ProbingSet.open(folder / part / "images", folder / part / "labels.csv") for part in ("marked", "labelled")
    )
    masks = mammi.MaskSet.read(folder / "marked" / "masks.csv")
    return Cohort(mammi.create_target("phantom"), "layer3", "head", films, masks, labelled)


def named_units(folder: Path, cohort: Cohort) -> str:
    """Name the units of the embedded network by `calibrated`, and see whether they look at what they are named."""
    concepts = mammi.build_concepts(mammi.read_reports(folder / "labelled" / "reports.jsonl"))
    run = mammi.annotate(
        cohort.target,
        cohort.labelled,
        concepts,
        mammi.create_vlm("phantom"),
        layers=["layer3"],
        out=folder / "run",
        method="calibrated",
        precision="float32",
    )
    masks = mammi.MaskSet.read(folder / "labelled" / "masks.csv")
    named = unit_agreement(run, cohort.target, masks, "layer3")
    about = (
        f"`calibrated` named units of `layer3` on {len(run.images)} drawn films; {named['unit'].nunique()} have a name that "
        "holds a marked concept. How often the maximum of their map is on the mark, beside all units of the layer, named so "
        "or not, and the centre of the film:"
    )
    lines = ["### Units of the embedded network, named without masks", "", about, ""]
    lines += [
        "| concept | films | units named so | pointing, these | all units | centre | IoU, these | all units | side |"
    ]
    lines += ["|---|---|---|---|---|---|---|---|---|"]
    every = unit_agreement(run, cohort.target, masks, "layer3", every=True)
    rows = []
    for concept, mine in named.groupby("concept"):
        rest = every[every["concept"] == concept]
        values = (mine["pointing"].mean(), rest["pointing"].mean(), mine["centre"].iloc[0], mine["iou"].mean())
        rows.append([*values, rest["iou"].mean(), mine["side"].mean()])
        shown = " | ".join("-" if np.isnan(v) else f"{v:.2f}" for v in rows[-1])
        lines.append(f"| {concept} | {mine['n'].iloc[0]} | {len(mine)} | {shown} |")
    mean = pd.DataFrame(rows).mean()
    lines.append(f"| mean over concepts | | {len(named)} | " + " | ".join(f"{v:.2f}" for v in mean) + " |")
    return "\n".join([*lines, ""])


def write_picture(cohort: Cohort) -> None:
    """Draw some class maps on drawn films, for the page."""
    maps, head = plan_layers(cohort.target, [cohort.maps, cohort.head])
    pictures = []
    for finding in ("pneumothorax", "consolidation", "effusion", "nodule"):
        present = cohort.films.labels[:, cohort.films.label_names.index(finding)] == 1
        film = cohort.films.film(int(np.flatnonzero(present)[1]))
        output = cohort.target.output_names.index(finding)
        cells = cell_maps(cohort.target, head, cohort.target.view(film)[None], [output], at=maps)
        found = unit_maps(cohort.target, head, film, [output], at=maps)
        value, unit = float(cells.sum()), UnitId(cohort.head, output)
        data = overlay(film, found.maps[0], name=finding, unit=unit, value=value, meaning="sum of the map")
        pictures.append(Image.open(io.BytesIO(data)).convert("RGB"))
    width = sum(picture.width for picture in pictures) + 6 * (len(pictures) - 1)
    sheet = Image.new("RGB", (width, pictures[0].height), (255, 255, 255))
    left = 0
    for picture in pictures:
        sheet.paste(picture, (left, 0))
        left += picture.width + 6
    sheet.resize((1280, round(1280 * sheet.height / width)), Image.Resampling.LANCZOS).save(PICTURE, quality=82)


def main() -> None:
    """Measure both networks and write the tables into the page."""
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2] / "shared" / "data"
    began = time.perf_counter()
    parts = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cohort = drawn(folder)
        write_picture(cohort)
        parts.append(report("The embedded network on drawn films it has not seen", cohort, (CLASS, PRIOR)))
        parts.append(named_units(folder, cohort))
        title = "A MobileNetV3-Small trained on NIH labels, on the films that ChestX-Det marked"
        parts.insert(0, report(title, real(data, folder), (CLASS, UNIT, CENTRE, PRIOR)))
    took = time.perf_counter() - began
    head = (
        f"Written by `python benchmarks/where.py` on {date.today():%d %B %Y}: {os.cpu_count()} CPU cores "
        f"({platform.machine()}), torch {torch.__version__.split('+')[0]}, {took:.0f} s. Grid of {SIDE} x {SIDE} points over "
        f"the film, tolerance {TOLERANCE} of its side, on: the strongest {SHARE:.0%} of the film.\n"
    )
    text = "\n".join([head, *parts])
    print(text)
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
