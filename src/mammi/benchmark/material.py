"""What a contest is held on: films and concepts in one space, labels that are known, real layers, an untrained copy."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import repeat
from multiprocessing import get_context

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mammi.benchmark.planting import Label, Planted
from mammi.benchmark.reference import drawn_areas, for_concepts
from mammi.capture import LayerPlan, Recorder, plan_layers
from mammi.concepts import ConceptSet, build_concepts
from mammi.errors import InputError
from mammi.functional.dissection import Areas
from mammi.phantoms import DEVICES, OUTPUTS, Cohort, PhantomFilm, is_named, write_report
from mammi.phantoms.cohort import draw_some
from mammi.targets import Target, create_target, randomised
from mammi.types import Film, Progress, no_progress
from mammi.vlms import Annotator, create_vlm

__all__ = ["BAR", "LAYERS", "Material", "degraded", "held_out_truth", "phantom_material"]

TEMPLATE = "A chest x-ray image of a {}"
#: Real layers of the small network, from the outputs inwards.
LAYERS = ("head", "layer3", "layer2")
#: Correlation on held-out films that a real unit must have with the label that explains it best, to have a truth.
BAR = 0.35
#: Held-out films that are compared with their masks.
MASKED_FILMS = 400
#: Seed of films that no contest is held on.
HELD_OUT_SEED = 5000
#: Films of labels that are made rare.
RARE_FILMS = 3
#: Reports that the concept set is built from.
REPORTS = 600
#: Films drawn in one go by a process.
CHUNK = 60
#: So many times that are drawn without other processes, which take seconds to start.
ALONE = 4


@dataclass(frozen=True)
class HeldOut:
    """What is known of the small network's units from films that no contest is held on.

    Attributes:
        explained: by layer, Pearson's r of every unit and label, ``(n_units, n_labels)``; NaN for a unit that never varies.
        areas: by layer with maps, how units and drawn labels overlap; columns are ``mammi.phantoms.OUTPUTS``.
    """

    explained: dict[str, NDArray[np.float64]]
    areas: dict[str, Areas]


@dataclass(frozen=True)
class Material:
    """One probing set with all that is known about it.

    Attributes:
        films: unit rows, float64 ``(n_films, d_embed)``.
        concepts: unit rows, float64 ``(n_concepts, d_embed)``.
        template: the bare template, ``(d_embed,)``.
        terms: the concepts in words.
        labels: what is known of the films.
        patients: ``(n_films,)``.
        layers: real layers by name: all units that vary, with their truth; no kind where it is unknown.
        areas: for real layers with maps, how their units overlap with the masks of concepts, on other films.
        untrained: layers of an untrained copy of the network, ``(n_films, n_units)``: the control of methods that use
            one.
        untrained_too: layers of another untrained copy: a target whose every name is false.
        quality: what the annotator's films were blurred by, and what it can tell since.
    """

    films: NDArray[np.float64]
    concepts: NDArray[np.float64]
    template: NDArray[np.float64]
    terms: list[str]
    labels: list[Label]
    patients: NDArray[np.int64]
    layers: dict[str, list[Planted]] = field(default_factory=dict)
    areas: dict[str, Areas] = field(default_factory=dict)
    untrained: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    untrained_too: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    quality: str = "as trained"

    @property
    def zero_shot(self) -> float:
        """Mean area under the ROC curve with which the best of its concepts tells each label on these films."""
        similar = self.films @ self.concepts.T
        return float(
            np.mean(
                [
                    max(_auc(similar[:, concept], label.present) for concept in label.concepts)
                    for label in self.labels
                    if label.is_usable and not label.rare
                ]
            )
        )


def _auc(score: NDArray[np.float64], present: NDArray[np.bool_]) -> float:
    ranks = np.empty(len(score))
    ranks[np.argsort(score, kind="stable")] = np.arange(1, len(score) + 1)
    n = int(present.sum())
    return float((ranks[present].sum() - n * (n + 1) / 2) / (n * (len(score) - n)))


def degraded(material: Material, blur: float, seed: int) -> Material:
    """Return the material as a worse annotator would see it: noise of length ``blur`` beside each film's unit row."""
    noise = np.random.default_rng([seed, 11]).standard_normal(material.films.shape)
    films = material.films + blur * noise / np.sqrt(material.films.shape[1])
    return replace(
        material, films=films / np.linalg.norm(films, axis=1, keepdims=True), quality=f"films blurred by {blur:g}"
    )


def _drawn(n_films: int, seed: int, step: str, progress: Progress) -> Iterator[PhantomFilm]:
    """Draw a cohort with as many processes as there are cores; the same films whatever their number."""
    starts = range(0, n_films, CHUNK)
    done = 0
    with ExitStack() as stack:
        each: Callable[..., Iterator[list[PhantomFilm]]] = map
        if len(starts) > ALONE:
            # Spawned, not forked: a fork of a process in which torch runs threads can hang.
            pool = ProcessPoolExecutor(min(os.cpu_count() or 1, 8), mp_context=get_context("spawn"))
            each = stack.enter_context(pool).map
        for films in each(draw_some, repeat(n_films), repeat(seed), starts, repeat(CHUNK)):
            yield from films
            done += len(films)
            progress(step, done, n_films)


@dataclass
class _Seen:
    """What networks and annotator saw of a cohort, film after film."""

    records: list[dict[str, dict[str, Tensor]]] = field(default_factory=list)
    rows: list[Tensor] = field(default_factory=list)
    films: list[PhantomFilm] = field(default_factory=list)


def _watch(
    films: Iterator[PhantomFilm], networks: dict[str, tuple[Target, list[LayerPlan]]], vlm: Annotator | None
) -> _Seen:
    """Show every film to the networks and to the annotator; keep activations, rows and truth, not pixels."""
    seen = _Seen()
    batch: list[PhantomFilm] = []

    def flush() -> None:
        views = [Film(film.pixels) for film in batch]
        record = {}
        for name, (target, plans) in networks.items():
            with Recorder(target.model, plans) as recorder:
                record[name] = recorder.record(torch.stack([target.view(view) for view in views]))
        seen.records.append(record)
        if vlm is not None:
            seen.rows.append(vlm.embed_images(torch.stack([vlm.view(view) for view in views])))
        seen.films += [replace(film, pixels=film.pixels[:0], masks={}) for film in batch]
        batch.clear()

    for film in films:
        batch.append(film)
        if len(batch) == CHUNK:
            flush()
    if batch:
        flush()
    return seen


def _activations(seen: _Seen, network: str, layer: str) -> NDArray[np.float64]:
    return torch.cat([record[network][layer] for record in seen.records]).double().numpy()


def held_out_truth(n_films: int, progress: Progress = no_progress) -> HeldOut:
    """Compare the units of the small network with every label and its masks, on films that no contest is held on.

    Args:
        n_films: how many films to draw.
        progress: told of films drawn.
    """
    target = create_target("phantom")
    seen = _watch(
        _drawn(n_films, HELD_OUT_SEED, "drawing held-out films", progress),
        {"trained": (target, plan_layers(target, LAYERS))},
        None,
    )
    known = np.array([[film.plan.has(name) for name in OUTPUTS] for film in seen.films], dtype=np.float64)
    explained = {layer: _correlations(_activations(seen, "trained", layer), known) for layer in LAYERS}
    masked = min(n_films, MASKED_FILMS)
    return HeldOut(explained, drawn_areas(_drawn(masked, HELD_OUT_SEED, "drawing films with masks", progress)))


def _correlations(activations: NDArray[np.float64], known: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Pearson's r of every unit and label, ``(n_units, n_labels)``; NaN for a unit that never varies."""
    a, y = (table - table.mean(axis=0) for table in (activations, known))
    lengths = np.linalg.norm(a, axis=0)[:, None] * np.linalg.norm(y, axis=0)
    r: NDArray[np.float64] = np.divide(a.T @ y, lengths, out=np.full(lengths.shape, np.nan), where=lengths > 0)
    return r


def phantom_material(n_films: int, seed: int, truth: HeldOut, progress: Progress = no_progress) -> Material:
    """Draw films, show them to the small network, to two untrained copies of it and to the small annotator.

    Four of the labels are made rare: all but 3 of their films are left out. The truth of a real layer's unit is the
    label that explains it best on other films, if their correlation is at least `BAR` there.

    Args:
        n_films: how many films to draw, at least 60; some are left out.
        seed: other numbers draw other patients, and make other labels rare.
        truth: from `held_out_truth`.
        progress: told of films drawn.

    Raises:
        InputError: if there are fewer films.
    """
    if n_films < CHUNK:
        raise InputError(f"'n_films' must be at least {CHUNK}, so that most findings are on some film; got {n_films}")
    target, vlm = create_target("phantom"), create_vlm("phantom")
    settling = [Film(Cohort(64, seed=seed + 7000).film(index).pixels) for index in range(64)]
    networks = {
        "trained": target,
        "untrained": randomised(target, settling, seed=1),
        "untrained too": randomised(target, settling, seed=2),
    }
    planned = {name: (network, plan_layers(network, LAYERS)) for name, network in networks.items()}
    seen = _watch(_drawn(n_films, seed, f"drawing films, seed {seed}", progress), planned, vlm)
    concepts = _concepts(seen.films)
    texts = [TEMPLATE.replace("{}", term) for term in concepts.terms]
    encoded = vlm.embed_texts([*texts, TEMPLATE.replace(" {}", "")]).double().numpy()
    present = np.array([[film.plan.has(name) for name in OUTPUTS] for film in seen.films])
    rare = [OUTPUTS[(4 * seed + place) % len(OUTPUTS)] for place in range(4)]
    rows = _with_rare(present, rare, seed)
    named = [frozenset(m for m, term in enumerate(concepts.terms) if is_named(name, term)) for name in OUTPUTS]
    labels = [
        Label(
            name=name,
            present=present[rows, column],
            concepts=named[column],
            device=name in DEVICES,
            rare=name in rare,
            sides=_sides(name, [seen.films[row] for row in rows], named[column], concepts.terms),
        )
        for column, name in enumerate(OUTPUTS)
    ]
    layers = {
        layer: _with_truth(
            layer,
            _activations(seen, "trained", layer)[rows],
            truth.explained[layer],
            named,
            [label.is_usable and not label.rare for label in labels],
        )
        for layer in LAYERS
    }
    return Material(
        films=torch.cat(seen.rows).double().numpy()[rows],
        concepts=encoded[:-1],
        template=encoded[-1],
        terms=concepts.terms,
        labels=labels,
        patients=np.array([film.plan.patient.id for film in seen.films], dtype=np.int64)[rows],
        layers=layers,
        areas={
            layer: _as_concepts(areas, layers[layer], named, concepts.terms) for layer, areas in truth.areas.items()
        },
        untrained={layer: _activations(seen, "untrained", layer)[rows] for layer in LAYERS},
        untrained_too={layer: _activations(seen, "untrained too", layer)[rows] for layer in LAYERS},
    )


def _concepts(films: Sequence[PhantomFilm]) -> ConceptSet:
    """Build a concept set from the reports of some of the films, as a user would."""
    written = [write_report(film.plan) for film in films[:REPORTS]]
    return build_concepts([f"{report.findings} {report.impression}" for report in written])


def _with_rare(present: NDArray[np.bool_], rare: Sequence[str], seed: int) -> NDArray[np.int64]:
    """Return the films to keep, so that only a few show each rare label."""
    rng = np.random.default_rng([seed, 3])
    columns = [OUTPUTS.index(name) for name in rare]
    drop = np.zeros(len(present), dtype=bool)
    keep = np.zeros(len(present), dtype=bool)
    for column in columns:
        alone = np.flatnonzero(present[:, column] & (present[:, columns].sum(axis=1) == 1))
        keep[rng.choice(alone, min(RARE_FILMS, len(alone)), replace=False)] = True
        drop |= present[:, column]
    return np.flatnonzero(~drop | keep)


def _sides(
    name: str, films: Sequence[PhantomFilm], named: frozenset[int], terms: Sequence[str]
) -> tuple[tuple[str, NDArray[np.bool_], frozenset[int]], ...]:
    sided = []
    for side in ("left", "right"):
        there = np.array([any(f.name == name and side in f.sides for f in film.plan.findings) for film in films])
        words = frozenset(m for m in named if side in terms[m].split())
        if there.any():
            sided.append((side, there, words))
    return tuple(sided)


def _with_truth(
    layer: str,
    activations: NDArray[np.float64],
    explained: NDArray[np.float64],
    named: Sequence[frozenset[int]],
    usable: Sequence[bool],
) -> list[Planted]:
    """Give each unit that varies the label that explains it best on held-out films; without one it has no kind."""
    units: list[Planted] = []
    # A label made rare on these films, or that nothing names, can be no unit's truth here.
    columns = np.flatnonzero(np.asarray(usable) & np.isfinite(explained).any(axis=0))
    for unit, r in enumerate(explained[:, columns]):
        if np.ptp(activations[:, unit]) == 0:
            continue
        known = len(columns) > 0 and np.isfinite(r).all() and r.max() >= BAR
        column = int(columns[r.argmax()]) if known else 0
        units.append(
            Planted(
                kind=layer if known else "",
                activation=activations[:, unit],
                truths=named[column] if known else frozenset(),
                says=OUTPUTS[column] if known else "",
                index=unit,
            )
        )
    return units


def _as_concepts(
    areas: Areas, units: Sequence[Planted], named: Sequence[frozenset[int]], terms: Sequence[str]
) -> Areas:
    """Return the counts of the units that vary, each label as the plainest concept that names it."""
    columns = [min(own, key=lambda m: (terms[m] != name, m)) for name, own in zip(OUTPUTS, named, strict=True) if own]
    known = [column for column, own in enumerate(named) if own]
    both = Areas(areas.both[:, known], areas.units, areas.concepts[known])
    return for_concepts(both, [unit.index for unit in units], columns, len(terms))
