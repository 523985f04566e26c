"""The embedded network annotated in every precision: what is quicker, what differs, and which names change.

Prints a table for benchmarks/README.md, and every name that changed, with how close the names were.

    python benchmarks/precision.py [FOLDER] [--films N] [--seed N]
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

import mammi
from mammi.capture import Recorder, plan_layers
from mammi.engine.trial import spread_error
from mammi.functional.precision import PRECISIONS
from mammi.phantoms import write_cohort
from mammi.pipeline import TEMPLATE
from mammi.store.embeddings import read_embeddings

LAYERS = ("head", "layer3", "layer2")
METHODS = ("mammi", "calibrated")
#: Films per forward pass, and rounds of it.
BATCH, ROUNDS = 16, 15
#: How many times a hundredth of the films is left out, to see how many names hang on which films there are.
LEFT_OUT = 4


def quicker(films: mammi.ProbingSet) -> dict[str, tuple[float, float]]:
    """Return how many times quicker than float32 the target and the annotator are: medians of calls in turns."""
    target, vlm = mammi.create_target("phantom"), mammi.create_vlm("phantom")
    shown = [films.film(row) for row in range(BATCH)]
    views = torch.stack([target.view(film) for film in shown])
    pictures = torch.stack([vlm.view(film) for film in shown])
    plans = plan_layers(target, LAYERS)
    models = {precision: (target.at(precision), vlm.at(precision)) for precision in PRECISIONS}
    took: dict[str, list[list[float]]] = {precision: [[], []] for precision in PRECISIONS}
    for turn in range(ROUNDS + 1):
        for precision, (network, annotator) in models.items():
            began = time.perf_counter()
            with Recorder(network.model, plans, precision) as recorder:
                recorder.record(views)
            between = time.perf_counter()
            annotator.embed_images(pictures)
            if turn:  # libraries prepare themselves in a first call
                took[precision][0].append(between - began)
                took[precision][1].append(time.perf_counter() - between)
    plain = [median(spent) for spent in took["float32"]]
    return {precision: (plain[0] / median(spent[0]), plain[1] / median(spent[1])) for precision, spent in took.items()}


def annotate(folder: Path, films: mammi.ProbingSet, concepts: mammi.ConceptSet) -> dict[tuple[str, str], mammi.Run]:
    """Annotate by every method in every precision, or take what an earlier call left."""
    return {
        (method, precision): mammi.annotate(
            mammi.create_target("phantom"),
            films,
            concepts,
            mammi.create_vlm("phantom"),
            layers=LAYERS,
            out=folder / f"{method}-{precision}",
            method=method,
            precision=precision,
        )
        for method in METHODS
        for precision in PRECISIONS
    }


def changed_names(plain: mammi.Run, other: mammi.Run) -> pd.DataFrame:
    """Return the units whose name differs: the two names, and what float32 says of them both.

    ``margin`` is what the first name of float32 scores above the other's, as a share of the spread of the unit's scores;
    a name that came or went has the reason, or how sure float32 was of it.
    """
    pairs = plain.units.merge(other.units, on=["layer", "unit"], suffixes=("", "_other"))
    pairs = pairs[pairs["name"] != pairs["name_other"]]
    rows = []
    for pair in pairs.itertuples():
        known = plain.annotations.query("layer == @pair.layer and unit == @pair.unit").set_index("concept")
        scores = known["score"]
        both = pair.name in scores and pair.name_other in scores
        margin = (scores[pair.name] - scores[pair.name_other]) / scores.std() if both else np.nan
        sure = known.loc[pair.name, ["q_value", "stability"]].tolist() if pair.name in known.index else [np.nan, np.nan]
        rows.append((pair.layer, pair.unit, pair.name, pair.name_other, margin, *sure))
    return pd.DataFrame(rows, columns=["layer", "unit", "float32", "other", "margin", "q", "stability"])


def left_out(run: mammi.Run) -> dict[str, float]:
    """Return, by method, how many first names stay when a hundredth of the films is left out: a yardstick, a mean."""
    sources = json.loads((run.folder / "private" / "films.json").read_text())
    terms = pd.read_csv(run.folder / "concepts.csv")["term"].tolist()
    texts = [TEMPLATE.replace("{}", term) for term in terms] + [TEMPLATE.replace(" {}", "")]
    films = read_embeddings(run.folder / "embeddings", "films", [source["sha256"] for source in sources])
    encoded = read_embeddings(run.folder / "embeddings", "texts", texts)
    activations = np.concatenate([run.activations(layer) for layer in run.layers]).T
    patients = np.array([source["patient"] for source in sources])

    def names(rows: NDArray[np.int64], method: str) -> NDArray[np.int64]:
        found = mammi.annotate_arrays(
            *(activations[rows], films[rows], encoded[:-1], encoded[-1]), patients=patients[rows], method=method
        )
        return np.array([kept[0] if len(kept) else -1 for kept in found.concepts])

    every, rng = np.arange(len(films)), np.random.default_rng(0)
    kept = [np.sort(rng.permutation(every)[len(films) // 100 :]) for _ in range(LEFT_OUT)]
    whole = {method: names(every, method) for method in METHODS}
    return {
        method: float(np.mean([np.count_nonzero(names(rows, method) == whole[method]) for rows in kept]))
        for method in METHODS
    }


def main() -> None:
    """Draw the films, run everything, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="kept between calls; a temporary one by default")
    parser.add_argument("--films", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        if not (folder / "data" / "labels.csv").is_file():
            write_cohort(folder / "data", given.films, given.seed)
        films = mammi.ProbingSet.open(folder / "data" / "images", folder / "data" / "labels.csv")
        concepts = mammi.build_concepts(mammi.read_reports(folder / "data" / "reports.jsonl"))
        runs = annotate(folder, films, concepts)
        ratios = quicker(films)
        n_units = len(runs[METHODS[0], "float32"].units)
        print(f"{len(films)} drawn films, {len(concepts)} concepts, {n_units} units of {', '.join(LAYERS)}\n")
        titles = [
            *("precision", "target, times as quick", "annotator, times as quick", "activations differ by"),
            *("stated from the first films", "embeddings, stated", *(f"names equal, {method}" for method in METHODS)),
        ]
        print("| " + " | ".join(titles) + " |\n" + "|---" * len(titles) + "|")
        changes = []
        for precision in PRECISIONS:
            cells = [f"{ratio:.1f}" for ratio in ratios[precision]]
            pair = [runs["calibrated", each] for each in ("float32", precision)]
            errors = [
                spread_error(*(torch.from_numpy(np.array(run.activations(layer))).T for run in pair[::-1]))
                for layer in LAYERS
            ]
            kept = pair[1].manifest["precision"]
            stated = [
                max(kept[model]["errors"].get(precision, {"": 0.0}).values()) for model in ("target", "annotator")
            ]
            cells += [f"{100 * error:.2f} %" for error in (max(errors), *stated)]
            for method in METHODS:
                changed = changed_names(runs[method, "float32"], runs[method, precision])
                cells.append(f"{n_units - len(changed)} of {n_units}")
                changes.append(changed.assign(method=method, precision=precision))
            print(f"| {precision} | {' | '.join(cells)} |")
        stayed = [f"{equal:.1f} of {n_units}" for equal in left_out(runs["calibrated", "float32"]).values()]
        print(f"| float32, 1 film in 100 left out | {' | '.join([''] * 5)} | {' | '.join(stayed)} |")
        print("\nnames that changed:")
        print(pd.concat(changes).to_string(index=False, float_format="{:.3g}".format))


if __name__ == "__main__":
    main()
