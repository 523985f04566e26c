"""A small run folder written by hand: hostile names, a dead unit, a unit of two patients, two senses; films that exist."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from mammi.results import search_words
from mammi.store import Run, open_run
from mammi.store.embeddings import embedding_chunks
from mammi.store.files import write_array, write_json
from mammi.store.images import salted_ids
from mammi.store.tables import write_index, write_parquet

N_FILMS = 40
SCRIPT = "<script>alert(1)</script>"
IMAGE = '"><img src=x onerror=alert(2)>'
LAYER, HEAD = "block.1<b>", "head"
OUTPUTS = ["effusion", "mass", "<i>hernia</i>"]
#: Units of the first layer: name, its kept concepts, why there is none.
SCRIPTED, IMAGED, TWO_SENSES, NAMELESS, DEAD, TWO_PATIENTS = range(6)
NAMES = [[SCRIPT, "effusion"], [IMAGE], ["effusion", "tube"], [], [], ["mass; nodule"]]
REASONS = {NAMELESS: "no concept is above chance (q = 0.40)", DEAD: "it never varies over these films"}
TERMS = [SCRIPT, IMAGE, "effusion", "tube", "mass; nodule", "mass", "lung"]
#: What must never be written anywhere.
SECRET = "Doe_Jane"


def activations(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    units = rng.gamma(1.0, size=(6, N_FILMS)).astype(np.float32)
    units[DEAD] = 1.5
    units[TWO_PATIENTS, :4] += 50  # the films of patients 0 and 1
    return {LAYER: units, HEAD: rng.standard_normal((3, N_FILMS)).astype(np.float32)}


def write_small_run(
    folder: Path, *, labels: bool = True, patients: bool = True, control: bool = True, method: str = "calibrated"
) -> Run:
    """Write it; without labels, patients or a control, or by a method that states no effect."""
    rng = np.random.default_rng(1)
    values = activations()
    sources = []
    for film in range(N_FILMS):
        path = folder.parent / "films" / f"{SECRET}_{film}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (12, 16), dtype=np.uint8)).save(path)
        sources.append(
            {"id": path.name, "patient": f"{SECRET} {film // 2}", "path": str(path), "sha256": f"{film:064x}"}
        )
    write_json(folder / "private" / "films.json", sources)
    write_json(folder / "private" / "salt.json", "0" * 32)
    who = [source["patient"] if patients else source["id"] for source in sources]
    images = pd.DataFrame(
        {
            "film": np.arange(N_FILMS),
            "id": salted_ids([source["id"] for source in sources], "0" * 32, "film"),
            "patient": salted_ids(who, "0" * 32, "patient"),
            "warnings": "",
            "same_pixels_as": pd.array([None] * N_FILMS, dtype="Int64"),
            "row": np.arange(N_FILMS),
        }
    )
    units, examples, annotations = [], [], []
    for layer, array in values.items():
        write_array(folder / "activations" / layer / "by_unit.npy", array)
        if control:
            write_array(folder / "control" / "activations" / layer / "by_unit.npy", array[:, :10])
        for unit, row in enumerate(array):
            kept = NAMES[unit] if layer == LAYER else [TERMS[2 + unit]]
            best = np.argsort(-row, kind="stable")[: 4 if layer == LAYER and unit == TWO_PATIENTS else 5]
            alive = not (layer == LAYER and unit == DEAD)
            ranked = [*kept, *(term for term in TERMS if term not in kept)] if alive else []
            units.append(
                (
                    *(layer, unit, OUTPUTS[unit] if layer == HEAD else "", kept[0] if kept else "no concept"),
                    *(0.9 if kept else np.nan, len(kept), len(best) if alive else 0, row.min(), row.max()),
                    REASONS.get(unit, "") if layer == LAYER else "",
                )
            )
            if alive:
                examples += [(layer, unit, rank, film, row[film]) for rank, film in enumerate(best, start=1)]
            for rank, term in enumerate(ranked, start=1):
                known = term in kept and method == "calibrated"
                sense = kept.index(term) + 1 if known and layer == LAYER and unit == TWO_SENSES else 0
                sure = (1.0 - unit / 10, 0.0004, 0.9, 0.8 if sense else 1.0) if known else (np.nan,) * 4
                annotations.append((layer, unit, rank, term, 0.9 - rank / 10, term in kept, *sure, sense))
    columns = {
        "units": "layer unit output name score n_concepts n_examples low high reason",
        "examples": "layer unit rank film activation",
        "annotations": "layer unit rank concept score kept effect q_value stability purity sense",
    }
    tables = {
        name: pd.DataFrame(rows, columns=columns[name].split())
        for name, rows in (("units", units), ("examples", examples), ("annotations", annotations))
    }
    for name, table in {**tables, "images": images}.items():
        write_parquet(folder / f"{name}.parquet", table)
    names = ["Effusion", "mass", "rare"] if labels else []
    if labels:
        known = pd.DataFrame({"Effusion": values[HEAD][0] > 0.3, "mass": rng.random(N_FILMS) < 0.4, "rare": False})
        known = known.astype(np.float32)
        known.loc[3:5, "mass"] = np.nan
        write_parquet(folder / "labels.parquet", known)
    write_index(folder / "index.sqlite", {"images": images, **tables}, search_words(tables["annotations"]))
    concepts = pd.DataFrame({"term": TERMS, "synonyms": "", "category": "finding"})
    (folder / "concepts.csv").write_text(concepts.to_csv(index=False), encoding="utf-8-sig")
    hashes = [source["sha256"] for source in sources]
    for chunk, path in embedding_chunks(folder / "embeddings", "films", hashes):
        write_array(path, embeddings(N_FILMS, 2)[list(chunk)])
    for chunk, path in embedding_chunks(folder / "embeddings", "texts", TERMS):
        write_array(path, embeddings(len(TERMS), 3)[list(chunk)])
    shapes = [
        {"name": name, "layout": "map", "pooling": "mean", "n_units": len(array)} for name, array in values.items()
    ]
    options = {"min_effect": 0.2, "control": control, "false_discovery_rate": 0.05, "hub_strength": 0.5, "seed": 0}
    write_json(
        folder / "manifest.json",
        {
            "schema": 1,
            "status": "complete",
            "mammi": "0",
            "torch": "0",
            "notice": "A research and audit tool, not a diagnostic device.",
            "identity": {
                "target": "a" * 64,
                "vlm": "b" * 64,
                "template": "{}",
                "layers": shapes,
                "images": {"n": N_FILMS, "frame": None, "fingerprint": "c" * 64},
                "concepts": {"n": len(TERMS), "fingerprint": "d" * 64},
                "method": {
                    "name": method,
                    "options": options if method == "calibrated" else {"concept_threshold": 0.95},
                },
                "capture": {"batch_size": 16},
            },
            "layers": shapes,
            "target": {"name": SCRIPT, "preprocessing": {}, "notes": [IMAGE]},
            "vlm": {"name": "v", "title": SCRIPT, "licence": IMAGE, "training_corpora": [], "notes": ["knows little"]},
            "images": {"labels": names, "patients_known": patients},
            "counts": {
                "films": N_FILMS,
                "unreadable": 1,
                "with_warnings": 0,
                "same_pixels": 2,
                "patients": N_FILMS // 2 if patients else None,
                "encoded": N_FILMS,
                "units": len(tables["units"]),
                "named": int((tables["units"]["n_concepts"] > 0).sum()),
            },
        },
    )
    return open_run(folder)


def embeddings(n: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((n, 5))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
