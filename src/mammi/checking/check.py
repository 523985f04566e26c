"""The self-test itself: steadiness, and zero-shot ranking of films by each concept that has a label."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mammi.checking.golden import (
    TEXTS,
    compare_golden,
    draw_golden,
    golden_films,
    largest_difference,
    read_golden,
    write_golden,
)
from mammi.checking.result import Check, CheckedConcept, Told
from mammi.concepts import ConceptSet
from mammi.data import ProbingSet
from mammi.errors import ImageError, InputError, MammiError
from mammi.functional.auroc import auroc
from mammi.functional.average_precision import average_precision
from mammi.functional.ranking_interval import draw_ranking, percentiles
from mammi.types import Progress, no_progress
from mammi.vlms import Annotator, comparable

__all__ = ["check_annotator"]


def check_annotator(
    annotator: Annotator,
    films: ProbingSet,
    concepts: ConceptSet | None = None,
    *,
    templates: Sequence[str] | None = None,
    golden: str | Path | None = None,
    batch_size: int = 16,
    n_resamples: int = 1000,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Check:
    """Test an annotator on films whose labels are known.

    Each concept ranks the films by the cosine of its text (the mean over the templates, at unit length) with them, or
    by the score of a model that scores pairs itself (the mean over the templates).
    Intervals are percentiles over resamples of the patients (`mammi.functional.ranking_interval.draw_ranking`).

    Args:
        annotator: from `create_vlm`.
        films: with labels, and best with patients; without, each film counts as its own.
        concepts: what to ask for; each is judged by the label that has its name or a synonym of it, and one without a
            label is not tested. None asks for the labels themselves.
        templates: each with ``{}`` for the concept; None for the annotator's own, else ``"{}"``, the concept alone.
        golden: a file that is written the first time and compared afterwards.
        batch_size: films per forward pass.
        n_resamples: of the patients.
        seed: of the resamples.
        progress: told of every step.

    Raises:
        InputError: if there are no labels, none of the concepts has one, or a template has no ``{}``.
        ImageError: if a film cannot be read.
        VlmError: if the annotator fails, or the golden file is none.
    """
    if not films.label_names:
        raise InputError("the films have no labels to check against: give a table with columns of 1, 0 and blanks")
    templates = annotator.templates or ("{}",) if templates is None else templates
    wrong = [template for template in templates if "{}" not in template]
    if wrong or not templates:
        raise InputError(f"a template needs {{}} for the concept, got {wrong[0]!r}" if wrong else "give a template")
    asked = concepts or ConceptSet.from_terms(films.label_names)
    columns = {same.term: i for i, name in enumerate(films.label_names) if (same := asked.find(name))}
    if not columns:
        raise InputError(
            f"none of the {len(asked)} concepts is a label of the films ({', '.join(films.label_names[:8])}): name them "
            "alike, or give the label as a synonym"
        )
    drawn = draw_golden(annotator)
    compared: dict[str, Any] = {}
    if golden is not None and Path(golden).is_file():
        before = read_golden(Path(golden))
        status, largest = compare_golden(drawn, before)
        finite = None if largest == float("inf") else largest
        compared = {"status": status, "largest_difference": finite, "fingerprint_then": before.fingerprint}
    elif golden is not None:
        write_golden(drawn, Path(golden))
        compared = {"status": "written", "largest_difference": None, "fingerprint_then": annotator.fingerprint}
    terms = [term for term in asked.terms if term in columns]
    rows = _embed_films(annotator, films, batch_size, progress)
    scores = _scores(annotator, rows, terms, templates)
    labels = torch.from_numpy(films.labels)[:, [columns[term] for term in terms]]
    patients = torch.from_numpy(np.unique(films.patients, return_inverse=True)[1].astype(np.int64))
    found, macro = _measure(terms, scores, labels, patients, seed, n_resamples)
    tested = {row.concept: row for row in found}
    return Check(
        annotator={
            "name": Path(annotator.name).name,
            "fingerprint": annotator.fingerprint,
            "d_embed": annotator.d_embed,
            "card": _card(annotator),
            "notes": [note.replace(annotator.name, Path(annotator.name).name) for note in annotator.notes],
        },
        preprocessing=drawn.preprocessing,
        golden=compared,
        steadiness=_steadiness(annotator, drawn.films, drawn.texts),
        data={
            "films": len(films),
            "patients": int(patients.max()) + 1 if films.patients_known else None,
            "concepts_without_label": len(asked) - len(terms),
        },
        templates=tuple(templates),
        concepts=tuple(tested.get(term) or _nothing(term) for term in asked.terms),
        macro=macro,
        settings={"seed": seed, "n_resamples": n_resamples, "level": 0.95},
    )


def _scores(annotator: Annotator, films: Tensor, terms: Sequence[str], templates: Sequence[str]) -> Tensor:
    """Score every film with every concept, ``(n_films, n_terms)`` float64, as an annotation does."""
    texts = annotator.embed_texts([template.replace("{}", term) for term in terms for template in templates])
    rows, concepts, _ = comparable(annotator, films, texts, len(terms), len(templates))
    return rows @ concepts.T


def _embed_films(annotator: Annotator, films: ProbingSet, batch_size: int, progress: Progress) -> Tensor:
    if batch_size < 1:
        raise InputError(f"'batch_size' must be at least 1, got {batch_size}")
    parts = []
    for start in range(0, len(films), batch_size):
        views = []
        for row in range(start, min(start + batch_size, len(films))):
            try:
                views.append(annotator.view(films.film(row)))
            except MammiError as error:
                raise ImageError(f"film {films.ids[row]!r} cannot be shown to the annotator: {error}") from error
        parts.append(annotator.embed_images(torch.stack(views)))
        progress("encoding films", min(start + batch_size, len(films)), len(films))
    return torch.cat(parts)


def _steadiness(annotator: Annotator, alone: Tensor, texts_alone: Tensor) -> dict[str, float]:
    """Embed the drawn films and the fixed texts together, and compare with each alone."""
    views = torch.stack([annotator.view(film) for film in golden_films()])
    films = annotator.embed_images(torch.cat([views, views.flip(0)]))[: len(views)]
    texts = annotator.embed_texts(list(TEXTS))
    return {
        "films": largest_difference(films, alone),
        "texts": largest_difference(texts, texts_alone),
        "text_batch": annotator.text_batch,
    }


def _measure(
    terms: Sequence[str], scores: Tensor, labels: Tensor, patients: Tensor, seed: int, n_resamples: int
) -> tuple[list[CheckedConcept], dict[str, Any]]:
    """Return every concept's figures, and their mean AUROC with its interval."""
    areas = torch.cat([auroc(scores[:, [i]], labels[:, [i]])[0] for i in range(len(terms))])
    precisions = average_precision(scores, labels)
    drawn = draw_ranking(scores, labels, patients, seed=seed, n_resamples=n_resamples)
    (low, high), (ap_low, ap_high) = (percentiles(draws) for draws in drawn)
    rows = []
    for i, term in enumerate(terms):
        testable = not bool(areas[i].isnan())
        told: Told = "not tested" if not testable else "yes" if float(low[i]) > 0.5 else "no"
        figures = (areas[i], low[i], high[i], precisions[i], ap_low[i], ap_high[i])
        numbers = [None if not testable or value.isnan() else round(float(value), 6) for value in figures]
        counts = int((labels[:, i] == 1).sum()), int((labels[:, i] == 0).sum())
        rows.append(CheckedConcept(term, *counts, told, *numbers))
    can = ~areas.isnan()
    if not bool(can.any()):
        return rows, {"auroc": None, "low": None, "high": None, "concepts": 0}
    means = drawn[0][:, can].nanmean(dim=1, keepdim=True)
    bounds = [round(float(bound[0]), 6) for bound in percentiles(means)]
    macro = {"auroc": round(float(areas[can].mean()), 6), "low": bounds[0], "high": bounds[1]}
    return rows, macro | {"concepts": int(can.sum())}


def _nothing(term: str) -> CheckedConcept:
    return CheckedConcept(term, 0, 0, "not tested")


def _card(annotator: Annotator) -> dict[str, Any]:
    card = annotator.card
    return {
        "title": card.title,
        "licence": card.licence,
        "training_corpora": list(card.training_corpora),
        "modality": card.modality,
        "image_size": card.image_size,
        "citation": card.citation,
        "access": card.access,
        "notes": list(card.notes),
    }
