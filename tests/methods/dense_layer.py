"""The weighed layer in dense algebra, whole at once: what the layer in blocks is held to."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mammi.functional.chance import patient_folds, patient_resamples
from mammi.functional.tilt import (
    concept_directions,
    evidence,
    hub_corrected,
    standardised,
    tilt,
)

__all__ = ["DenseLayer"]

#: Temperatures tried for each unit: the softer is nearly a correlation, the sharper suits units that seldom fire.
TEMPERATURES = (0.5, 1.0)
#: Temperature at which effects are stated, the same for all units so that they can be compared.
EFFECT_TEMPERATURE = 1.0
#: A unit is said to fire when a concept is absent only if that is so many times as evident as any concept's presence.
ABSENCE_MARGIN = 2.0
#: Concepts whose similarities correlate at least so much over the films are related: two names for much the same films.
RELATED = 0.5
#: Parts that patients are dealt to, so that one part measures what the others chose.
FOLDS = 5


@dataclass(frozen=True)
class DenseLayer:
    """The evidence for the units of one layer: that a concept is present or, where that is far clearer, absent.

    Attributes:
        standard: standardised activations, ``(n_films, n_units)``; turned over for units that fire when their concept
            is absent.
        films: unit rows, ``(n_films, d_embed)``.
        concepts: unit rows, ``(n_concepts, d_embed)``.
        directions: concepts over their spread, ``(n_concepts, d_embed)``.
        spread: standard deviation of each concept's similarity, ``(n_concepts,)``.
        weights: weights of the films at each unit's own temperature, ``(n_films, n_units)``.
        raw: evidence at that temperature, ``(n_units, n_concepts)``.
        hub: what is taken off for the layer, as a share of a unit's largest evidence, ``(n_units, n_concepts)``.
        scores: evidence less the hubs' share, on the scale of a correlation, ``(n_units, n_concepts)``.
        absent: whether a unit fires when its concept is absent, ``(n_units,)``.
    """

    standard: Tensor
    films: Tensor
    concepts: Tensor
    directions: Tensor
    spread: Tensor
    weights: Tensor
    raw: Tensor
    hub: Tensor
    scores: Tensor
    absent: Tensor

    @classmethod
    def of(cls, activations: Tensor, films: Tensor, concepts: Tensor, hub_strength: float) -> "DenseLayer":
        """Weigh a layer; no unit may be constant."""
        standard = standardised(activations)
        directions, spread = concept_directions(films, concepts)
        present, absent = (_sharpest(side, films, directions) for side in (standard, -standard))
        turned = absent[1].amax(dim=1) > ABSENCE_MARGIN * present[1].amax(dim=1)
        raw = torch.where(turned[:, None], absent[1], present[1])
        corrected = torch.where(
            turned[:, None], hub_corrected(absent[1], hub_strength), hub_corrected(present[1], hub_strength)
        )
        return cls(
            standard=torch.where(turned, -standard, standard),
            films=films,
            concepts=concepts,
            directions=directions,
            spread=spread,
            weights=torch.where(turned, absent[0], present[0]),
            raw=raw,
            hub=(raw - corrected) / _largest(raw),
            scores=corrected / len(films) ** 0.5,
            absent=turned,
        )

    def similarities(self, concepts: Tensor) -> Tensor:
        """Return the standardised similarity of every film with some concepts, ``(n_films, n)``."""
        centred = self.films - self.films.mean(dim=0)
        return centred @ self.concepts[concepts].T / self.spread[concepts].clamp(min=1e-300)

    def unrelated(self, first: Tensor) -> Tensor:
        """Tell which concepts are no other name for a unit's first: bool, ``(n_units, n_concepts)``."""
        covariance = (centred := self.films - self.films.mean(dim=0)).T @ centred / len(self.films)
        scaled = self.concepts / self.spread.clamp(min=1e-300)[:, None]
        return (scaled[first] @ covariance) @ scaled.T < RELATED

    def shuffled_maxima(self, shuffles: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield the largest evidence that each unit finds when films are dealt anew, at any temperature and side.

        Args:
            shuffles: the film that takes the place of each film, int64 ``(n_films,)``, as often as wanted.
        """
        sides = [tilt(side, heat) for side in (self.standard, -self.standard) for heat in TEMPERATURES]
        weights = torch.cat([_unit_columns(side) for side in sides], dim=1).float()
        # Single precision is enough for a null, and three times as quick.
        films, directions = (self.films - self.films.mean(dim=0)).float(), self.directions.float()
        for dealt in shuffles:
            found = (weights.T @ films[dealt]) @ directions.T
            yield found.amax(dim=1).reshape(len(sides), -1).amax(dim=0).double()

    def effects(self, *, turned: bool = False) -> Tensor:
        """Return the effect of every concept over all films, ``(n_units, n_concepts)``; NaN where none can vary.

        Args:
            turned: of the other side: the films that excite a unit least.
        """
        weights = tilt(-self.standard if turned else self.standard, EFFECT_TEMPERATURE)
        means = weights.T @ self.films / weights.sum(dim=0)[:, None] - self.films.mean(dim=0)
        return means @ self.concepts.T / torch.where(self.spread > 0, self.spread, torch.nan)

    def held_out_effects(self, patients: Tensor, seed: int) -> Tensor:
        """Let part of the patients choose each unit's concept and the rest measure it: mean over parts, ``(n_units,)``."""
        folds = patient_folds(patients, FOLDS, seed)
        weights = tilt(self.standard, EFFECT_TEMPERATURE)
        centre = self.films.mean(dim=0)
        total, n_films = torch.zeros(weights.shape[1], dtype=torch.float64), 0
        for fold in range(FOLDS):
            held = folds == fold
            if bool(held.any()) and not bool(held.all()):
                found = evidence(self.weights[~held], self.films[~held], self.directions)
                chosen = (found - _largest(found) * self.hub).argmax(dim=1)
                effect = tilted_effects(
                    weights[held], self.films[held], self.concepts[chosen], self.spread[chosen], centre
                )
                total += effect.nan_to_num() * int(held.sum())
                n_films += int(held.sum())
        return total / max(n_films, 1)

    def stability(
        self, patients: Tensor, others: Tensor, threshold: float, resamples: int, seed: int
    ) -> tuple[Tensor, Tensor]:
        """Return the share of resamples of the patients in which each concept is near the best.

        Args:
            patients: number of each film's patient.
            others: concepts unrelated to a unit's first, bool ``(n_units, n_concepts)``.
            threshold: share of the best score that counts as near.
            resamples: how many.
            seed: of the draws.

        Returns:
            Near the best of all, and near the best of the others: each ``(n_units, n_concepts)``.
        """
        near, next_near = torch.zeros_like(self.scores), torch.zeros_like(self.scores)
        films, directions, hub = self.films.float(), self.directions.float(), self.hub.float()
        weights = self.weights.float()
        for drawn in patient_resamples(patients, resamples, seed):
            share = drawn.float() / drawn.sum()
            centred = (weights - share @ weights) * share[:, None]
            found = (centred.T @ (films - share @ films)) @ directions.T
            found = found / _largest(found) - hub
            near += found >= threshold * found.amax(dim=1, keepdim=True)
            found = found.masked_fill(~others, -torch.inf)
            next_near += others & (found >= threshold * found.amax(dim=1, keepdim=True))
        return near / resamples, next_near / resamples

    def effective_patients(self, patients: Tensor) -> Tensor:
        """Return how many patients a unit rests on, ``(n_units,)``.

        One over the sum of squared shares of the patients in the weight above the unit's average.
        """
        numbers = torch.unique(patients, return_inverse=True)[1]
        above = (self.weights - self.weights.mean(dim=0)).clamp(min=0)
        by_patient = above.new_zeros((int(numbers.max()) + 1, above.shape[1])).index_add_(0, numbers, above)
        share = by_patient / by_patient.sum(dim=0).clamp(min=1e-300)
        count: Tensor = 1 / share.square().sum(dim=0).clamp(min=1e-300)
        return count


def _largest(scores: Tensor) -> Tensor:
    largest: Tensor = scores.abs().amax(dim=1, keepdim=True).clamp(min=1e-30)
    return largest


def _unit_columns(weights: Tensor) -> Tensor:
    centred = weights - weights.mean(dim=0)
    lengths: Tensor = torch.linalg.vector_norm(centred, dim=0).clamp(min=1e-300)
    return centred / lengths


def _sharpest(standard: Tensor, films: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Return weights and evidence at the temperature that finds most in each unit; the softer one where they tie."""
    weights = tilt(standard, TEMPERATURES[0])
    found = evidence(weights, films, directions)
    for heat in TEMPERATURES[1:]:
        tried = tilt(standard, heat)
        scores = evidence(tried, films, directions)
        better = scores.amax(dim=1) > found.amax(dim=1)
        weights = torch.where(better, tried, weights)
        found = torch.where(better[:, None], scores, found)
    return weights, found


def tilted_effects(weights, films, concepts, spread, centre):
    """How many standard deviations more of its concept films show when they are weighed by the unit."""
    means = weights.T @ films / weights.sum(dim=0)[:, None]
    return ((means - centre) * concepts).sum(dim=1) / torch.where(spread > 0, spread, torch.nan)
