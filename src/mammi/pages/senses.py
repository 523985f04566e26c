"""Which films belong to which sense of a unit that has two, told from the stored embeddings where they are there."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammi.errors import RunError
from mammi.pages.galleries import gallery
from mammi.pages.view import RunView
from mammi.store.embeddings import CHUNK, embedding_chunks, read_embeddings
from mammi.store.files import read_array, read_json

__all__ = ["Embedded", "sense_galleries"]

#: Films shown of a sense.
SHOWN = 6
#: Films looked at, the strongest, and how many standard deviations above average they must be: as `calibrated` has it,
#: but fewer, since only some are shown.
LOOKED_AT, LEVEL = 60, 1.5


@dataclass(frozen=True)
class Embedded:
    """The embeddings of a run's films and concepts.

    Attributes:
        paths: the chunks of films, in order.
        concepts: unit rows by term, ``(d_embed,)`` each.
        mean: of all films, ``(d_embed,)``.
        covariance: of all films, ``(d_embed, d_embed)``.
    """

    paths: list[Path]
    concepts: dict[str, NDArray[np.float64]]
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]

    @classmethod
    def of(cls, view: RunView) -> "Embedded | None":
        """Read the embeddings of a run; None where not all of its films were encoded or the hashes of films are gone."""
        folder, identity = view.run.folder, view.run.manifest["identity"]
        if view.run.manifest["counts"].get("encoded") != len(view.films):
            return None
        if view.run.manifest["vlm"].get("scores_pairs"):  # its rows mean nothing without the model
            return None
        try:
            sources = read_json(folder / "private" / "films.json")
            hashes = [sources[row]["sha256"] for row in view.run.images["row"].tolist()]
            paths = [path for _, path in embedding_chunks(folder / "embeddings", "films", hashes)]
            return cls(paths, _concepts(view, identity["template"]), *_moments(paths))
        except RunError:  # private parts or embeddings were left out when the run was passed on
            return None

    def alike(self, films: NDArray[np.int64], concepts: tuple[str, str]) -> NDArray[np.float64]:
        """Return how alike films are to two concepts, each in standard deviations over all films: ``(n, 2)``."""
        rows = np.stack([np.load(self.paths[n // CHUNK], mmap_mode="r", allow_pickle=False)[n % CHUNK] for n in films])
        directions = np.stack([self.concepts[concept] for concept in concepts], axis=1)
        spread = np.sqrt(np.einsum("dc,de,ec->c", directions, self.covariance, directions))
        found: NDArray[np.float64] = (_unit(rows) - self.mean) @ directions / np.maximum(spread, 1e-300)
        return found


def sense_galleries(view: RunView, activation: NDArray[np.float32], kept: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the senses of a unit, each with its strongest films.

    A film of the strongest belongs to the sense whose concept it is more like, both likenesses in standard deviations
    over all films, as the method has it that found the senses.

    Args:
        view: the run.
        activation: the unit's activation on every film.
        kept: its kept concepts, best first, with ``sense``, ``purity`` and ``effect``.

    Returns:
        One entry a sense: ``sense``, ``concepts``, ``purity``, ``films`` (a gallery, or None where it cannot be told);
        empty for a unit with one sense.
    """
    senses = sorted({entry["sense"] for entry in kept} - {0})
    if len(senses) != 2:
        return []
    of = {sense: [entry for entry in kept if entry["sense"] == sense] for sense in senses}
    leading = (of[senses[0]][0]["concept"], of[senses[1]][0]["concept"])
    embedded = view.once("embedded", lambda: Embedded.of(view))
    chosen: list[list[int] | None] = [None, None]
    if embedded is not None and all(concept in embedded.concepts for concept in leading):
        # Where the concept's absence excites the unit, its weakest films are the telling ones.
        side = -activation if (kept[0]["effect"] or 0) < 0 else activation
        usable = np.flatnonzero(np.isfinite(side))
        strong = usable[np.argsort(-side[usable], kind="stable")[:LOOKED_AT]]
        values = side[usable].astype(np.float64)
        strong = strong[side[strong] > values.mean() + LEVEL * values.std()]
        if len(strong):
            alike = embedded.alike(strong, leading)
            first = alike[:, 0] > alike[:, 1]
            chosen = [[int(film) for film in strong[part][:SHOWN]] for part in (first, ~first)]
    return [
        {
            "sense": sense,
            "concepts": [entry["concept"] for entry in of[sense]],
            "purity": of[sense][0]["purity"],
            "films": None if films is None else gallery(view, films, activation),
        }
        for sense, films in zip(senses, chosen, strict=True)
    ]


def _unit(rows: NDArray[Any]) -> NDArray[np.float64]:
    wide = rows.astype(np.float64)
    unit: NDArray[np.float64] = wide / np.maximum(np.linalg.norm(wide, axis=-1, keepdims=True), 1e-300)
    return unit


def _concepts(view: RunView, template: str | list[str]) -> dict[str, NDArray[np.float64]]:
    """Return the concepts as they were asked: the mean over the templates, at unit length."""
    terms = [str(term) for term in view.concepts.index]
    templates = [template] if isinstance(template, str) else template
    bare = [text for asked in templates if (text := " ".join(asked.replace("{}", " ").split()))]
    texts = [*(asked.replace("{}", term) for term in terms for asked in templates), *bare]
    rows = _unit(read_embeddings(view.run.folder / "embeddings", "texts", texts))[: len(terms) * len(templates)]
    asked_for = _unit(rows.reshape(len(terms), len(templates), -1).mean(axis=1))
    return dict(zip(terms, asked_for, strict=True))


def _moments(paths: list[Path]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    total: NDArray[np.float64] | float = 0.0
    products: NDArray[np.float64] | float = 0.0
    n_films = 0
    for path in paths:
        rows = _unit(read_array(path))
        total, products, n_films = total + rows.sum(axis=0), products + rows.T @ rows, n_films + len(rows)
    mean = np.asarray(total / n_films)
    return mean, np.asarray(products / n_films) - np.outer(mean, mean)
