"""A planted shortcut found by the audit, quantified, taken out, and held against the causal truth.

The network `phantom:shortcut` takes an arrow of lead on the film for a pneumothorax. The same film is drawn with and without
the arrow, so that what the arrow does to every unit and every logit is known film by film. Prints what docs/shortcut.md says
and draws its pictures.

    python benchmarks/shortcut.py [FOLDER] [--films N] [--pictures docs/pictures]
"""

import argparse
import os
import tempfile
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

import mammi
from mammi.capture import Recorder, plan_maps
from mammi.explain.ablation import ablate, ablated_logits, held_values
from mammi.explain.account import Account, open_account
from mammi.explain.audit import audit
from mammi.explain.audit_result import Audit
from mammi.explain.models import load_target
from mammi.functional.auroc import auroc
from mammi.functional.patient_sums import mean_interval
from mammi.phantoms import Cohort, Shortcut, write_cohort
from mammi.phantoms.catalogue import OUTPUTS
from mammi.types import Film

mpl.use("agg")
FINDING = "pneumothorax"
SEED = 77
INK, ACCENT, QUIET = "#1b2733", "#b3392f", "#8a97a3"


class Pairs(NamedTuple):
    """Every film without and with the arrow: activations ``(2, n_films, n_units)``, patients and labels."""

    activations: NDArray[np.float64]
    patients: NDArray[np.int64]
    present: NDArray[np.bool_]


def make_run(folder: Path, spec: str, films: int) -> mammi.Run:
    """Draw the films and annotate the network, or take what an earlier call left."""
    data, out = folder / "data", folder / spec.replace(":", "-")
    if not (data / "labels.csv").is_file():
        write_cohort(data, films, SEED, shortcut=Shortcut(FINDING))
    probing = mammi.ProbingSet.open(data / "images", data / "labels.csv")
    concepts = mammi.build_concepts(mammi.read_reports(data / "reports.jsonl"))
    target, vlm = mammi.create_target(spec), mammi.create_vlm("phantom")
    return mammi.annotate(
        target, probing, concepts, vlm, layers=["head", "layer3"], out=out, method="calibrated", precision="float32"
    )


def pairs(account: Account) -> Pairs:
    """Show the network every film without and with the arrow, all else being the same pixel by pixel."""
    n_films = len(account.run.images)
    cohorts = [Cohort(n_films, SEED), Cohort(n_films, SEED, shortcut=Shortcut(FINDING, 1, 1))]
    found: list[list[NDArray[np.float32]]] = [[], []]
    with Recorder(account.target.model, [account.plan]) as recorder:
        for side, cohort in enumerate(cohorts):
            for start in range(0, n_films, 50):
                views = [
                    account.target.view(Film(np.asarray(cohort.film(i).to_pil(), dtype=np.float32) / 255))
                    for i in range(start, min(start + 50, n_films))
                ]
                found[side].append(recorder.record(torch.stack(views))[account.layer].numpy())
    plans = [cohorts[0].plan(i) for i in range(n_films)]
    return Pairs(
        np.stack([np.concatenate(side) for side in found]).astype(np.float64),
        np.array([plan.patient.id for plan in plans]),
        np.array([any(finding.name == FINDING for finding in plan.findings) for plan in plans]),
    )


def show_truth(account: Account, seen: Pairs, units: list[int], c: int) -> NDArray[np.float64]:
    """Print what the arrow does to the logit, in all and through the units; return each unit's part, without the finding."""
    weight = account.head.weight[c]
    moved = (seen.activations[1] - seen.activations[0]) * weight
    through = np.zeros(account.n_units, dtype=bool)
    through[units] = True
    without = ~seen.present
    parts = np.stack([moved.sum(axis=1), moved[:, through].sum(axis=1), moved[:, ~through].sum(axis=1)], axis=1)
    for name, rows in (("films without the finding", without), ("films with it", seen.present)):
        mean, low, high = mean_interval(torch.from_numpy(parts[rows]), torch.from_numpy(seen.patients[rows]))
        print(f"\ntruth, {name} ({rows.sum()}), the same film with the arrow less without it:")
        for place, what in enumerate(("the logit moves by", "through the units that react", "through all others")):
            print(f"  {what:30} {mean[place]:+.3f} [{low[place]:+.3f} to {high[place]:+.3f}]")
    return moved[without].mean(axis=0)


def show_areas(account: Account, seen: Pairs, units: list[int], c: int) -> None:
    """Print how well the finding is told, before and after, for arrows that lie in different ways."""
    weight, values = account.head.weight[c], held_values(account, "mean")
    held = seen.activations.copy()
    held[:, :, units] = values[units]
    logits = [each @ weight for each in (seen.activations, held)]
    chance = np.random.default_rng(0).random(len(seen.present)) < 0.5
    lies = {
        "as in the films audited": np.array([film == "arrow" for film in arrows(account)]),
        "on no film": np.zeros(len(seen.present), dtype=bool),
        "on half of the films, at random": chance,
        "on the films without the finding only": ~seen.present,
    }
    print(f"\nAUC of {FINDING} by where the arrow lies: before, units held at their mean")
    for name, arrow in lies.items():
        areas = [
            float(
                auroc(
                    torch.from_numpy(np.where(arrow, z[1], z[0])[:, None]),
                    torch.from_numpy(seen.present.astype(float)[:, None]),
                )
            )
            for z in logits
        ]
        print(f"  {name:40} {areas[0]:.3f}  {areas[1]:.3f}")


def arrows(account: Account) -> list[str]:
    """Return what the cohort says of each film's arrow."""
    cohort = Cohort(len(account.run.images), SEED, shortcut=Shortcut(FINDING))
    return ["arrow" if cohort.plan(i).arrow else "none" for i in range(len(cohort))]


def draw_films(account: Account, seen: Pairs, unit: int, c: int, path: Path) -> None:
    """Draw one film without and with the arrow, and where the unit that carries most is strong on it."""
    logits = seen.activations @ account.head.weight[c] + account.head.bias[c]
    quiet = np.flatnonzero(~seen.present)
    index = int(quiet[np.argsort(logits[1, quiet])[len(quiet) // 2]])  # an ordinary film: the median
    figure = Figure(figsize=(9.2, 2.75), layout="constrained")
    axes = figure.subplots(1, 4)
    maps = []
    for side, rates in enumerate((0, 1)):
        cohort = Cohort(len(account.run.images), SEED, shortcut=Shortcut(FINDING, rates, rates))
        picture = np.asarray(cohort.film(index).to_pil(), dtype=np.float32) / 255
        with Recorder(account.target.model, plan_maps(account.target, [account.plan])) as recorder:
            maps.append(recorder.record(account.target.view(Film(picture))[None])[account.layer][0, unit].numpy())
        odds = 1 / (1 + np.exp(-logits[side, index]))
        axes[2 * side].imshow(picture, cmap="gray", vmin=0, vmax=1)
        axes[2 * side].set_title(f"{('without', 'with')[side]} the arrow: {odds:.0%}", fontsize=9, color=INK)
    for side in range(2):
        shown = axes[2 * side + 1].imshow(maps[side], cmap="magma", vmin=0, vmax=max(m.max() for m in maps))
        axes[2 * side + 1].set_title(f"unit {account.layer}:{unit}", fontsize=9, color=INK)
    figure.colorbar(shown, ax=axes[3], fraction=0.046).ax.tick_params(labelsize=7)
    for axis in axes:
        axis.set_axis_off()
    figure.savefig(path, dpi=110)


def draw_units(account: Account, found: Audit, truth: NDArray[np.float64], units: list[int], path: Path) -> None:
    """Draw what each unit carries by the audit beside what it truly carries."""
    table = found.carried[found.carried["output"] == FINDING].sort_values("unit")
    carried = table["carried_same"].to_numpy()
    rest = np.setdiff1d(np.arange(account.n_units), units)
    figure = Figure(figsize=(5.2, 4.4), layout="constrained")
    axis = figure.subplots()
    low, high = min(carried.min(), truth.min()) - 0.03, max(carried.max(), truth.max()) + 0.06
    axis.plot([low, high], [low, high], color=QUIET, linewidth=0.8, zorder=0)
    axis.scatter(truth[rest], carried[rest], s=16, color=QUIET, label="other units")
    axis.scatter(truth[units], carried[units], s=26, color=ACCENT, label="react at the same finding, q < 0.05")
    for unit in sorted(units, key=lambda unit: -abs(truth[unit]))[:6]:
        axis.annotate(
            f"{unit}", (truth[unit], carried[unit]), (4, 3), textcoords="offset points", fontsize=8, color=INK
        )
    axis.set(xlabel="truth: the same films with and without the arrow", ylabel="audit: at the same finding")
    axis.set_title(f"what each unit of {account.layer} carries of the logit of {FINDING}", fontsize=9, color=INK)
    axis.legend(fontsize=8, frameon=False, loc="upper left")
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def draw_gaps(rows: list[tuple[str, float, float, float, str]], path: Path) -> None:
    """Draw gaps with intervals, one below the other."""
    figure = Figure(figsize=(7.4, 2.6), layout="constrained")
    axis = figure.subplots()
    for place, (_, value, low, high, colour) in enumerate(rows):
        axis.plot([low, high], [-place, -place], color=colour, linewidth=2.5, solid_capstyle="butt")
        axis.plot(value, -place, "o", color=colour, markersize=6)
        axis.annotate(
            f"{round(value, 2) + 0:+.2f}",
            (max(high, value), -place),
            (8, -3),
            textcoords="offset points",
            fontsize=8,
            color=INK,
        )
    axis.axvline(0, color=QUIET, linewidth=0.8, zorder=0)
    axis.set_yticks([-place for place in range(len(rows))], [row[0] for row in rows], fontsize=8.5)
    axis.set_ylim(-len(rows) + 0.4, 0.6)
    axis.margins(x=0.12)
    axis.set_xlabel(f"logit of {FINDING}, with the arrow less without it, films without the finding", fontsize=8.5)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--films", type=int, default=600)
    parser.add_argument("--pictures", type=Path)
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp())
    c = OUTPUTS.index(FINDING)
    for spec in ("phantom", "phantom:shortcut"):
        run = make_run(folder, spec, options.films)
        account = open_account(run, load_target(run))
        found = audit(
            account, folder / "data" / "labels.csv", attributes=["marker", "view", "sex", "age"], classes=[FINDING]
        )
        print(f"\n{spec}: {found.n_films} films of {found.n_patients} patients")
        print("\n".join(found.sentences))
        label = found.attributes[0].label
        units = found.reacting(label, FINDING)
        seen = pairs(account)
        truth = show_truth(account, seen, units, c)
    names = run.units[run.units["layer"] == account.layer]["name"].tolist()
    print("\ngaps along the marker")
    columns = ["films", "gap", "low", "high", "carried", "carried_low", "carried_high", "share", "n_units", "n_films"]
    print(found.gaps.loc[found.gaps["attribute"] == label, columns].round(3).to_string(index=False))
    print(found.confounders.head(3).round(2).to_string(index=False))

    table = found.carried[(found.carried["attribute"] == label)].set_index("unit")
    print("\nthe ten units that truly carry most: truth, audit, r at the same finding, q, name")
    for unit in np.argsort(-np.abs(truth))[:10].tolist():
        row = table.loc[unit]
        print(
            f"  {account.layer}:{unit:<4} {truth[unit]:+.3f}  {row['carried_same']:+.3f}  {row['effect']:+.2f}  "
            f"{row['q_value']:.4f}  {names[unit]}"
        )
    print(f"correlation of audit and truth over units: {np.corrcoef(truth, table['carried_same'])[0, 1]:.3f}")

    removed = ablate(account, units, classes=[FINDING], attributes=found.attributes[:1])
    print("\n" + "\n".join(removed.sentences))
    print(removed.gaps.round(3).to_string(index=False))
    print(removed.areas.round(3).to_string(index=False))
    rows = np.arange(options.films)
    by_algebra = ablated_logits(account, np.array(units), held_values(account, "mean"), rows)[:, c]
    print(
        f"logit of films without the finding, mean before {account.logits[~seen.present, c].mean():+.2f}, after {by_algebra[~seen.present].mean():+.2f}"
    )
    show_areas(account, seen, units, c)

    if options.pictures:
        draw_films(account, seen, int(np.argmax(truth)), c, options.pictures / "shortcut-films.png")
        audited = found
        marker = Audit(**{**vars(audited), "carried": audited.carried[audited.carried["attribute"] == label]})
        draw_units(account, marker, truth, units, options.pictures / "shortcut-units.png")
        gap = removed.gaps.set_index("films").loc["without"]
        through = np.isin(np.arange(account.n_units), units)
        moved = (seen.activations[1] - seen.activations[0])[~seen.present] * account.head.weight[c]
        parts = torch.from_numpy(np.stack([moved.sum(axis=1), moved[:, ~through].sum(axis=1)], axis=1))
        mean, low, high = mean_interval(parts, torch.from_numpy(seen.patients[~seen.present]))
        draw_gaps(
            [
                ("audit", gap["before"], gap["before_low"], gap["before_high"], ACCENT),
                ("truth", float(mean[0]), float(low[0]), float(high[0]), INK),
                (f"audit, {len(units)} units held", gap["after"], gap["after_low"], gap["after_high"], ACCENT),
                (f"truth, {len(units)} units held", float(mean[1]), float(low[1]), float(high[1]), INK),
                *[
                    (
                        f"{removed.n_sets} random sets of {len(units)}: mean to furthest",
                        gap["before"] + gap["random_mean"],
                        *sorted((gap["before"] + gap["random_mean"], gap["before"] + gap["random_extreme"])),
                        QUIET,
                    )
                ],
            ],
            options.pictures / "shortcut-gap.png",
        )


if __name__ == "__main__":
    main()
