"""The main job: record, select, embed, match, store; resumable at every block. No formula lives here."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from mammi.capture import LayerPlan, output_layers, plan_layers, plan_maps
from mammi.concepts import ConceptSet
from mammi.data import MaskSet, ProbingSet
from mammi.engine import declared_preprocessing, embed_films, embed_texts, measure_areas, record_blocks
from mammi.errors import ImageError, InputError, RunError
from mammi.functional.dissection import Areas
from mammi.functional.fingerprint import fingerprint_value
from mammi.functional.selection import Selection
from mammi.functional.similarity import unit_rows
from mammi.methods import Evidence, Match, Method, create_method, match_units, select_units, wants_control
from mammi.methods.base import method_options
from mammi.results import film_table, layer_tables, search_words
from mammi.store.files import locked, read_json, refuse_foreign_folder, write_json
from mammi.store.identity import refuse_changes
from mammi.store.images import new_salt, salted_ids
from mammi.store.run import SCHEMA, Run, open_run
from mammi.store.shards import ActivationStore
from mammi.store.tables import write_index, write_parquet
from mammi.targets import Target
from mammi.types import Progress, no_progress
from mammi.untrained import record_untrained, refuse_uncopyable
from mammi.vlms import Annotator

__all__ = ["TEMPLATE", "annotate"]

#: The template of the paper; its bare form is what remains without the braces.
TEMPLATE = "A chest x-ray image of a {}"

#: Films per block of stored activations: at most this much work is lost in a kill.
BLOCK = 256
#: Seed of the weights of an untrained copy of the network.
CONTROL_SEED = 1


def annotate(
    target: Target,
    images: ProbingSet,
    concepts: ConceptSet,
    vlm: Annotator,
    *,
    layers: Sequence[str],
    out: str | Path,
    method: str = "mammi",
    masks: MaskSet | None = None,
    template: str | Sequence[str] = TEMPLATE,
    pooling: str | None = None,
    batch_size: int = 16,
    workers: int = 2,
    on_error: str = "fail",
    progress: Progress = no_progress,
    **options: Any,  # noqa: ANN401 - each method has options of its own
) -> Run:
    """Say what every unit of some layers responds to.

    Films are shown to the target once, all layers in one pass; each film that any unit chose is encoded once by the
    vision-language model. The folder ``out`` holds everything; after a crash the same call goes on where it stopped,
    and ends with the same arrays and tables.

    Args:
        target: the network under study, from `create_target`.
        images: the probing set.
        concepts: the concept set.
        vlm: the annotator, from `create_vlm`.
        layers: dotted names of layers; ``name@in`` for what goes into one.
        out: the run folder; new, empty, or of an earlier call with the same inputs.
        method: a name from `list_methods`.
        masks: where concepts are on some of the films, for the method that asks for it.
        template: how a concept is put to the annotator; ``{}`` stands for the concept. The bare template is the same
            text without it. ``"{}"`` asks with the concept alone, and then no bare template is subtracted. Several
            templates are averaged at unit length.
        pooling: ``"mean"``, ``"max"`` or ``"cls"``; None for each layer's own.
        batch_size: films per forward pass; another value can change the last bits of an activation.
        workers: threads that decode films; changes no result.
        on_error: ``"fail"`` records all readable films, then stops with the list of the others; ``"skip"`` leaves them
            out. Either way nothing recorded is lost, and each is named in the run folder with its reason.
        progress: told of every step.
        **options: the method's own options.

    Returns:
        The complete run.

    Raises:
        InputError: if an argument is wrong; nothing is written then.
        CaptureError: if a layer cannot be recorded; nothing is written then.
        TargetError: if the method compares with an untrained copy of the network, and there can be none; nothing is
            written then, unless it is the copy's output that is not finite.
        ImageError: if films cannot be read and ``on_error`` is ``"fail"``.
        StaleRunError: if ``out`` was computed from other inputs.
        BusyRunError: if another process is working in ``out``.
        VlmError: if the annotator fails.
    """
    if on_error not in ("fail", "skip"):
        raise InputError(f"'on_error' must be fail or skip, got {on_error!r}")
    if batch_size < 1 or workers < 1:
        raise InputError(f"'batch_size' and 'workers' must be at least 1, got {batch_size} and {workers}")
    templates = [template] if isinstance(template, str) else list(template)
    for text in templates:
        if text.count("{}") != 1:
            raise InputError(f"'template' must hold {{}} once, where the concept goes, got {text!r}")
    if not templates:
        raise InputError("'template' holds no template: give one, or leave it out")
    recipe = create_method(method, **options)
    plans = plan_layers(target, layers, pooling)
    masks = _usable_masks(masks, recipe, method, target, plans, images, concepts)
    if wants_control(recipe):
        refuse_uncopyable(target)
    mask_content = None if masks is None else masks.fingerprint()
    out = Path(out)
    refuse_foreign_folder(out)
    with locked(out):
        hashes = images.fingerprints(progress=progress)
        store = ActivationStore(out, len(images), BLOCK)
        job = _Job(
            *(target, images, hashes, concepts, vlm, recipe, templates, plans, store),
            *(batch_size, workers, progress, masks),
        )
        identity = job.identity(method, method_options(method) | options)
        if mask_content is not None:
            identity["masks"] = mask_content
        manifest = _resume(job, identity) if (out / "manifest.json").is_file() else _begin(job, identity)
        if manifest["status"] != "complete" or not _intact(job):
            record_blocks(target, plans, images, store, batch_size=batch_size, workers=workers, progress=progress)
            kept = _readable(job, skip=on_error == "skip")
            manifest = _set_status(store.folder, manifest, "encoding")
            manifest["counts"] = _finish(job, kept)
            _set_status(store.folder, manifest, "complete")
    return open_run(out)


def _usable_masks(
    masks: MaskSet | None,
    recipe: Method,
    method: str,
    target: Target,
    plans: list[LayerPlan],
    images: ProbingSet,
    concepts: ConceptSet,
) -> MaskSet | None:
    """Return the masks of these films under the names of these concepts; refuse what would fail later."""
    if recipe.needs != "areas":
        if masks is not None:
            raise InputError(f"method {method!r} does not look at masks: leave them out")
        return None
    if masks is None:
        raise InputError(
            f"method {method!r} needs to know where concepts are: give masks=MaskSet.read(table) (--masks TABLE), a "
            "CSV with image, concept, and a mask, a box or a polygon"
        )
    declared_preprocessing(target)
    plan_maps(target, plans)
    on_films = masks.only(images.ids)
    if not len(on_films):
        raise InputError(
            f"none of the {len(masks)} films with masks is among the {len(images)} films: the column 'image' must hold "
            "their ids"
        )
    named = on_films.renamed(lambda name: found.term if (found := concepts.find(name)) is not None else None)
    if not named.concepts:
        raise InputError(
            f"no concept with masks ({', '.join(on_films.concepts[:5]) or 'none'}) is among the {len(concepts)} "
            "concepts: the column 'concept' must hold their names or synonyms"
        )
    return named


@dataclass(frozen=True)
class _Job:
    """Everything one call works with."""

    target: Target
    images: ProbingSet
    hashes: list[str]
    concepts: ConceptSet
    vlm: Annotator
    recipe: Method
    templates: list[str]
    plans: list[LayerPlan]
    store: ActivationStore
    batch_size: int
    workers: int
    progress: Progress
    masks: MaskSet | None = None

    def identity(self, method: str, options: dict[str, Any]) -> dict[str, Any]:
        """Return what the results depend on, as JSON: two calls that agree in it give the same arrays."""
        return {
            "schema": SCHEMA,
            "target": self.target.fingerprint,
            "images": {
                "n": len(self.images),
                "frame": self.images.frame,
                "fingerprint": fingerprint_value([self.images.ids, self.hashes]),
            },
            "layers": [plan.to_dict() for plan in self.plans],
            "concepts": {"n": len(self.concepts), "fingerprint": self.concepts.fingerprint},
            "vlm": self.vlm.fingerprint,
            "template": self.templates[0] if len(self.templates) == 1 else self.templates,
            "method": {"name": method, "options": options},
            "capture": {"batch_size": self.batch_size, "dtype": "float32", "block": self.store.block_size},
        }


def _set_status(folder: Path, manifest: dict[str, Any], status: str) -> dict[str, Any]:
    manifest = {**manifest, "status": status}
    write_json(folder / "manifest.json", manifest)
    return manifest


def _begin(job: _Job, identity: dict[str, Any]) -> dict[str, Any]:
    """Write what the run is made of, before anything is computed."""
    folder, images = job.store.folder, job.images
    write_json(folder / "private" / "salt.json", new_salt())
    _write_sources(job)
    job.concepts.write_csv(folder / "concepts.csv")
    manifest = {
        "schema": SCHEMA,
        "status": "recording",
        "notice": "A research and audit tool, not a diagnostic device.",
        "mammi": version("mammi"),
        "torch": torch.__version__,
        "identity": identity,
        "layers": [plan.to_dict() for plan in job.plans],
        "target": {
            "name": Path(job.target.name).name,
            "preprocessing": job.target.preprocessing.to_dict(),
            "notes": [note.replace(job.target.name, Path(job.target.name).name) for note in job.target.notes],
        },
        "vlm": {
            "name": Path(job.vlm.name).name,
            "title": job.vlm.card.title,
            "licence": job.vlm.card.licence,
            "training_corpora": list(job.vlm.card.training_corpora),
            "modality": job.vlm.card.modality,
            "citation": job.vlm.card.citation,
            "notes": [note.replace(job.vlm.name, Path(job.vlm.name).name) for note in job.vlm.card.notes],
        },
        "images": {
            "labels": list(images.label_names),
            "patients_known": images.patients_known,
            "files_without_row": len(images.without_row),
            "other_files": len(images.ignored),
        },
    }
    return _set_status(folder, manifest, "recording")


def _write_sources(job: _Job) -> None:
    """Keep, apart from all else, what is needed to find the films again."""
    films = [
        {"id": film, "patient": str(patient), "path": str(path.resolve()), "sha256": digest}
        for film, patient, path, digest in zip(
            job.images.ids, job.images.patients, job.images.paths, job.hashes, strict=True
        )
    ]
    write_json(job.store.folder / "private" / "films.json", films)


def _resume(job: _Job, identity: dict[str, Any]) -> dict[str, Any]:
    """Check that the folder belongs to these inputs; films that could not be read may have been repaired since."""
    folder = job.store.folder
    manifest: dict[str, Any] = read_json(folder / "manifest.json")
    old = manifest.get("identity", {})
    if manifest.get("status") == "recording" and old.get("images") != identity["images"]:
        known = read_json(folder / "private" / "films.json")
        unreadable = _unreadable(job.store)
        changed = [
            row
            for row, (film, name, digest) in enumerate(zip(known, job.images.ids, job.hashes, strict=False))
            if (film["id"], film["sha256"]) != (name, digest)
        ]
        if len(known) == len(job.images) and set(changed) <= set(unreadable):
            for block in {row // job.store.block_size for row in changed}:
                job.store.discard(block)
            manifest["identity"] = {**old, "images": identity["images"]}
            _write_sources(job)
    refuse_changes(folder, manifest.get("identity", {}), identity)
    return _set_status(folder, manifest, manifest["status"])


def _intact(job: _Job) -> bool:
    """Tell whether a complete run can still be read; what cannot is made ready to be computed again."""
    whole = True
    for plan in job.plans:
        try:
            whole &= job.store.read(plan.name).shape[0] == plan.n_units
        except RunError:
            job.store.array_path(plan.name).unlink(missing_ok=True)
            for block in range(job.store.n_blocks):
                job.store.discard(block)
            whole = False
    return whole and open_run(job.store.folder).is_readable()


def _unreadable(store: ActivationStore) -> dict[int, str]:
    """Return the reason for each film that could not be read, by row."""
    records = store.done()
    return {int(row): reason for block in sorted(records) for row, reason in records[block]["unreadable"].items()}


def _readable(job: _Job, *, skip: bool) -> NDArray[np.int64]:
    """Return the rows of the films that could be read; raise with the whole list where that is asked for."""
    unreadable = _unreadable(job.store)
    total = len(job.images)
    if unreadable and not skip:
        listed = "\n".join(f"  {job.images.ids[row]}: {reason}" for row, reason in sorted(unreadable.items()))
        raise ImageError(
            f"{len(unreadable)} of {total} films cannot be read. Repair or remove them, or skip them with "
            f"on_error='skip' (--on-error skip); the others are recorded and stay so.\n{listed}"
        )
    if len(unreadable) == total:
        raise ImageError(f"none of the {total} films can be read; the first: {unreadable[0]}")
    return np.array([row for row in range(total) if row not in unreadable], dtype=np.int64)


def _finish(job: _Job, kept: NDArray[np.int64]) -> dict[str, Any]:
    """Select, embed and match over the readable films, write every table, and return the counts."""
    store, terms = job.store, job.concepts.terms
    for plan in job.plans:
        store.finish(plan.name, plan.n_units, kept)
    selections = {plan.name: _select(job, plan) for plan in job.plans}
    if job.recipe.needs == "examples":
        chosen = np.unique(np.concatenate([selection.images.numpy() for selection in selections.values()]))
    else:
        chosen = np.arange(len(kept))
    matches = _match(job, selections, chosen, kept[chosen], _control(job, kept))
    outputs = output_layers(job.target)
    tables = [
        layer_tables(
            plan.name,
            store.read(plan.name),
            selections[plan.name],
            matches[plan.name],
            terms,
            job.target.output_names if plan.name in outputs and plan.n_units == len(job.target.output_names) else (),
        )
        for plan in job.plans
    ]
    units, examples, annotations = (
        pd.concat([getattr(table, name) for table in tables], ignore_index=True)
        for name in ("units", "examples", "annotations")
    )
    folder = store.folder
    write_parquet(folder / "units.parquet", units)
    write_parquet(folder / "examples.parquet", examples)
    write_parquet(folder / "annotations.parquet", annotations)
    films = _write_films(job, kept)
    write_index(
        folder / "index.sqlite",
        {"images": films, "units": units, "examples": examples, "annotations": annotations},
        search_words(annotations),
    )
    twins = films.loc[films["same_pixels_as"].notna()]
    return {
        "films": len(kept),
        "unreadable": len(job.images) - len(kept),
        "with_warnings": int((films["warnings"] != "").sum()),
        "same_pixels": len(twins),
        "patients": int(films["patient"].nunique()) if job.images.patients_known else None,
        "encoded": len(chosen) if job.masks is None else 0,
        "units": len(units),
        "named": int((units["n_concepts"] > 0).sum()),
    }


def _select(job: _Job, plan: LayerPlan) -> Selection:
    """Choose examples tile by tile, straight from the memory-mapped columns."""
    activations = job.store.read(plan.name)
    return select_units(
        job.recipe,
        lambda units: torch.from_numpy(np.array(activations[units])).T,
        len(activations),
        lambda done, total: job.progress(f"selecting for {plan.name}", done, total),
    )


def _control(job: _Job, kept: NDArray[np.int64]) -> tuple[Tensor, Tensor] | None:
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
        batch_size=job.batch_size,
        workers=job.workers,
        progress=job.progress,
    )
    return units, torch.from_numpy(places)


def _match(
    job: _Job,
    selections: dict[str, Selection],
    chosen: NDArray[np.int64],
    rows: NDArray[np.int64],
    control: tuple[Tensor, Tensor] | None,
) -> dict[str, Match]:
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
    films = embed_films(
        job.vlm,
        job.images,
        shown.tolist(),
        [job.hashes[row] for row in shown],
        folder,
        batch_size=job.batch_size,
        workers=job.workers,
        progress=job.progress,
    )
    concept_rows, template_row = _embed_concepts(job, folder)
    film_rows = unit_rows(torch.from_numpy(films), "films") if len(films) else concept_rows[:0]
    patients = torch.from_numpy(np.unique(job.images.patients[rows], return_inverse=True)[1].astype(np.int64))
    areas = _measure(job, rows)
    matches = {}
    for layer, selection in selections.items():
        units = np.array(job.store.read(layer)).T if job.recipe.needs != "examples" else np.empty((0, 0), np.float32)
        compact = replace(selection, images=torch.from_numpy(chosen.searchsorted(selection.images.numpy())))
        evidence = Evidence(
            activations=torch.from_numpy(units),
            films=film_rows,
            concepts=concept_rows,
            template=template_row,
            patients=patients,
            labels=_known_labels(job, rows),
            areas=areas.get(layer),
            control=control[0] if control else None,
            control_films=control[1] if control else None,
        )
        report = partial(job.progress, f"matching {layer}")
        matches[layer] = match_units(job.recipe, evidence, compact, report)
    return matches


def _measure(job: _Job, rows: NDArray[np.int64]) -> dict[str, Areas]:
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
        workers=job.workers,
        progress=job.progress,
    )
    columns = torch.tensor([job.concepts.index(term) for term in job.masks.concepts])

    def among_all(counts: Tensor) -> Tensor:
        return counts.new_zeros(*counts.shape[:-1], len(job.concepts)).index_copy(-1, columns, counts)

    return {name: Areas(among_all(part.both), part.units, among_all(part.concepts)) for name, part in found.items()}


def _embed_concepts(job: _Job, folder: Path) -> tuple[Tensor, Tensor | None]:
    """Embed every concept in every template, and the bare templates; return their means at unit length."""
    terms, templates = job.concepts.terms, job.templates
    bare = [text for template in templates if (text := " ".join(template.replace("{}", " ").split()))]
    texts = [template.replace("{}", term) for term in terms for template in templates]
    encoded = embed_texts(job.vlm, [*texts, *bare], folder, progress=job.progress)
    rows = unit_rows(torch.from_numpy(encoded), "texts")
    concepts = rows[: len(texts)].reshape(len(terms), len(templates), -1).mean(dim=1)
    template = unit_rows(rows[len(texts) :].mean(dim=0, keepdim=True), "template")[0] if bare else None
    return unit_rows(concepts, "texts"), template


def _known_labels(job: _Job, rows: NDArray[np.int64]) -> Tensor | None:
    """Return what is known of each concept on each film, by the name of the label; None if no label is a concept."""
    labels = np.full((len(rows), len(job.concepts)), np.nan, dtype=np.float32)
    for column, name in enumerate(job.images.label_names):
        concept = job.concepts.find(name)
        if concept is not None:
            labels[:, job.concepts.index(concept.term)] = np.asarray(job.images.labels)[rows, column]
    return None if np.isnan(labels).all() else torch.from_numpy(labels)


def _write_films(job: _Job, kept: NDArray[np.int64]) -> pd.DataFrame:
    """Write the tables of films, of their labels, and of those left out; return the first."""
    folder, images = job.store.folder, job.images
    salt = str(read_json(folder / "private" / "salt.json"))
    films = film_table(
        kept,
        job.store.done(),
        salted_ids(images.ids, salt, "film"),
        salted_ids([str(patient) for patient in images.patients], salt, "patient"),
    )
    write_parquet(folder / "images.parquet", films)
    if images.label_names:
        labels = pd.DataFrame(np.asarray(images.labels)[kept], columns=list(images.label_names))
        write_parquet(folder / "labels.parquet", labels)
    unreadable = _unreadable(job.store)
    if unreadable:
        # A reason may hold a file's name: it is kept with the other names.
        write_json(folder / "private" / "unreadable.json", {images.ids[row]: why for row, why in unreadable.items()})
    return films
