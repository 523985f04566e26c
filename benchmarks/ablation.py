"""Which parts of `calibrated` help: each is left out or replaced by what else was tried, on planted and on real units.

Prints the share of units whose right concept is scored first: planted units of drawn films as they are and blurred, real
layers of the small network, and the recorded outputs of a real DenseNet-121 over random 60 % of its patients.

    python benchmarks/ablation.py [DATA] [--films N]
"""

import argparse
import csv
import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from recorded_densenet import TRUTH, recorded
from torch import Tensor

from mammi.benchmark import degraded, held_out_truth, phantom_material, plant
from mammi.functional.similarity import unit_rows
from mammi.functional.tilt import concept_directions, evidence, hub_corrected, standardised, tilt

Score = Callable[[Tensor, Tensor, Tensor], Tensor]


def ranks(values: Tensor) -> Tensor:
    """Replace activations by the normal quantiles of their ranks."""
    places = values.argsort(dim=0, stable=True).argsort(dim=0).double()
    return torch.special.ndtri((places + 0.5) / len(values))


def named(
    temperatures: tuple[float, ...] = (0.5, 1.0), fudge: float = 0.25, hub: float = 0.5, *, by_rank: bool = False
) -> Score:
    """Return the scoring of `calibrated` with other settings; temperature 0 is Pearson's correlation."""

    def score(activations: Tensor, films: Tensor, concepts: Tensor) -> Tensor:
        directions, _ = concept_directions(films, concepts, fudge)
        standard = ranks(activations) if by_rank else standardised(activations)
        best = None
        for heat in temperatures:
            found = evidence(tilt(standard, heat) if heat else standard, films, directions)
            best = found if best is None else torch.where((found.amax(1) > best.amax(1))[:, None], found, best)
        return hub_corrected(best, hub)

    return score


def top(k: int) -> Score:
    """Return the mean of standardised similarities over the ``k`` strongest films."""

    def score(activations: Tensor, films: Tensor, concepts: Tensor) -> Tensor:
        directions, _ = concept_directions(films, concepts, 0)
        chosen = torch.zeros_like(activations, dtype=torch.float64)
        chosen.scatter_(0, activations.argsort(dim=0, descending=True, stable=True)[:k], 1.0)
        return evidence(chosen, films, directions)

    return score


def contrast(k: int) -> Score:
    """Return the difference of means between the ``k`` strongest and the ``k`` weakest films."""

    def score(activations: Tensor, films: Tensor, concepts: Tensor) -> Tensor:
        return top(k)(activations, films, concepts) + -top(k)(-activations, films, concepts)

    return score


def centred_texts(inner: Score) -> Score:
    """Take the mean of all concepts off each concept first."""
    return lambda a, films, concepts: inner(a, films, unit_rows(concepts - concepts.mean(dim=0)))


def whitened(inner: Score, ridge: float) -> Score:
    """Decorrelate the dimensions of the embedding over the films first."""

    def score(activations: Tensor, films: Tensor, concepts: Tensor) -> Tensor:
        centred = films - films.mean(dim=0)
        values, vectors = torch.linalg.eigh(centred.T @ centred / len(films))
        root = (vectors / (values.clamp(min=0) + ridge * values.mean()).sqrt()) @ vectors.T
        return inner(activations, centred @ root, unit_rows(concepts @ root))

    return score


def decorrelated_units(inner: Score, ridge: float) -> Score:
    """Decorrelate the units of the layer first."""

    def score(activations: Tensor, films: Tensor, concepts: Tensor) -> Tensor:
        u, s, v = torch.linalg.svd(standardised(activations), full_matrices=False)
        return inner((u * (s / (s.square() / len(u) + ridge).sqrt())) @ v, films, concepts)

    return score


def local_scaling(inner: Score, k: int = 10) -> Score:
    """Correct hubs as published (CSLS): twice the score less the means of the nearest units and concepts."""

    def score(activations: Tensor, films: Tensor, concepts: Tensor) -> Tensor:
        found = inner(activations, films, concepts)
        units = found.topk(min(k, found.shape[1]), dim=1).values.mean(dim=1, keepdim=True)
        return 2 * found - units - found.topk(min(k, len(found)), dim=0).values.mean(dim=0)

    return score


VARIANTS: dict[str, Score] = {
    "calibrated": named(),
    "Pearson's correlation (temperature 0)": named((0.0,)),
    "one temperature, 0.5": named((0.5,)),
    "one temperature, 1": named((1.0,)),
    "one temperature, 2": named((2.0,)),
    "temperatures 0.5, 1, 2": named((0.5, 1.0, 2.0)),
    "activations by rank, temperature 1": named((1.0,), by_rank=True),
    "20 strongest films": top(20),
    "20 strongest against 20 weakest": contrast(20),
    "concepts by plain z-score (no fudge)": named(fudge=0),
    "fudge 1": named(fudge=1),
    "no hub correction": named(hub=0),
    "hub correction in full": named(hub=1),
    "local scaling (CSLS) in its place": local_scaling(named(hub=0)),
    "texts centred": centred_texts(named()),
    "embedding whitened, ridge 1": whitened(named(), 1.0),
    "units decorrelated, no hub correction": decorrelated_units(named(hub=0), 1.0),
}


def planted_hits(films: int, seeds: tuple[int, ...]) -> dict[str, dict[str, float]]:
    """Return, per variant, the share of right first concepts in groups of units."""
    hits: dict[str, dict[str, list[float]]] = {name: {} for name in VARIANTS}
    truth = held_out_truth(films // 2)
    for seed in seeds:
        clear = phantom_material(films, seed, truth)
        for blur in (0.0, 3.0):
            material = degraded(clear, blur, seed) if blur else clear
            rows, concepts = (torch.from_numpy(table) for table in (material.films, material.concepts))
            for units in (plant(material.labels, material.patients, seed), *material.layers.values()):
                live = [unit for unit in units if np.ptp(unit.activation) > 0]
                activations = torch.from_numpy(np.stack([unit.activation for unit in live], axis=1))
                for name, score in VARIANTS.items():
                    found = score(activations, rows, unit_rows(concepts))
                    for unit, row in zip(live, found, strict=True):
                        if unit.truths and not unit.absent:
                            group = (
                                "real layers"
                                if unit.kind in material.layers
                                else unit.kind
                                if unit.kind in ("rare", "side")
                                else "weak"
                                if unit.kind.startswith("weak")
                                else "other"
                            )
                            key = f"{group}{', blurred' if blur else ''}"
                            hits[name].setdefault(key, []).append(float(int(row.argmax()) in unit.truths))
    return {name: {key: float(np.mean(values)) for key, values in groups.items()} for name, groups in hits.items()}


def recorded_hits(data: Path, draws: int = 30) -> dict[str, list[float]]:
    """Return, per variant, hit@1, hit@5, hit@10 and median rank on the DenseNet, over draws of 60 % of the patients."""
    logits, films, texts, _, words = recorded(data)
    with (data / "densenet121_nih_outputs" / "probabilities.csv").open() as file:
        ids = [row["Image Index"] for row in csv.DictReader(file)]
    patients = np.array([name.split("_")[0] for name in ids])
    known = np.unique(patients)
    truth = torch.tensor([words.index(name) for name in TRUTH])
    found: dict[str, list[list[float]]] = {name: [] for name in VARIANTS}
    for draw in range(draws):
        drawn = np.random.default_rng(draw).permutation(known)[: int(0.6 * len(known))]
        rows = np.flatnonzero(np.isin(patients, drawn))
        a, e = torch.from_numpy(logits[rows]), unit_rows(torch.from_numpy(films[rows]))
        for name, score in VARIANTS.items():
            values = score(a, e, unit_rows(torch.from_numpy(texts)))
            ahead = (values > values[torch.arange(len(truth)), truth][:, None]).sum(dim=1).double()
            found[name].append([*(float((ahead < k).double().mean()) for k in (1, 5, 10)), float(ahead.median())])
    return {name: np.mean(rows, axis=0).tolist() for name, rows in found.items()}


def main() -> None:
    """Print one row a variant."""
    parser = argparse.ArgumentParser()
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("data", nargs="?", type=Path, default=default)
    parser.add_argument("--films", type=int, default=1800)
    options = parser.parse_args()
    planted = planted_hits(options.films, (11, 12))
    real = recorded_hits(options.data)
    groups = list(planted["calibrated"])
    print("| variant | " + " | ".join(groups) + " | DenseNet hit@1 | hit@5 | hit@10 | median ahead |")
    print("|---|" + "---|" * (len(groups) + 4))
    for name in VARIANTS:
        cells = [f"{planted[name][group]:.2f}" for group in groups]
        cells += [f"{value:.2f}" for value in real[name][:3]] + [f"{real[name][3]:.1f}"]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
