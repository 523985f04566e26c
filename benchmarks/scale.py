"""What a job of the largest size costs, and how that grows: seconds, memory and disk.

    python benchmarks/scale.py [FILMS UNITS CONCEPTS]

Everything between the two models, by the functions that a run goes through: recorded blocks turned over into one array
by unit, examples chosen, films and concepts matched, tables and index written. What the models would have given is
drawn at random: normal activations, in blocks as recording writes them, and embeddings of 512 numbers, in chunks as
encoding writes them; making them is not counted. A few units are held against the formula, worked out by itself.

The size asked for (112,120 films, 10,000 units, 50,000 concepts by default) is followed by a half and a quarter of it in
each of the three. Every size runs in a process of its own, whose peak memory is the operating system's figure for it.
CPU seconds are those of all threads, which neighbours on the machine lengthen less than the time that passes. Needs
twice the activations as room in the temporary folder: 9 GB.
"""

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from record import save

from mammi.capture import LayerPlan
from mammi.concepts import ConceptSet
from mammi.engine import create_engine
from mammi.job import Job
from mammi.methods import create_method
from mammi.naming import match_layers, select_layer
from mammi.pipeline import BLOCK, TEMPLATE
from mammi.results import layer_tables, search_words
from mammi.store.embeddings import embedding_chunks, read_embeddings
from mammi.store.files import write_array
from mammi.store.shards import ActivationStore
from mammi.store.tables import write_index, write_parquet
from mammi.types import no_progress

SIZE = (112_120, 10_000, 50_000)
D_EMBED = 512
PHASES = ("turn over", "select", "match", "tables")
CHECKED = 5


class NoPictures:
    """An annotator that is never asked: what it would say is stored already."""

    def view(self, _: object) -> torch.Tensor:
        """Return no picture, so that no view is kept."""
        return torch.zeros(1)


def write_blocks(store: ActivationStore, plan: LayerPlan) -> None:
    """Write the activations of all films, block by block."""
    for block in range(store.n_blocks):
        rng = np.random.default_rng([1, block])
        shape = (len(store.rows(block)), plan.n_units)
        store.write(block, {plan.name: rng.standard_normal(shape, dtype=np.float32)}, {})


def write_embeddings(folder: Path, kind: str, keys: list[str]) -> None:
    """Write the embeddings of films or texts, chunk by chunk."""
    for number, (chunk, path) in enumerate(embedding_chunks(folder, kind, keys)):
        rng = np.random.default_rng([2 + (kind == "texts"), number])
        rows = rng.standard_normal((len(chunk), D_EMBED), dtype=np.float32)
        write_array(path, rows / np.linalg.norm(rows, axis=1, keepdims=True))


def peak_memory() -> int:
    """Return the most memory that this process has held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def one_job(folder: Path, n_films: int, n_units: int, n_concepts: int) -> dict[str, float]:
    """Run one job of a size; return what it cost."""
    plan = LayerPlan("layer", "vector", "none", n_units)
    images = SimpleNamespace(patients=np.arange(n_films), label_names=())
    terms = [f"concept {number}" for number in range(n_concepts)]
    job = Job(
        target=None,  # type: ignore[arg-type] - films are recorded already
        images=images,  # type: ignore[arg-type]
        hashes=[f"{row:064x}" for row in range(n_films)],
        concepts=ConceptSet.from_terms(terms),
        vlm=NoPictures(),  # type: ignore[arg-type]
        recipe=create_method("mammi"),
        templates=[TEMPLATE],
        plans=[plan],
        store=ActivationStore(folder, n_films, BLOCK),
        batch_size=1,
        engine=create_engine(),
        progress=no_progress,
    )
    cost: dict[str, float] = {"loaded": peak_memory()}

    @contextmanager
    def measured(phase: str) -> Iterator[None]:
        began, busy = time.perf_counter(), time.process_time()
        yield
        cost[phase], cost[f"{phase}, CPU"] = time.perf_counter() - began, time.process_time() - busy

    write_blocks(job.store, plan)
    with measured("turn over"):
        job.store.finish(plan.name, n_units, np.arange(n_films))
    with measured("select"):
        selection, bounds = select_layer(job, plan)
        chosen = np.unique(selection.images.numpy())
    write_embeddings(folder / "embeddings", "films", [job.hashes[row] for row in chosen])
    bare = " ".join(TEMPLATE.replace("{}", " ").split())
    write_embeddings(folder / "embeddings", "texts", [*(TEMPLATE.replace("{}", term) for term in terms), bare])
    with measured("match"):
        match = match_layers(job, {plan.name: selection}, chosen, chosen, None)[plan.name]
    with measured("tables"):
        tables = layer_tables(plan.name, bounds.numpy(), selection, match, terms)
        named = {"units": tables.units, "examples": tables.examples, "annotations": tables.annotations}
        for name, table in named.items():
            write_parquet(folder / f"{name}.parquet", table)
        write_index(folder / "index.sqlite", named, search_words(tables.annotations))
    cost["memory"] = peak_memory()
    cost["disk"] = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    cost["examples"], cost["encoded"] = len(selection.images), len(chosen)
    check(folder, job, chosen, tables.annotations)
    return cost


def check(folder: Path, job: Job, chosen: np.ndarray, annotations: pd.DataFrame) -> None:
    """Work a few units out by themselves, from the formula, and compare what the tables say of them."""
    layer = job.plans[0]
    said = [*(TEMPLATE.replace("{}", term) for term in job.concepts.terms), "A chest x-ray image of a"]
    films, texts = (
        read_embeddings(folder / "embeddings", kind, keys).astype(float)
        for kind, keys in (("films", [job.hashes[row] for row in chosen]), ("texts", said))
    )
    films, texts = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (films, texts))
    for unit in np.linspace(0, layer.n_units - 1, CHECKED).astype(int):
        activation = job.store.read(layer.name)[unit].astype(float)
        strong = activation > activation.min() + 0.93 * (activation.max() - activation.min())
        scores = films[chosen.searchsorted(np.flatnonzero(strong))].mean(axis=0) @ (texts[:-1] - texts[-1]).T
        rows = annotations[annotations["unit"] == unit]
        best = np.argsort(-scores, kind="stable")[: len(rows)]
        if list(rows["concept"]) != [f"concept {m}" for m in best] or not np.allclose(rows["score"], scores[best]):
            raise SystemExit(f"unit {unit} is not what the formula says")
        if rows["kept"].sum() != (scores > 0.95 * scores.max()).sum():
            raise SystemExit(f"unit {unit} keeps other concepts than the formula says")


def sizes(full: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return the full size, then a half and a quarter in each of the three."""
    parts = [
        tuple(n // (share if at == axis else 1) for at, n in enumerate(full)) for axis in range(3) for share in (2, 4)
    ]
    return [full, *parts]


def in_a_process(size: tuple[int, ...]) -> dict[str, float]:
    """Run one job in a fresh process and a fresh folder."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, *map(str, size), folder]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 - this very file
    cost: dict[str, float] = json.loads(done.stdout)
    return cost


def power(sizes: list[int], costs: list[float]) -> str:
    """Return the exponent with which a cost grows: the slope of its logarithm."""
    return f"{np.polyfit(np.log(sizes), np.log(costs), 1)[0]:5.2f}"


def main() -> None:
    """Print the table."""
    full = tuple(map(int, sys.argv[1:4])) or SIZE
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; "
        f"torch {torch.__version__} on {torch.get_num_threads()} threads, numpy {np.__version__}; d_embed {D_EMBED}"
    )
    print("seconds of CPU by phase; seconds that passed; peak memory; disk")
    print(f"{'films':>8}{'units':>7}{'concepts':>9}", *(f"{phase:>10}" for phase in (*PHASES, "all", "passed")), end="")
    print(f"{'MiB':>8}{'GB':>7}{'examples':>10}{'encoded':>9}")
    costs = {}
    for size in sizes(full):
        cost = costs[size] = in_a_process(size)
        busy = [cost[f"{phase}, CPU"] for phase in PHASES]
        passed = sum(cost[phase] for phase in PHASES)
        films, units, concepts = size
        print(
            f"{films:8}{units:7}{concepts:9}", *(f"{seconds:10.1f}" for seconds in (*busy, sum(busy), passed)), end=""
        )
        print(
            f"{cost['memory'] / 2**20:8.0f}{cost['disk'] / 1e9:7.2f}{cost['examples']:10}{cost['encoded']:9}",
            flush=True,
        )
    print(f"A process that has loaded the libraries and nothing else: {costs[full]['loaded'] / 2**20:.0f} MiB")
    print("\nCPU seconds grow with the power of (1: in proportion; 0: not at all)")
    print(f"{'':15}", *(f"{phase:>10}" for phase in (*PHASES, "all")))
    for axis, name in enumerate(("films", "units", "concepts")):
        same = [size for size in costs if all(size[at] == full[at] for at in range(3) if at != axis)]
        grown = [
            power([size[axis] for size in same], [costs[size][f"{phase}, CPU"] for size in same]) for phase in PHASES
        ]
        totals = [sum(costs[size][f"{phase}, CPU"] for phase in PHASES) for size in same]
        print(f"{name:15}", *(f"{value:>10}" for value in (*grown, power([size[axis] for size in same], totals))))
    of = "{:,} films x {:,} units x {:,} concepts".format(*full)
    busy = sum(costs[full][f"{phase}, CPU"] for phase in PHASES)
    figure = (f"select, match and tabulate {of}", f"{busy:.0f} CPU s, at most {costs[full]['memory'] / 2**20:,.0f} MiB")
    save("scale", [figure], {"jobs": [{"size": size, **cost} for size, cost in costs.items()]})


if __name__ == "__main__":
    if len(sys.argv) == 5:
        print(json.dumps(one_job(Path(sys.argv[4]), *map(int, sys.argv[1:4]))))
    else:
        main()
