"""Every method on real films: a recorded DenseNet-121 and the layers of a MobileNet, judged by labels and by masks.

Names are chosen on half of the patients and judged on the other half, against the labels of the films. A network with
random weights shows what each method names when there is nothing to name.

    python benchmarks/real_films.py [DATA]      # DATA: the folder with nih/, densenet121_nih_outputs/, ...
"""

import csv
import json
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from recorded_densenet import TEMPLATE, TRUTH, recorded

import mammi
from mammi.benchmark import Contestant, contestants, first_names, says_absent
from mammi.capture import Recorder, plan_layers, plan_maps
from mammi.engine import measure_areas
from mammi.functional.agreement import average_precision, pearson
from mammi.functional.chance import patient_folds, patient_resamples
from mammi.functional.dissection import iou
from mammi.functional.selection import select_top
from mammi.functional.similarity import unit_rows
from mammi.functional.wpmi import soft_wpmi
from mammi.metrics import control_table
from mammi.targets import randomised
from mammi.types import no_progress

LAYERS = ("linear4", "hs3", "hs2")
SEED = 5


def without_masks() -> list[Contestant]:
    """Return the methods that need neither labels nor masks."""
    return [one for one in contestants() if one.method != "dissection"]


def with_labels() -> list[Contestant]:
    """Return the methods that need films only, and two that can read the label table instead."""
    return [
        *without_masks(),
        Contestant("invert (labels)", "invert", {"source": "labels", "length": 1}),
        Contestant("linear (labels)", "linear", {"source": "labels"}),
    ]


class Films:
    """The films of the probing set with labels, patients, embeddings, and the activations of trained and untrained."""

    def __init__(self, data: Path) -> None:
        self.images = mammi.ProbingSet.open(data / "nih" / "images", data / "nih" / "labels.csv")
        network = data / "mobilenet_nih"
        self.target = mammi.create_target(f"{network / 'model.py'}:MNV3S", network / "weights.pt")
        self.vlm = mammi.create_vlm(f"{data / 'cxr_mini_vlm' / 'vlm.py'}:create")
        films = [self.images.film(row) for row in range(len(self.images))]
        names = [name.lower().replace("_", " ") for name in self.images.label_names]
        self.labels = np.asarray(self.images.labels)[:, [names.index(name) for name in TRUTH]]
        self.patients = np.unique(self.images.patients, return_inverse=True)[1]
        embed = self.vlm.embed_images
        views = [self.vlm.view(film) for film in films]
        self.rows = torch.cat([embed(torch.stack(views[i : i + 32])) for i in range(0, len(views), 32)]).numpy()
        spaced = [films[i] for i in np.linspace(0, len(films) - 1, 64).astype(int)]
        seen = [self.target.view(film) for film in films]
        self.networks = {"trained": self.target}
        self.networks |= {f"untrained {seed}": randomised(self.target, spaced, seed=seed) for seed in (1, 2)}
        self.layers = {name: self._record(network, seen) for name, network in self.networks.items()}

    def _record(self, target: mammi.targets.Target, seen: list[torch.Tensor]) -> dict[str, np.ndarray]:
        with Recorder(target.model, plan_layers(target, list(LAYERS))) as recorder:
            parts = [recorder.record(torch.stack(seen[i : i + 16])) for i in range(0, len(seen), 16)]
        return {layer: torch.cat([part[layer] for part in parts]).numpy() for layer in LAYERS}

    def annotate(
        self, activations: np.ndarray, texts: np.ndarray, bare: np.ndarray, one: Contestant
    ) -> mammi.ArrayAnnotations:
        """Let a method name units over all films, with the first untrained copy as its control."""
        control = np.concatenate(list(self.layers["untrained 1"].values()), axis=1)
        return mammi.annotate_arrays(
            *(activations, self.rows, texts, bare),
            patients=self.patients,
            control=control,
            method=one.method,
            **one.options,
        )

    def texts(self, concepts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Embed concepts in the template, and the bare template."""
        encoded = self.vlm.embed_texts([TEMPLATE.format(concept) for concept in concepts]).numpy()
        return encoded, self.vlm.embed_texts([TEMPLATE.replace(" {}", "")]).numpy()[0]


def recorded_outputs(data: Path) -> None:
    """Print the rank of the true finding for the recorded outputs of the DenseNet-121, under every method."""
    logits, films, texts, bare, words = recorded(data)
    with (data / "densenet121_nih_outputs" / "probabilities.csv").open() as file:
        ids = [row["Image Index"] for row in csv.DictReader(file)]
    with (data / "nih" / "labels.csv").open() as file:
        patient_of = {row["image"]: row["patient"] for row in csv.DictReader(file)}
    patients = [patient_of[name] for name in ids]
    print(f"\n## The 14 outputs of a DenseNet-121, {len(logits)} films, {len(words)} words\n")
    print("| method | hit@1 | hit@5 | hit@10 | median ahead | named | named right |\n|---|---|---|---|---|---|---|")
    for one in without_masks():
        found = mammi.annotate_arrays(logits, films, texts, bare, patients=patients, method=one.method, **one.options)
        truth = [words.index(name) for name in TRUTH]
        # Concepts with the same score share their places.
        ahead = np.array(
            [np.sum(row > row[t]) + (np.sum(row == row[t]) - 1) / 2 for row, t in zip(found.scores, truth, strict=True)]
        )
        known = np.array([np.isfinite(row[t]) for row, t in zip(found.scores, truth, strict=True)])
        ahead = np.where(known, ahead, len(words))
        named = [len(kept) > 0 for kept in found.concepts]
        right = [len(kept) > 0 and kept[0] == t for kept, t in zip(found.concepts, truth, strict=True)]
        hits = " | ".join(f"{np.mean(ahead < k):.2f}" for k in (1, 5, 10))
        print(f"| {one.title} | {hits} | {np.median(ahead):g} | {np.mean(named):.2f} | {np.mean(right):.2f} |")
    other_scales(logits, films, texts, [words.index(name) for name in TRUTH])


def other_scales(logits: np.ndarray, films: np.ndarray, texts: np.ndarray, truth: list[int]) -> None:
    """Print what soft WPMI reaches with a softmax of another scale than the published 10."""
    chosen = select_top(torch.from_numpy(logits), 100)
    rows, concepts = (unit_rows(torch.from_numpy(table)) for table in (films, texts))
    print("\nclip-dissect (soft_wpmi) with another scale of the softmax:\n")
    for scale in (1.0, 2.0, 10.0):
        scores = soft_wpmi(chosen, rows, concepts, scale=scale)
        ahead = (scores > scores[torch.arange(len(truth)), truth][:, None]).sum(dim=1).double().numpy()
        hits = ", ".join(f"hit@{k} {np.mean(ahead < k):.2f}" for k in (1, 10))
        print(f"- {scale:g}: {hits}, median ahead {np.median(ahead):g}")


def judge_held_out(
    title: str, activations: np.ndarray, films: "Films", rows: np.ndarray, control: np.ndarray | None
) -> None:
    """Name units on half of the patients, judge the names on the other half by the labels of the films."""
    texts, bare = films.texts(TRUTH)
    patients, labels = films.patients[rows], films.labels[rows]
    fold = patient_folds(torch.from_numpy(patients), 2, SEED).numpy()
    chosen, held = fold == 0, fold == 1
    live = (activations[chosen].std(axis=0) > 0) & (activations[held].std(axis=0) > 0)
    activations = activations[:, live]
    r = pearson(torch.from_numpy(activations[held]).double(), torch.from_numpy(labels[held]).double()).numpy()
    areas = average_precision(torch.from_numpy(activations[held]).double(), torch.from_numpy(labels[held])).numpy()
    prevalence = labels[held].mean(axis=0)
    best = pearson(torch.from_numpy(activations[chosen]).double(), torch.from_numpy(labels[chosen]).double())
    names = {"best label by the labels themselves": [[int(m)] for m in best.argmax(dim=1)]}
    for one in with_labels():
        found = mammi.annotate_arrays(
            activations[chosen],
            films.rows[rows][chosen],
            texts,
            bare,
            patients=patients[chosen],
            labels=labels[chosen],
            control=None if control is None else control[chosen],
            method=one.method,
            **one.options,
        )
        # A name that says "not" is no claim that the finding excites the unit.
        names[one.title] = [
            [m for m in kept[:1].tolist() if not says_absent(found, unit, m)]
            for unit, kept in enumerate(found.concepts)
        ]
    sure = np.array([bool(own) for own in names["calibrated"]])
    print(f"\n### {title}: {len(r[0])} findings, {len(r)} units, {held.sum()} films of other patients\n")
    print("| method | named | mean r, named | 95 % | AUPRC / prevalence, named | mean r, units that calibrated names |")
    print("|---|---|---|---|---|---|")
    for method, own in names.items():
        units = np.array([unit for unit, kept in enumerate(own) if kept], dtype=int)
        if not len(units):
            print(f"| {method} | 0.00 | - | - | - | - |")
            continue
        labelled = np.array([own[unit][0] for unit in units])
        low, high = interval(activations[held][:, units], labels[held][:, labelled], patients[held])
        both = sure[units]
        shared = f"{r[units, labelled][both].mean():.3f}" if both.any() else "-"
        print(
            f"| {method} | {len(units) / len(own):.2f} | {np.nanmean(r[units, labelled]):.3f} | {low:.3f} to {high:.3f} | "
            f"{np.nanmean(areas[units, labelled]):.3f} / {prevalence[labelled].mean():.3f} | {shared} |"
        )
    controls = control_table(
        [[TRUTH[m] for m in kept] for kept in names["calibrated"]],
        TRUTH,
        lambda given: {
            "r": float(
                np.nanmean([r[unit, TRUTH.index(kept[0])] for unit, kept in enumerate(given) if kept] or [np.nan])
            )
        },
        "r",
        seed=SEED,
        draws=20,
    )
    for row in controls[1:]:
        print(f"| *{row.name}* ({row.detail}) | - | {row.values['r']:.3f} | - | - | - |")


def interval(activations: np.ndarray, labels: np.ndarray, patients: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval over patients of the mean correlation of paired columns."""
    a, y = torch.from_numpy(activations).double(), torch.from_numpy(labels).double()
    means = []
    for times in patient_resamples(torch.from_numpy(patients), 300, SEED):
        w = times.double() / times.sum()
        da, dy = a - w @ a, y - w @ y
        found = (w @ (da * dy)) / ((w @ da.square()) * (w @ dy.square())).sqrt()
        means.append(float(found.nanmean()))
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def untrained_names(films: "Films", data: Path) -> None:
    """Print the share of units that each method names, in the trained network and in one with random weights."""
    phrases = mammi.build_concepts(mammi.read_reports(data / "reports.jsonl")).terms
    texts, bare = films.texts(phrases)
    print(f"\n## Named at all, {len(phrases)} concepts from reports, {len(films.rows)} films\n")
    print("| method | " + " | ".join(f"{layer}, trained | {layer}, random weights" for layer in LAYERS) + " |")
    print("|---|" + "---|" * (2 * len(LAYERS)))
    for one in without_masks():
        shares = []
        for layer in LAYERS:
            for network in ("trained", "untrained 2"):
                found = films.annotate(films.layers[network][layer], texts, bare, one)
                shares.append(float(np.mean([len(kept) > 0 for kept in found.concepts])))
        print(f"| {one.title} | " + " | ".join(f"{share:.3f}" for share in shares) + " |")


def against_masks(films: "Films", data: Path) -> None:
    """Print how often a method's first name is what masks say, for the units of `hs2` that masks can name."""
    with tempfile.TemporaryDirectory() as folder:
        masks = mammi.MaskSet.read(chestx_det(data, Path(folder) / "places.csv"))
    images = films.images.subset([row for row, name in enumerate(films.images.ids) if name in set(masks.films)])
    plans = plan_maps(films.target, plan_layers(films.target, ["hs2"]))
    areas = measure_areas(
        films.target, plans, images, range(len(images)), masks, batch_size=16, workers=2, progress=no_progress
    )["hs2"]
    scores = iou(areas)
    concepts = list(masks.concepts)
    texts, bare = films.texts(concepts)
    seen = (scores.amax(dim=1) > 0.04).nonzero().flatten().tolist()
    truth = scores.argmax(dim=1).tolist()
    print(f"\n## Against masks: hs2, {len(images)} films of ChestX-Det, {len(concepts)} concepts\n")
    print(f"{len(seen)} of {len(truth)} units have an IoU above 0.04 with some concept.\n")
    print("| method | of these named | first name is the masks' | by chance |\n|---|---|---|---|")
    for one in without_masks():
        found = films.annotate(films.layers["trained"]["hs2"], texts, bare, one)
        first = [first_names(found, unit, 1)[0] for unit in seen]
        named = np.mean([len(found.concepts[unit]) > 0 for unit in seen])
        agree = np.mean([name == truth[unit] for name, unit in zip(first, seen, strict=True)])
        chance = np.mean([[name == truth[unit] for name in first] for unit in seen])
        print(f"| {one.title} | {named:.2f} | {agree:.2f} | {chance:.2f} |")


def chestx_det(data: Path, path: Path) -> Path:
    """Write the polygons of ChestX-Det as a table of places."""
    lines = ["image,concept,polygon,width,height"]
    for image, known in json.loads((data / "nih" / "annotations.json").read_text()).items():
        objects = known.get("chestx_det", {}).get("objects", ())
        for found in objects:
            corners = " ".join(f"{x} {y}" for x, y in found["polygon_1024"])
            lines.append(f"{image},{found['label']},{corners},1024,1024")
        if "chestx_det" in known and not objects:
            lines.append(f"{image},,,,")
    path.write_text("\n".join(lines))
    return path


def main() -> None:
    """Print every table."""
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2] / "shared" / "data"
    recorded_outputs(data)
    films = Films(data)
    print("\n## Names chosen on half of the patients, judged on the other half by the labels")
    with (data / "densenet121_nih_outputs" / "probabilities.csv").open() as file:
        table = list(csv.reader(file))[1:]
    place = {name: row for row, name in enumerate(films.images.ids)}
    rows = np.array([place[Path(row[0]).stem] if row[0] not in place else place[row[0]] for row in table])
    p = np.clip(np.array([row[1:] for row in table], dtype=np.float64), 1e-6, 1 - 1e-6)
    judge_held_out("DenseNet-121 outputs", np.log(p / (1 - p)), films, rows, None)
    control = np.concatenate(list(films.layers["untrained 1"].values()), axis=1)
    for layer in LAYERS:
        judge_held_out(f"MobileNet {layer}", films.layers["trained"][layer], films, np.arange(len(films.rows)), control)
    judge_held_out(
        "MobileNet hs3 with random weights",
        films.layers["untrained 2"]["hs3"],
        films,
        np.arange(len(films.rows)),
        control,
    )
    untrained_names(films, data)
    against_masks(films, data)


if __name__ == "__main__":
    main()
