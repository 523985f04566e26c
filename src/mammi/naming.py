"""From recorded activations to names: select, encode, match, layer by layer. No formula lives here."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mammi.capture import LayerPlan, plan_maps
from mammi.engine import (
    KeptViews,
    Precisions,
    ViewTable,
    choose_precisions,
    embed_films,
    embed_texts,
    measure_areas,
    n_cores,
    record_blocks,
)
from mammi.evidence import Basis, read_columns, texts_to_ask
from mammi.functional.dissection import Areas
from mammi.functional.selection import Selection
from mammi.job import Job
from mammi.methods import LayerMatch, select_units, wants_control
from mammi.store.files import read_json
from mammi.store.recorded import RecordedFilms
from mammi.untrained import record_untrained
from mammi.vlms import Annotator, comparable

__all__ = ["match_layers", "record_control", "record_films", "select_layer", "with_precisions"]

#: Seed of the weights of an untrained copy of the network.
CONTROL_SEED = 1


#: Films that a unit chooses, about (adaptive selection on Gaussian activations), to foresee how many are encoded.
EXAMPLES = 12
#: Share of the free disk that views of films may take until it is known which of them are needed.
VIEWS_SHARE = 0.25


def embeds_at_once(job: Job) -> bool:
    """Tell whether every film is embedded while it is recorded: methods that look at all films need no choice first."""
    return job.masks is None and job.recipe.needs != "examples"


@cache
def _view_table(vlm: Annotator) -> ViewTable | None:
    return ViewTable.of(vlm)


def kept_views(job: Job) -> KeptViews | None:
    """Return where the annotator's views of the films are kept; None where they are not, or would fill the disk."""
    if job.masks is not None or embeds_at_once(job):
        return None
    table = _view_table(job.vlm)
    recorded = RecordedFilms(job.store.folder)
    if table is None or table.n_bytes * job.store.n_films > VIEWS_SHARE * recorded.room():
        return None
    return KeptViews(recorded, job.store.block_size, table)


def with_precisions(job: Job, asked: str, say: Callable[[str], None] | None) -> Job:
    """Choose in which numbers the models compute, or take up the choice that a run began with; say it in one line.

    Args:
        job: the call, its models in float32.
        asked: ``"auto"`` or a precision.
        say: told the choice and why; None to tell nobody.
    """
    manifest = job.store.folder / "manifest.json"
    chosen = Precisions.from_dict(read_json(manifest).get("precision") if manifest.is_file() else None)
    known = {chosen.target.precision, chosen.annotator.precision}
    if not manifest.is_file() or (asked != "auto" and known != {asked}):
        n_films, n_units = len(job.images), sum(plan.n_units for plan in job.plans)
        n_embedded = n_films if embeds_at_once(job) else min(n_films, EXAMPLES * n_units)
        chosen = choose_precisions(
            asked,
            job.target,
            job.plans,
            job.vlm,
            job.images,
            n_embedded=n_embedded if job.masks is None else 0,
            batch_size=job.batch_size,
            exact=job.recipe.needs == "examples",
            progress=job.progress,
        )
    if say is not None:
        say(str(chosen))
    return replace(job, vlm=job.vlm.at(chosen.annotator.precision), precisions=chosen)


def record_films(job: Job) -> None:
    """Show every film to the network, and in the same pass to the annotator, or keep the annotator's view of it."""
    kept = kept_views(job)
    record_blocks(
        job.target.at(job.precisions.target.precision),
        job.plans,
        job.images,
        job.store,
        batch_size=job.batch_size,
        engine=job.engine,
        progress=job.progress,
        vlm=job.vlm if kept is not None or embeds_at_once(job) else None,
        table=None if kept is None else kept.table,
    )


def select_layer(job: Job, plan: LayerPlan) -> tuple[Selection, Tensor]:
    """Choose examples tile by tile, straight from the disk; return them and every unit's bounds, ``(2, n_units)``."""
    bounds = torch.empty(2, plan.n_units)
    selection = select_units(
        job.recipe,
        lambda units: read_columns(job.store, plan.name, torch.arange(units.start, units.stop)),
        plan.n_units,
        lambda done, total: job.progress(f"selecting for {plan.name}", done, total),
        bounds=bounds,
    )
    return selection, bounds


def record_control(job: Job, kept: NDArray[np.int64]) -> tuple[Tensor, Tensor] | None:
    """Record the untrained copy that the method compares with, if it does; return its units and its films' places."""
    if not wants_control(job.recipe):
        return None
    units, places = record_untrained(
        job.target,
        job.plans,
        job.images,
        kept,
        job.store,
        seed=CONTROL_SEED,
        precision=job.precisions.target.precision,
        batch_size=job.batch_size,
        engine=job.engine,
        progress=job.progress,
    )
    return units, torch.from_numpy(places)


def match_layers(
    job: Job,
    selections: dict[str, Selection],
    chosen: NDArray[np.int64],
    rows: NDArray[np.int64],
    control: tuple[Tensor, Tensor] | None,
) -> dict[str, LayerMatch]:
    """Encode the films and the texts once, then match every layer.

    Args:
        job: the call.
        selections: the examples, as columns of the stored activations.
        chosen: those columns that must be encoded, rising.
        rows: the rows of the probing set that they stand for.
        control: units of an untrained copy and the places of its films among the encoded ones; None without a copy.
    """
    folder = job.store.folder / "embeddings"
    # Where masks tell what a unit sees, no film need be put in words.
    shown = rows if job.masks is None else rows[:0]
    hashes = [job.hashes[row] for row in shown]
    if embeds_at_once(job):
        RecordedFilms(job.store.folder).deal(job.store, shown, hashes, folder)
    films, texts = _embed_films(job, shown, hashes, folder), _embed_concepts(job, folder)
    seen = comparable(job.vlm, films, texts, len(job.concepts), len(job.templates))
    basis = Basis(
        recipe=job.recipe,
        store=job.store,
        chosen=chosen,
        patients=torch.from_numpy(np.unique(job.images.patients[rows], return_inverse=True)[1].astype(np.int64)),
        labels=_known_labels(job, rows) if job.recipe.needs == "labels" else None,
        areas=_measure(job, rows),
        control=control,
    )
    return {
        layer: basis.match(layer, selection, seen, partial(job.progress, f"matching {layer}"))
        for layer, selection in selections.items()
    }


def _embed_films(job: Job, rows: NDArray[np.int64], hashes: list[str], folder: Path) -> Tensor:
    """Embed films; return their rows, as the annotator gives them."""
    films = embed_films(
        job.vlm,
        job.images,
        rows.tolist(),
        hashes,
        folder,
        batch_size=job.batch_size,
        engine=job.engine,
        progress=job.progress,
        kept=kept_views(job),
    )
    return torch.from_numpy(films)


def _measure(job: Job, rows: NDArray[np.int64]) -> dict[str, Areas]:
    """Compare the maps of every layer with the masks; nothing without masks."""
    if job.masks is None:
        return {}
    marked = set(job.masks.films)
    found = measure_areas(
        job.target,
        plan_maps(job.target, job.plans),
        job.images,
        [int(row) for row in rows if job.images.ids[row] in marked],
        job.masks,
        batch_size=job.batch_size,
        workers=n_cores(),
        progress=job.progress,
    )
    columns = torch.tensor([job.concepts.index(term) for term in job.masks.concepts])

    def among_all(counts: Tensor) -> Tensor:
        return counts.new_zeros(*counts.shape[:-1], len(job.concepts)).index_copy(-1, columns, counts)

    return {name: Areas(among_all(part.both), part.units, among_all(part.concepts)) for name, part in found.items()}


def _embed_concepts(job: Job, folder: Path) -> Tensor:
    """Embed every concept in every template, and the bare templates."""
    texts = texts_to_ask(job.concepts.terms, job.templates)
    return torch.from_numpy(embed_texts(job.vlm, texts, folder, engine=job.engine, progress=job.progress))


def _known_labels(job: Job, rows: NDArray[np.int64]) -> Tensor | None:
    """Return what is known of each concept on each film, by the name of the label; None if no label is a concept."""
    labels = np.full((len(rows), len(job.concepts)), np.nan, dtype=np.float32)
    for column, name in enumerate(job.images.label_names):
        concept = job.concepts.find(name)
        if concept is not None:
            labels[:, job.concepts.index(concept.term)] = np.asarray(job.images.labels)[rows, column]
    return None if np.isnan(labels).all() else torch.from_numpy(labels)
