"""`fit_vlm`: from films with reports or labels to the folder of a fitted annotator."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mammi.data import ProbingSet
from mammi.errors import ImageError, InputError, MammiError
from mammi.fitting.backbone import Backbone, record_features
from mammi.fitting.folder import write_fitted
from mammi.fitting.lessons import TEMPLATES, LabelLessons, Lessons, ReportLessons
from mammi.fitting.model import FittedVlm, view_of
from mammi.fitting.pairs import Pairs
from mammi.fitting.sentences import load_sentences
from mammi.fitting.train import Training, macro_auroc, train
from mammi.targets import Target
from mammi.types import Progress, VlmCard, no_progress

__all__ = ["Fitted", "fit_vlm"]


@dataclass(frozen=True)
class Fitted:
    """A fitted annotator as it was saved.

    Attributes:
        folder: what ``create_vlm("fitted:FOLDER")`` loads.
        card: what it says of itself.
        measured: how it was fitted and how it does, as written into ``fitted.json``.
    """

    folder: Path
    card: VlmCard
    measured: dict[str, Any]


def fit_vlm(
    target: Target,
    layers: Sequence[str],
    pairs: Pairs,
    out: str | Path,
    *,
    card: VlmCard,
    sentences: str | Path | None = None,
    pooling: str | None = None,
    templates: Sequence[str] = TEMPLATES,
    training: Training | None = None,
    batch_size: int = 16,
    progress: Progress = no_progress,
) -> Fitted:
    """Fit an annotator for images that have none: a network of the user's and a sentence encoder, both locked.

    Each film is shown to the network once; what is trained are two small maps a pair (`mammi.fitting.train.train`).

    Args:
        target: the image network, from `create_target` with a spec; its weights are copied into the folder, its code
            is not.
        layers: which of its layers are read, side by side; each pooled to one number a unit.
        pairs: films with reports or labels, from `read_pairs`. Films of one patient stay together.
        out: a new or empty folder.
        card: title, licence, training corpora and modality; ``name``, ``image_size`` and what was measured are filled
            in.
        sentences: a folder of a sentence-transformers model; None for all-MiniLM-L6-v2.
        pooling: as for `mammi.annotate`.
        templates: how a label is put in words, and how the annotator is asked afterwards unless told otherwise; with
            reports it is asked with the concept alone.
        training: how; None for the defaults.
        batch_size: films per forward pass.
        progress: told of every step.

    Returns:
        The folder, the card, and what was measured on validation patients.

    Raises:
        InputError: if the films are too few, nothing can be learned from them, or ``out`` holds something already.
        ImageError: if a film cannot be read.
        VlmError: if the network or the encoder cannot be saved or loaded.
    """
    started, out, training = time.perf_counter(), Path(out), training or Training()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{str(out)!r} exists and is not empty: give a new folder")
    if not pairs.films.patients_known:
        card = replace(card, notes=(*card.notes, "patients were not known: films were split one by one"))
    lessons = _lessons(pairs, templates)
    backbone = Backbone.of(target, layers, pooling)
    encoder = load_sentences(sentences)
    features = _features(backbone, pairs.films, batch_size, progress)
    encoded = time.perf_counter()
    texts = _encode(encoder.encode, lessons.texts, progress)
    patients = torch.from_numpy(np.unique(pairs.films.patients, return_inverse=True)[1].astype(np.int64))
    ready = time.perf_counter()
    trained = train(features, texts, lessons, patients, training, progress)
    ended = time.perf_counter()
    measured = {
        "films": len(pairs.films),
        "patients": int(patients.max()) + 1,
        "statements": len(lessons.texts),
        "learned_from": "labels" if pairs.reports is None else "reports",
        "labels": list(pairs.films.label_names) if pairs.reports is None else [],
        "training": vars(training),
        "validation_auroc": [round(score, 4) for score in trained.validation],
        "training_auroc": round(_overall(trained.projections, features, texts, lessons), 4),
        "steps": trained.steps,
        "seconds": {
            "films": round(encoded - started, 1),
            "texts": round(ready - encoded, 1),
            "fitting": round(ended - ready, 1),
        },
    }
    mean = float(np.mean(trained.validation))
    what = "findings" if pairs.reports is None else "statements of reports"
    said = (
        f"fitted on {len(pairs.films):,} films of {measured['patients']:,} patients; mean AUROC over {what} {mean:.2f} "
        "on the validation patients by which training was stopped"
    )
    card = replace(
        card,
        name=f"fitted:{out.name}",
        image_size=min(target.preprocessing.size),
        access="file",
        notes=(
            *card.notes,
            said,
            "what the backbone and the sentence encoder were trained on before counts too",
            "a research and audit tool, not a diagnostic device",
        ),
    )
    own = templates if pairs.reports is None else ("{}",)
    write_fitted(out, FittedVlm(backbone, encoder, trained.projections, card, own), backbone, encoder, measured)
    return Fitted(out, card, measured)


def _lessons(pairs: Pairs, templates: Sequence[str]) -> Lessons:
    if pairs.reports is not None:
        return ReportLessons.of(pairs.reports)
    return LabelLessons.of(pairs.films.label_names, torch.from_numpy(pairs.films.labels), templates)


def _features(backbone: Backbone, films: ProbingSet, batch_size: int, progress: Progress) -> Tensor:
    """Show every film once, by the same 8-bit picture that the fitted annotator will be shown."""
    if batch_size < 1:
        raise InputError(f"'batch_size' must be at least 1, got {batch_size}")
    rows, preprocessing = [], backbone.target.preprocessing
    for start in range(0, len(films), batch_size):
        views = []
        for row in range(start, min(start + batch_size, len(films))):
            try:
                views.append(view_of(preprocessing, films.film(row).to_pil()))
            except MammiError as error:
                raise ImageError(f"film {films.ids[row]!r} cannot be shown to the backbone: {error}") from error
        rows.append(record_features(backbone.target.model, backbone.plans, torch.stack(views)))
        progress("encoding films", min(start + batch_size, len(films)), len(films))
    features = torch.cat(rows).clone()
    broken = int((~torch.isfinite(features)).any(dim=1).sum())
    if broken:
        raise InputError(f"the backbone gives NaN or infinity for {broken} of {len(films)} films: choose other layers")
    return features


def _encode(encode: Any, texts: list[str], progress: Progress) -> Tensor:  # noqa: ANN401 - a bound method
    rows = []
    for start in range(0, len(texts), 512):
        rows.append(encode(texts[start : start + 512]))
        progress("encoding texts", min(start + 512, len(texts)), len(texts))
    return torch.cat(rows)


@torch.no_grad()
def _overall(projections: Any, features: Tensor, texts: Tensor, lessons: Lessons) -> float:  # noqa: ANN401
    films = torch.arange(len(features))
    exam = lessons.exam(films)
    rows = projections.side_by_side(projections.images, features)
    return macro_auroc(rows, projections.side_by_side(projections.texts, texts[exam]), lessons.truth(films, exam))
