"""How long a page takes: a synthetic run of 1,000 units and 100,000 films, milliseconds per kind of page.

    python benchmarks/pages.py [UNITS FILMS]

The first page of a kind also reads what is kept for all later ones (tables, labels, the map of a layer): it is stated
apart. Pages are data, HTML and JSON together; CPU is that of all threads, and
does not count neighbours on the machine; pictures are not drawn. Writes a run of about 400 MB to a temporary folder.
"""

import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd

from mammi.pages import (
    RunView,
    Site,
    audit_page,
    class_page,
    classes_page,
    method_page,
    overview_page,
    render,
    twin,
    unit_page,
    units_page,
)
from mammi.reports.folder import FolderLinks
from mammi.results import search_words
from mammi.store import open_run
from mammi.store.files import write_array, write_json
from mammi.store.tables import write_index, write_parquet

PAGES = 20
LABELS = 14
N_CONCEPTS = 1361
N_EXAMPLES, N_RANKED = 10, 10


def write_run(folder: Path, n_units: int, n_films: int) -> None:
    """Write a run whose numbers are noise: a layer, and the outputs behind it."""
    rng = np.random.default_rng(0)
    patients = rng.integers(0, n_films // 3, n_films)
    labels = (rng.random((n_films, LABELS)) < rng.uniform(0.002, 0.2, LABELS)).astype(np.float32)
    labels[rng.random((n_films, LABELS)) < 0.1] = np.nan
    images = pd.DataFrame(
        {
            "film": np.arange(n_films),
            "id": [f"film-{n:012x}" for n in range(n_films)],
            "patient": [f"patient-{n:012x}" for n in patients],
            "warnings": "",
            "same_pixels_as": pd.array([None] * n_films, dtype="Int64"),
            "row": np.arange(n_films),
        }
    )
    names = [f"finding {n}" for n in range(LABELS)]
    layers = {"features": n_units, "head": LABELS}
    tables: dict[str, list[pd.DataFrame]] = {"units": [], "examples": [], "annotations": []}
    for layer, width in layers.items():
        activations = np.maximum(rng.standard_normal((width, n_films), dtype=np.float32), 0)
        write_array(folder / "activations" / layer / "by_unit.npy", activations)
        best = np.argpartition(-activations, N_EXAMPLES, axis=1)[:, :N_EXAMPLES]
        named = rng.random(width) < 0.7
        concepts = rng.zipf(1.3, (width, N_RANKED)) % N_CONCEPTS
        terms = np.char.add("concept ", concepts.astype(str)).astype(object)
        score = -np.sort(-rng.random((width, N_RANKED)), axis=1)
        unit = np.repeat(np.arange(width), N_RANKED)
        kept = (np.tile(np.arange(N_RANKED), width) < 2) & named[unit]
        sure = np.where(kept, rng.random(len(unit)), np.nan)
        tables["units"].append(
            pd.DataFrame(
                {
                    "layer": layer,
                    "unit": np.arange(width),
                    "output": names if layer == "head" else "",
                    "name": np.where(named, terms[:, 0], "no concept"),
                    "score": np.where(named, score[:, 0], np.nan),
                    "n_concepts": 2 * named,
                    "n_examples": N_EXAMPLES,
                    "low": activations.min(axis=1),
                    "high": activations.max(axis=1),
                    "reason": np.where(named, "", "no concept is above chance (q = 0.40)"),
                }
            )
        )
        tables["examples"].append(
            pd.DataFrame(
                {
                    "layer": layer,
                    "unit": np.repeat(np.arange(width), N_EXAMPLES),
                    "rank": np.tile(np.arange(1, N_EXAMPLES + 1), width),
                    "film": best.ravel(),
                    "activation": np.take_along_axis(activations, best, axis=1).ravel(),
                }
            )
        )
        tables["annotations"].append(
            pd.DataFrame(
                {
                    "layer": layer,
                    "unit": unit,
                    "rank": np.tile(np.arange(1, N_RANKED + 1), width),
                    "concept": terms.ravel(),
                    "score": score.ravel(),
                    "kept": kept,
                    **{name: sure for name in ("effect", "q_value", "stability", "purity")},
                    "sense": 0,
                }
            )
        )
    joined = {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}
    for name, table in {**joined, "images": images, "labels": pd.DataFrame(labels, columns=names)}.items():
        write_parquet(folder / f"{name}.parquet", table)
    write_index(folder / "index.sqlite", {"images": images, **joined}, search_words(joined["annotations"]))
    concept_table = pd.DataFrame(
        {"term": [f"concept {n}" for n in range(N_CONCEPTS)], "synonyms": "", "category": "finding"}
    )
    concept_table.loc[: LABELS - 1, "synonyms"] = names
    (folder / "concepts.csv").write_text(concept_table.to_csv(index=False), encoding="utf-8")
    shapes = [{"name": name, "layout": "map", "pooling": "mean", "n_units": width} for name, width in layers.items()]
    write_json(
        folder / "manifest.json",
        {
            "schema": 1,
            "status": "complete",
            "mammi": "synthetic",
            "torch": "none",
            "identity": {
                "target": "0" * 64,
                "images": {"n": n_films, "frame": None, "fingerprint": "0" * 64},
                "layers": shapes,
                "concepts": {"n": N_CONCEPTS, "fingerprint": "0" * 64},
                "vlm": "0" * 64,
                "template": "{}",
                "method": {"name": "correlation", "options": {}},
                "capture": {"batch_size": 16},
            },
            "layers": shapes,
            "target": {"name": "synthetic", "preprocessing": {}, "notes": []},
            "vlm": {"name": "none", "title": "", "licence": "", "training_corpora": [], "notes": []},
            "images": {"labels": names, "patients_known": True},
            "counts": {
                "films": n_films,
                "unreadable": 0,
                "with_warnings": 0,
                "same_pixels": 0,
                "patients": len(np.unique(patients)),
                "encoded": 0,
                "units": len(joined["units"]),
                "named": int((joined["units"]["n_concepts"] > 0).sum()),
            },
        },
    )


def main() -> None:
    n_units, n_films = (int(value) for value in sys.argv[1:3]) if len(sys.argv) > 2 else (1000, 100_000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = time.perf_counter()
        write_run(folder, n_units, n_films)
        print(f"{n_units:,} units, {n_films:,} films, written in {time.perf_counter() - began:.0f} s")
        view = RunView(open_run(folder))
        site = Site(view.name, FolderLinks(tuple(view.run.layers), "../"), with_images=True)
        some = np.random.default_rng(1).permutation(n_units)
        kinds = {
            "overview": lambda n: overview_page(view),
            "units of a layer": lambda n: units_page(view, "features", 1 + n % 5),
            "units, searched": lambda n: units_page(view, "features", query="concept 1", sort="effect"),
            "one unit": lambda n: unit_page(view, "features", int(some[n])),
            "classes": lambda n: classes_page(view),
            "one class": lambda n: class_page(view, n % LABELS),
            "audit": lambda n: audit_page(view),
            "method": lambda n: method_page(view),
        }
        print(f"{'page':<18}{'first, ms':>10}{'median, ms':>12}{'slowest, ms':>13}{'CPU, ms':>9}{'KB':>6}")
        for kind, make in kinds.items():
            took, busy, size = [], [], 0
            for n in range(PAGES + 1):
                began, worked = time.perf_counter(), time.process_time()
                page = make(n)
                size = len(render(page, site))
                twin(page)
                took.append(1000 * (time.perf_counter() - began))
                busy.append(1000 * (time.process_time() - worked))
            print(
                f"{kind:<18}{took[0]:>10.0f}{median(took[1:]):>12.1f}{max(took[1:]):>13.1f}{median(busy[1:]):>9.1f}{size // 1000:>6}"
            )


if __name__ == "__main__":
    main()
