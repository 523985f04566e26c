"""The main job: record, select, embed, match, store; resumable at every block. No formula lives here."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mammi.capture import LayerPlan, output_layers, plan_layers, plan_maps
from mammi.concepts import ConceptSet
from mammi.data import MaskSet, ProbingSet
from mammi.engine import Engine, LocalEngine, check_asked, declared_preprocessing
from mammi.errors import InputError, VlmError
from mammi.job import Job, begin, is_intact, readable_films, resume, set_status, unreadable_films
from mammi.methods import Method, create_method, wants_control
from mammi.methods.base import method_options
from mammi.naming import match_layers, record_control, record_films, select_layer, with_precisions
from mammi.opinions import ask_second_opinions, refuse_opinions
from mammi.results import film_table, layer_tables, search_words
from mammi.store.files import locked, read_json, refuse_foreign_folder, remove_half_written, write_json
from mammi.store.images import salted_ids
from mammi.store.recorded import RecordedFilms
from mammi.store.run import Run, open_run
from mammi.store.shards import ActivationStore
from mammi.store.tables import write_index, write_parquet
from mammi.targets import Target
from mammi.types import Progress, no_progress
from mammi.untrained import refuse_uncopyable
from mammi.vlms import Annotator, refuse_too_many

__all__ = ["TEMPLATE", "annotate"]

#: The template of the paper; its bare form is what remains without the braces.
TEMPLATE = "A chest x-ray image of a {}"

#: Films per block of stored activations: at most this much work is lost in a kill.
BLOCK = 256


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
    template: str | Sequence[str] | None = None,
    pooling: str | None = None,
    batch_size: int = 16,
    engine: Engine | None = None,
    precision: str = "auto",
    on_error: str = "fail",
    trained_on: Sequence[str] = (),
    second_opinions: Sequence[Annotator] = (),
    progress: Progress = no_progress,
    say: Callable[[str], None] | None = None,
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
            templates are averaged at unit length. None for the annotator's own, else `TEMPLATE`.
        pooling: ``"mean"``, ``"max"`` or ``"cls"``; None for each layer's own.
        batch_size: films per forward pass; another value can change the last bits of an activation.
        engine: who does the work, from `create_engine`; None for this process. Changes no result.
        precision: in which numbers the models compute: ``"float32"``, the one for numbers to be published;
            ``"float32-channels-last"``; ``"bfloat16"``; or ``"auto"``, which tries them where the job is long, see
            `mammi.engine.choose_precisions`. The manifest keeps the choice, its times and errors, and a run that is
            gone on with keeps its own.
        on_error: ``"fail"`` records all readable films, then stops with the list of the others; ``"skip"`` leaves them
            out. Either way nothing recorded is lost, and each is named in the run folder with its reason.
        trained_on: collections of films that the target was trained on, beside what it states itself, for example
            ``"NIH ChestX-ray14"``: an annotator that was trained on one of them is no independent witness, and the run
            says so.
        second_opinions: further annotators: each says of the same units, with the same examples, what it would have named
            them, in all templates averaged and in each alone; the names stay those of ``vlm``. See
            `mammi.ask_second_opinions`, which does it for a run that is there.
        progress: told of every step.
        say: told the precision chosen, and what the annotator has seen of the target's data, a line each; None to be
            told nothing.
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
        VlmError: if the annotator fails; if one of ``second_opinions`` does, the run is complete without them.
    """
    if on_error not in ("fail", "skip"):
        raise InputError(f"'on_error' must be fail or skip, got {on_error!r}")
    check_asked(precision)
    if batch_size < 1:
        raise InputError(f"'batch_size' must be at least 1, got {batch_size}")
    if template is None:
        template = vlm.templates or TEMPLATE
    templates = [template] if isinstance(template, str) else list(template)
    for text in templates:
        if text.count("{}") != 1:
            raise InputError(f"'template' must hold {{}} once, where the concept goes, got {text!r}")
    if not templates:
        raise InputError("'template' holds no template: give one, or leave it out")
    refuse_too_many(vlm, len(images), len(concepts))
    recipe = create_method(method, **options)
    if second_opinions:
        refuse_opinions(method, recipe, [vlm, *second_opinions])
    for other in second_opinions:
        refuse_too_many(other, len(images), len(concepts))
    plans = plan_layers(target, layers, pooling)
    masks = _usable_masks(masks, recipe, method, target, plans, images, concepts)
    if wants_control(recipe):
        refuse_uncopyable(target)
    mask_content = None if masks is None else masks.fingerprint()
    out = Path(out)
    refuse_foreign_folder(out)
    with locked(out):
        remove_half_written(out, ("activations", "control", "embeddings", "private", "recorded"))
        hashes = images.fingerprints(progress=progress)
        store = ActivationStore(out, len(images), BLOCK)
        job = Job(
            *(target, images, hashes, concepts, vlm, recipe, templates, plans, store),
            *(batch_size, engine or LocalEngine(), progress, masks),
            trained_on=(*target.training_corpora, *trained_on),
        )
        job = with_precisions(job, precision, say)
        if job.shared and say is not None:
            say(f"note: {vlm.name} was trained on {', '.join(job.shared)}, as the target was: no independent witness")
        identity = job.identity(method, method_options(method) | options)
        if mask_content is not None:
            identity["masks"] = mask_content
        manifest = resume(job, identity) if (out / "manifest.json").is_file() else begin(job, identity)
        if manifest["status"] != "complete" or not is_intact(job):
            record_films(job)
            kept = readable_films(job, skip=on_error == "skip")
            manifest = set_status(store.folder, manifest, "encoding")
            manifest["counts"] = _finish(job, kept)
            # Found out about the tables that were just replaced.
            shutil.rmtree(out / "explain", ignore_errors=True)
            manifest.pop("opinions", None)
            set_status(store.folder, manifest, "complete")
            RecordedFilms(out).clear()
    run = open_run(out)
    if not second_opinions:
        return run
    try:
        return ask_second_opinions(
            run, second_opinions, naming=vlm, batch_size=batch_size, engine=engine, progress=progress
        )
    except VlmError as error:
        raise VlmError(
            f"{error}; the run itself is complete, and 'mammi opinion {out} --vlm ...' asks for second opinions again"
        ) from error


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


def _finish(job: Job, kept: NDArray[np.int64]) -> dict[str, Any]:
    """Select, embed and match over the readable films, write every table, and return the counts."""
    store, terms = job.store, job.concepts.terms
    for plan in job.plans:
        store.finish(plan.name, plan.n_units, kept)
    selected = {plan.name: select_layer(job, plan) for plan in job.plans}
    selections = {layer: selection for layer, (selection, _) in selected.items()}
    if job.recipe.needs == "examples":
        chosen = np.unique(np.concatenate([selection.images.numpy() for selection in selections.values()]))
    else:
        chosen = np.arange(len(kept))
    matches = match_layers(job, selections, chosen, kept[chosen], record_control(job, kept))
    outputs = output_layers(job.target)
    tables = [
        layer_tables(
            plan.name,
            selected[plan.name][1].numpy(),
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


def _write_films(job: Job, kept: NDArray[np.int64]) -> pd.DataFrame:
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
    unreadable = unreadable_films(job.store)
    if unreadable:
        # A reason may hold a file's name: it is kept with the other names.
        write_json(folder / "private" / "unreadable.json", {images.ids[row]: why for row, why in unreadable.items()})
    return films
