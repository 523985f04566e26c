"""What each annotator says of the units of a run, asked in each wording: the run's own examples, the run's own method."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mammi.concepts import ConceptSet
from mammi.data import ProbingSet
from mammi.engine import Engine, embed_films, embed_texts
from mammi.errors import InputError, RunError, StaleRunError
from mammi.evidence import Basis, texts_to_ask
from mammi.explain.models import run_films
from mammi.functional.selection import Selection
from mammi.methods import Method, create_method, wants_control
from mammi.results import annotation_table
from mammi.store.embeddings import embedding_chunks
from mammi.store.files import read_json
from mammi.store.run import Run
from mammi.store.shards import ActivationStore
from mammi.types import Progress
from mammi.untrained import read_untrained
from mammi.vlms import Annotator, comparable, refuse_too_many

__all__ = ["Asked", "Question", "Witness", "ask", "open_asked", "refuse_opinions"]

#: Methods that explain a unit by a formula of several concepts: two formulas are hardly ever the same.
FORMULAS = ("invert", "linear")


def refuse_opinions(method: str, recipe: Method, vlms: Sequence[Annotator]) -> None:
    """Refuse second opinions where there can be none: better before the first film than after the last.

    Raises:
        InputError: if the method does not name units through an annotator, or names them by formulas; or two of the
            annotators, the naming one first, are the same.
    """
    if recipe.needs in ("labels", "areas"):
        what = "a label table" if recipe.needs == "labels" else "masks"
        raise InputError(
            f"method {method!r} names units from {what}, not through an annotator: there is no second opinion to ask for"
        )
    if method in FORMULAS:
        raise InputError(
            f"method {method!r} names a unit by a formula of several concepts, and formulas are not compared: take "
            "a method that names by single concepts, such as mammi or calibrated"
        )
    for place, vlm in enumerate(vlms):
        twin = next((other for other in vlms[:place] if other.fingerprint == vlm.fingerprint), None)
        if twin is not None:
            raise InputError(
                f"{Path(vlm.name).name} has the weights and the preprocessing of {Path(twin.name).name}: an annotator "
                "gives no second opinion of its own, give another --vlm"
            )


@dataclass(frozen=True)
class Question:
    """One opinion: of which annotator, asked in which wording.

    Attributes:
        vlm: number of the annotator; 0 named the units.
        template: the wording; None for all of the run's, averaged, as the units were named.
    """

    vlm: int
    template: str | None


@dataclass(frozen=True)
class Asked:
    """A run and what its units are asked about with.

    Attributes:
        run: the run.
        recipe: its method.
        concepts: its concept set.
        basis: what is known of its units and films before an annotator has seen them.
        hashes: content of each encoded film.
        films: all films of the run, under salted ids.
        templates: those the units were named with.
    """

    run: Run
    recipe: Method
    concepts: ConceptSet
    basis: Basis
    hashes: list[str] = field(repr=False)
    films: ProbingSet = field(repr=False)
    templates: list[str]

    def selection(self, layer: str) -> Selection:
        """Return the examples of a layer, as the run lists them."""
        rows = self.run.examples[self.run.examples["layer"] == layer].sort_values(["unit", "rank"])
        units, films = (torch.tensor(rows[name].to_numpy(dtype=np.int64)) for name in ("unit", "film"))
        counts = torch.bincount(units, minlength=len(self.run.activations(layer)))
        return Selection(
            films,
            torch.tensor(rows["activation"].to_numpy(dtype=np.float32)),
            torch.cat([counts.new_zeros(1), counts.cumsum(0)]),
        )


def open_asked(run: Run) -> Asked:
    """Read of a run what all annotators are asked about.

    Raises:
        RunError: if a part of it is gone.
        StaleRunError: if its concept set was changed since.
        ImageError: if a film is not where it was.
    """
    identity = run.manifest["identity"]
    method = identity["method"]
    recipe = create_method(method["name"], **method["options"])
    path = run.folder / "concepts.csv"
    if not path.is_file():
        raise RunError(f"{run.folder} has lost its concepts.csv: put it back")
    concepts = ConceptSet.read(path)
    if concepts.fingerprint != identity["concepts"]["fingerprint"]:
        raise StaleRunError(f"{path} is not the concept set that the run was made with: put the old one back")
    films = run_films(run)
    sources = read_json(run.folder / "private" / "films.json")
    n_films = len(run.images)
    chosen = np.arange(n_films)
    if recipe.needs == "examples":
        chosen = np.unique(run.examples["film"].to_numpy(dtype=np.int64))
    rows = run.images["row"].to_numpy(dtype=np.int64)[chosen].tolist()
    # By name, as the run itself numbers them: what is drawn at random for a patient is then the same.
    numbers = np.unique([sources[row]["patient"] for row in rows], return_inverse=True)[1]
    store = ActivationStore(run.folder, n_films, 1)
    control = None
    if wants_control(recipe):
        units, places = read_untrained(store, run.layers, n_films)
        control = units, torch.from_numpy(places)
    template = identity["template"]
    return Asked(
        run=run,
        recipe=recipe,
        concepts=concepts,
        basis=Basis(recipe, store, chosen, torch.from_numpy(numbers.astype(np.int64)), control=control),
        hashes=[sources[row]["sha256"] for row in rows],
        films=films,
        templates=[template] if isinstance(template, str) else list(template),
    )


@dataclass(frozen=True)
class Witness:
    """One annotator, its embeddings kept under its own content: whoever asks again encodes nothing twice.

    Attributes:
        asked: the run.
        vlm: the annotator.
        naming: whether it named the units: its embeddings are the run's own then.
        batch_size: films per call of the model.
        engine: who does the work.
        progress: told of every batch.
    """

    asked: Asked
    vlm: Annotator
    naming: bool
    batch_size: int
    engine: Engine
    progress: Progress

    @property
    def _folder(self) -> Path:
        return self.asked.run.folder / "opinions" / self.vlm.fingerprint[:24]

    def _report(self, step: str, done: int, total: int) -> None:
        """Tell of a step under the annotator's name: it is one of several."""
        self.progress(f"{step}, {Path(self.vlm.name).name}", done, total)

    def films(self) -> Tensor:
        """Return its rows of the encoded films, float32 ``(n_chosen, d_image)``.

        Raises:
            StaleRunError: if a film that must be encoded is not the one that the run recorded.
        """
        asked, run = self.asked, self.asked.run
        folder = run.folder / "embeddings" if self.naming else self._folder
        if any(not path.is_file() for _, path in embedding_chunks(folder, "films", asked.hashes)):
            found = asked.films.subset(asked.basis.chosen).fingerprints(self.progress)
            changed = sum(now != then for now, then in zip(found, asked.hashes, strict=True))
            if changed:
                raise StaleRunError(
                    f"{changed} films were changed since {run.folder} was recorded: put the old ones back"
                )
        films = embed_films(
            self.vlm,
            asked.films,
            asked.basis.chosen.tolist(),
            asked.hashes,
            folder,
            batch_size=self.batch_size,
            engine=self.engine,
            progress=self._report,
        )
        return torch.from_numpy(films)

    def _texts(self, template: str) -> tuple[Tensor, Tensor]:
        """Return its rows of every concept in one template, and of the template alone, 0 or 1 row."""
        terms, templates = self.asked.concepts.terms, self.asked.templates
        own = self.naming and template in templates
        wanted = templates if own else [template]
        folder = self.asked.run.folder / "embeddings" if own else self._folder
        texts = texts_to_ask(terms, wanted)
        rows = torch.from_numpy(embed_texts(self.vlm, texts, folder, engine=self.engine, progress=self._report))
        n_asked, place = len(terms) * len(wanted), wanted.index(template)
        bare = [text for text in wanted if len(texts_to_ask([], [text]))]
        alone = rows[n_asked + bare.index(template) :][:1] if template in bare else rows[:0]
        return rows[place : n_asked : len(wanted)], alone

    def rows(self, films: Tensor, template: str | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return films, concepts and the bare template as a method takes them; None for the run's templates, averaged."""
        templates = self.asked.templates if template is None else [template]
        parts = [self._texts(text) for text in templates]
        concepts = torch.stack([part for part, _ in parts], dim=1).flatten(0, 1)
        texts = torch.cat([concepts, *(alone for _, alone in parts)])
        return comparable(self.vlm, films, texts, len(self.asked.concepts), len(templates))


def ask(
    witness: Witness, number: int, templates: Sequence[str | None], *, with_scores: bool
) -> tuple[dict[Question, pd.DataFrame], dict[str, Tensor]]:
    """Ask one annotator about every unit, in several wordings.

    Args:
        witness: the annotator.
        number: which one it is.
        templates: the wordings; None for the run's, averaged.
        with_scores: whether the scores of the first wording are wanted.

    Returns:
        The annotations of each opinion, as `mammi.store.Run.annotations` has them; and by layer the scores of the first
        wording, float64 ``(n_units, n_concepts)`` in a file that goes with the table, NaN for a unit without an example.
    """
    asked = witness.asked
    refuse_too_many(witness.vlm, len(asked.hashes), len(asked.concepts))
    films = witness.films()
    name = Path(witness.vlm.name).name
    tables: dict[Question, pd.DataFrame] = {}
    scores: dict[str, Tensor] = {}
    for template in templates:
        rows = witness.rows(films, template)
        parts = []
        for layer in asked.run.layers:
            selection = asked.selection(layer)
            table = None
            if with_scores and template == templates[0]:
                table = scores[layer] = _on_disk(asked.run.folder, selection.n_units, len(asked.concepts))
            step = f"matching {layer}, {name}" + (f", {template!r}" if template is not None else "")
            match = asked.basis.match(layer, selection, rows, partial(witness.progress, step), table)
            parts.append(annotation_table(layer, match, asked.concepts.terms))
        tables[Question(number, template)] = pd.concat(parts, ignore_index=True)
    return tables, scores


def _on_disk(folder: Path, n_units: int, n_concepts: int) -> Tensor:
    """Return a table of NaN that need not fit in memory."""
    with tempfile.TemporaryFile(dir=folder) as file:
        shape = (max(1, n_units), n_concepts)
        values = np.memmap(file, dtype=np.float64, mode="w+", shape=shape)
    values[:] = np.nan
    return torch.from_numpy(values)[:n_units]
