r"""Units found by any words, and by a film: what the run recorded, asked anew.

The words become a direction :math:`t` in the space of the run's vision-language model, put as its concepts were; the
score of a unit is the correlation over films of its activation :math:`a_k` with the films' cosines to it:

.. math:: r_k = \frac{\tilde a_k^\top \tilde E\, t}{\|\tilde E\, t\|},

with :math:`\tilde a_k` centred and of unit length and :math:`\tilde E` the centred embeddings of the films. The products
:math:`\tilde a_k^\top \tilde E` do not depend on the words, so each search costs units x width, however many films.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from mammi.errors import InputError, RunError
from mammi.store.embeddings import read_embeddings
from mammi.store.files import read_json
from mammi.store.run import Run
from mammi.types import Progress, no_progress
from mammi.vlms import Annotator

__all__ = ["Standing", "UnitSearch", "WordScores", "open_search", "standing"]

#: Activations held in memory at a time, in numbers: 32 MB.
CELLS = 2**23
#: Below this root mean square over the films the cosines with a text are rounding, and tell nothing apart.
FLAT = 1e-6
#: Chance that any of all units passes the chance line on unrelated films.
LEVEL = 0.05


class WordScores(NamedTuple):
    """How every unit of a layer goes with some words.

    Attributes:
        r: correlation, float64 ``(n_units,)`` in [-1, 1]; NaN for a unit that never varies or is not finite somewhere.
        chance: the correlation that, with a chance of 95 %, no unit of the run reaches on unrelated films; patients are
            counted, not films.
    """

    r: NDArray[np.float64]
    chance: float


class Standing(NamedTuple):
    """Where activations of one film stand among those of the run's films, unit by unit.

    Attributes:
        percentile: share of films below, those equal counting half: float64 ``(n_units,)`` in [0, 1].
        z: standard deviations from the mean of the run's films: float64 ``(n_units,)``; NaN for a unit that never varies.
    """

    percentile: NDArray[np.float64]
    z: NDArray[np.float64]


@dataclass
class UnitSearch:
    """Search by words over one run.

    Attributes:
        run: the run.
        vlm: its vision-language model.
        films: int64 ``(n_encoded,)``, rising: rows of ``run.images`` that are encoded.
        embeddings: of these, centred: float32 ``(n_encoded, d_embed)``.
        complete: whether these are all films of the run. Methods that look at examples only encode only those, which
            are no fair sample: every unit is judged over the films that units were most excited by.
    """

    run: Run
    vlm: Annotator = field(repr=False)
    films: NDArray[np.int64] = field(repr=False)
    embeddings: NDArray[np.float32] = field(repr=False)
    complete: bool
    _products: dict[str, NDArray[np.float32]] = field(default_factory=dict, repr=False)
    _scatter: NDArray[np.float64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._scatter = sum(
            (np.asarray(rows.T @ rows, np.float64) for rows in _blocks(self.embeddings)),
            start=np.zeros((self.embeddings.shape[1],) * 2),
        )

    @cached_property
    def n_patients(self) -> int:
        """Number of patients of the encoded films."""
        return int(self.run.images["patient"].iloc[self.films].nunique())

    def prepare(self, progress: Progress = no_progress) -> None:
        """Make ready what searches need of every layer: one pass over the activations."""
        for done, layer in enumerate(self.run.layers, start=1):
            self._product(layer)
            progress("reading units for the search", done, len(self.run.layers))

    def direction(self, words: str) -> NDArray[np.float64]:
        """Return the direction of some words, put to the model as the run's concepts were; float64 ``(d_embed,)``.

        Raises:
            InputError: if there are none.
            VlmError: if the model cannot encode them.
        """
        asked = " ".join(words.split())
        if not asked:
            raise InputError("nothing to search for: give one or more words")
        template = self.run.manifest["identity"]["template"]
        templates = [template] if isinstance(template, str) else template
        rows = self.vlm.embed_texts([text.replace("{}", asked) for text in templates]).double().numpy()
        mean: NDArray[np.float64] = rows.mean(axis=0)
        return mean / max(float(np.linalg.norm(mean)), 1e-300)

    def scores(self, direction: NDArray[np.float64], layer: str) -> WordScores:
        """Score every unit of a layer.

        Args:
            direction: from `direction`.
            layer: one of the run's.

        Raises:
            UnknownNameError: if the run holds no such layer.
            InputError: if all films are equally like the words.
        """
        length = max(float(direction @ self._scatter @ direction), 0.0) ** 0.5
        if length <= FLAT * len(self.films) ** 0.5:
            raise InputError("all films are equally like these words, so they tell no units apart: try others")
        r = self._product(layer) @ direction / length
        n_units = sum(int(known["n_units"]) for known in self.run.manifest["layers"])
        free = max(self.n_patients - 1, 1)
        chance = min(1.0, float(norm.isf(LEVEL / max(n_units, 1))) / free**0.5)
        return WordScores(np.clip(r, -1, 1), chance)

    def _product(self, layer: str) -> NDArray[np.float32]:
        """Return the products of the standardised units with the embeddings: float32 ``(n_units, d_embed)``."""
        if layer not in self._products:
            activations = self.run.activations(layer)
            found = np.empty((len(activations), self.embeddings.shape[1]), np.float32)
            whole = len(self.films) == activations.shape[1]
            for rows in _slices(len(activations), activations.shape[1]):
                block = np.asarray(activations[rows] if whole else activations[rows][:, self.films])
                found[rows] = _standard(block) @ self.embeddings
            self._products[layer] = found
        return self._products[layer]


def _standard(block: NDArray[np.float32]) -> NDArray[np.float32]:
    """Centre each row and scale it to unit length; NaN for a row that never varies or is not finite."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        centred: NDArray[np.float32] = block - block.mean(axis=1, dtype=np.float64, keepdims=True).astype(np.float32)
        centred /= np.abs(centred).max(axis=1, keepdims=True)  # a square of a large activation must not overflow
        lengths = np.sqrt(np.square(centred).sum(axis=1, dtype=np.float64))
        centred /= lengths[:, None].astype(np.float32)
    # The mean of equal numbers may differ from them in the last bit: such a row is rounding blown up.
    centred[~(block.max(axis=1) > block.min(axis=1))] = np.nan
    return centred


def _slices(n_units: int, n_films: int) -> list[slice]:
    step = max(1, CELLS // max(n_films, 1))
    return [slice(start, start + step) for start in range(0, n_units, step)]


def _blocks(rows: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    return [rows[start : start + 4096] for start in range(0, len(rows), 4096)]


def open_search(run: Run, vlm: Annotator) -> UnitSearch:
    """Read the embeddings of a run's films.

    Args:
        run: a complete run.
        vlm: its vision-language model, from `load_vlm`.

    Raises:
        RunError: if no films were encoded, what is needed to find their embeddings was left out of the folder, or the
            model scores pairs itself, so that words have no direction.
    """
    if vlm.scores_pairs:
        raise RunError(f"{run.folder} cannot be searched by words: its annotator scores films and words by itself")
    encoded = int(run.manifest["counts"].get("encoded") or 0)
    films = np.arange(len(run.images)) if encoded == len(run.images) else np.unique(run.examples["film"].to_numpy())
    if not encoded or len(films) != encoded:
        raise RunError(f"{run.folder} holds no embeddings of its films: its method put none of them in words")
    sources = read_json(run.folder / "private" / "films.json")
    keys = [sources[int(row)]["sha256"] for row in run.images["row"].iloc[films]]
    rows = read_embeddings(run.folder / "embeddings", "films", keys).astype(np.float32)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-30))
    rows -= rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    return UnitSearch(run, vlm, films.astype(np.int64), rows, encoded == len(run.images))


def standing(run: Run, layer: str, activation: Sequence[float] | NDArray[np.float32]) -> Standing:
    """Say how unusual one film's activations are among those of the run's films.

    Args:
        run: a complete run.
        layer: one of its layers.
        activation: the film's, float32 ``(n_units,)``.

    Raises:
        UnknownNameError: if the run holds no such layer.
        InputError: if the layer has another number of units.
    """
    recorded = run.activations(layer)
    own = np.asarray(activation, dtype=np.float32)
    if own.shape != (len(recorded),):
        raise InputError(f"layer {layer!r} has {len(recorded)} units, got activations of shape {own.shape}")
    percentile, z = np.empty(len(own)), np.empty(len(own))
    for rows in _slices(*recorded.shape):
        block, mine = recorded[rows], own[rows, None]
        below, equal = (np.count_nonzero(found, axis=1) for found in (block < mine, block == mine))
        percentile[rows] = (below + equal / 2) / recorded.shape[1]
        with np.errstate(invalid="ignore", divide="ignore"):
            mean, spread = block.mean(axis=1, dtype=np.float64), block.std(axis=1, dtype=np.float64)
            varies = block.max(axis=1) > block.min(axis=1)
            z[rows] = np.where(varies, (own[rows] - mean) / spread, np.nan)
    return Standing(percentile, z)
