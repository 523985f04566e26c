"""What a name is worth: against films dealt anew, on patients who did not choose it, in other draws of patients."""

from collections.abc import Iterable
from itertools import product

import torch
from torch import Tensor

from mammi.functional.film_sums import film_sums
from mammi.functional.tiles import unit_tiles
from mammi.functional.tilt import standardised, tilt, unit_columns
from mammi.methods.weighing import EFFECT_TEMPERATURE, TEMPERATURES, Ground, WeighedUnits

__all__ = ["effective_patients", "held_out_effects", "shuffled_maxima", "stability", "untrained_effects"]

#: Scores whose largest is taken at once: they never leave the processor's cache.
SCORES = 2**20


def shuffled_maxima(activations: Tensor, ground: Ground, shuffles: Iterable[Tensor]) -> Tensor:
    """Return the largest evidence that units find when films are dealt anew, at any temperature and side.

    Args:
        activations: of some units, ``(n_films, n_units)``.
        ground: films and concepts.
        shuffles: the film that takes the place of each film, int64 ``(n_films,)``, as often as wanted.

    Returns:
        Float64, ``(n_shuffles, n_units)``.
    """
    standard = standardised(activations)
    n_units = standard.shape[1]
    weights = torch.empty((len(standard), 2 * len(TEMPERATURES) * n_units))
    for part, (sign, heat) in enumerate(product((1, -1), TEMPERATURES)):
        weights[:, part * n_units : (part + 1) * n_units] = unit_columns(tilt(sign * standard, heat))
    films, concepts = ground.single
    found = [_largest_score(film_sums(weights, films, dealt), concepts) for dealt in shuffles]
    return torch.stack(found).reshape(len(found), -1, n_units).amax(dim=1).double()


def untrained_effects(activations: Tensor, ground: Ground) -> tuple[Tensor, Tensor]:
    """Return what the units of an untrained network show of each concept, on either side.

    Args:
        activations: ``(n_films, n_units)``, no unit constant.
        ground: these films, and the concepts.

    Returns:
        The largest effect and the root mean square of all, each ``(n_concepts,)``.
    """
    most, squares = torch.full_like(ground.spread, -torch.inf), torch.zeros_like(ground.spread)
    for units in ground.tiles(activations.shape[1]):
        standard = standardised(activations[:, units])
        for side in (standard, -standard):
            weights = tilt(side, EFFECT_TEMPERATURE)
            means = weights.T @ ground.films / weights.sum(dim=0)[:, None]
            shown = ground.effects(means - ground.centre).nan_to_num_()
            most = torch.maximum(most, shown.amax(dim=0))
            squares += shown.square_().sum(dim=0)
    return most, (squares / (2 * activations.shape[1])).sqrt()


def held_out_effects(units: WeighedUnits, folds: Tensor) -> tuple[Tensor, Tensor]:
    """Let part of the patients choose each unit's concept and the rest measure it.

    Args:
        units: a block of units.
        folds: the part that each film's patient is dealt to, int64 ``(n_films,)``.

    Returns:
        The mean effect over the parts, ``(n_units,)``; and the films' mean as each unit weighs them all, less their
        plain mean, ``(n_units, d_embed)``.
    """
    ground, tilted = units.ground, tilt(units.standard, EFFECT_TEMPERATURE)
    lean, total, n_measured = torch.zeros_like(units.projections), torch.zeros_like(tilted[0]), 0
    for fold in torch.unique(folds).tolist():
        held = folds == fold
        centred, weights = ground.films[held] - ground.centre, tilted[held]
        shown = weights.T @ centred
        lean += shown
        if bool(held.all()):
            continue
        found = ground.evidence(_projected_elsewhere(units, held, centred))
        chosen = found.sub_(units.hub * _largest(found)).argmax(dim=1)
        effect = (shown / weights.sum(dim=0)[:, None] * ground.concepts[chosen]).sum(dim=1) / ground.spread[chosen]
        total += effect.masked_fill(ground.spread[chosen] == 0, 0.0) * len(centred)
        n_measured += len(centred)
    return total / max(n_measured, 1), lean / tilted.sum(dim=0)[:, None]


def _projected_elsewhere(units: WeighedUnits, held: Tensor, centred: Tensor) -> Tensor:
    """Project units on the films that are not held out, from all films and those; of any length, ``(n, d_embed)``."""
    mean, n_films = units.weights.mean(dim=0), len(held)
    own = units.weights[held] - mean
    # Of weights and films less their means the sums over all films are 0: over the others, those held out turned round.
    length = units.weights.std(dim=0, correction=0) * n_films**0.5
    shift = -own.sum(dim=0) / (n_films - len(own))
    found: Tensor = units.projections * length[:, None] - own.T @ centred + shift[:, None] * centred.sum(dim=0)
    # Told by the weights: of weights that never vary, only rounding is left.
    low, high = units.weights[~held].aminmax(dim=0)
    found *= (high > low)[:, None]
    return found


def stability(
    units: WeighedUnits,
    draws: Iterable[Tensor],
    near: tuple[Tensor, Tensor],
    others: Tensor,
    second: Tensor,
    threshold: float,
) -> tuple[Tensor, Tensor]:
    """Return the share of resamples of the patients in which concepts are near the best.

    Args:
        units: a block of units.
        draws: how often each film is in a resample, int64 ``(n_films,)``, as often as wanted.
        near: the units and concepts that are asked about, each int64 ``(n,)``.
        others: concepts unrelated to a unit's first, bool ``(n_units, n_concepts)``.
        second: the one of them that is asked about, int64 ``(n_units,)``; one that is related is never near.
        threshold: share of the best score that counts as near.

    Returns:
        Near the best of all, ``(n,)``; and near the best of the others, ``(n_units,)``.
    """
    films, concepts = units.ground.single
    every, related, hub = torch.arange(len(second)), ~others, units.hub.float()
    # The last column sums the films as they were drawn.
    weights = torch.cat([unit_columns(units.weights).float(), torch.ones(len(films), 1)], dim=1)
    counts, next_counts, n_draws = torch.zeros(len(near[0])), torch.zeros(len(second)), 0
    for drawn in draws:
        rows = drawn.nonzero().flatten()
        drawn_weights = weights[rows] * (drawn[rows].float() / drawn.sum())[:, None]
        sums = film_sums(drawn_weights, films, rows)
        sums = sums[:-1] - drawn_weights.sum(dim=0)[:-1, None] * sums[-1]
        found = sums if concepts is None else sums @ concepts.T
        found.div_(_largest(found)).sub_(hub)
        counts += found[near] >= threshold * found.amax(dim=1)[near[0]]
        found.masked_fill_(related, -torch.inf)
        next_counts += others[every, second] & (found[every, second] >= threshold * found.amax(dim=1))
        n_draws += 1
    return counts.double() / n_draws, next_counts.double() / n_draws


def effective_patients(units: WeighedUnits, patients: Tensor) -> Tensor:
    """Return how many patients a unit rests on, ``(n_units,)``.

    One over the sum of squared shares of the patients in the weight above the unit's average.

    Args:
        units: a block of units.
        patients: number of each film's patient.
    """
    numbers = torch.unique(patients, return_inverse=True)[1]
    above = (units.weights - units.weights.mean(dim=0)).clamp_(min=0)
    by_patient = above.new_zeros((int(numbers.max()) + 1, above.shape[1])).index_add_(0, numbers, above)
    share = by_patient / by_patient.sum(dim=0).clamp(min=1e-300)
    count: Tensor = 1 / share.square_().sum(dim=0).clamp(min=1e-300)
    return count


def _largest(scores: Tensor) -> Tensor:
    """Return the largest score of either sign, ``(n_units, 1)``, above 0."""
    low, high = scores.aminmax(dim=1, keepdim=True)
    largest: Tensor = torch.maximum(high, -low).clamp_(min=1e-30)
    return largest


def _largest_score(sums: Tensor, concepts: Tensor | None) -> Tensor:
    """Return the largest score of each row of sums, over all concepts."""
    if concepts is None:
        return sums.amax(dim=1)
    tiles = unit_tiles(len(concepts), len(sums), SCORES)
    return torch.stack([(sums @ concepts[tile].T).amax(dim=1) for tile in tiles]).amax(dim=0)
