"""A small layer, and loops over it written from the formulas on the page of the method."""

import math

import numpy as np
import torch

from mammi.methods.weighing import Ground, WeighedLayer


def rows(table):
    return table / np.linalg.norm(table, axis=1, keepdims=True)


def problem(seed=0, n_films=17, n_units=6, n_concepts=5, d_embed=4):
    """Units that are noise, one for a concept, one against it, one with ties, one tiny; concepts of unequal spread."""
    rng = np.random.default_rng(seed)
    films = rows(rng.normal(size=(n_films, d_embed)) * [1, 0.6, 0.3, 0.1] + [0.5, 0, 0, 1])
    concepts = rows(abs(rng.normal(size=(n_concepts, d_embed))))
    similar = films @ concepts.T
    activations = rng.normal(size=(n_films, n_units))
    activations[:, 1] = similar[:, 2] * 1e6
    activations[:, 2] = -similar[:, 2]
    activations[:, 3] = activations[:, 3] > 0.7
    activations[:, 4] = 1e-9 * np.exp(activations[:, 4])
    return activations, films, concepts, np.sort(rng.integers(0, 8, size=n_films))


def layer_of(activations, films, concepts, hub_strength=0.5):
    activations, films, concepts = map(torch.from_numpy, (activations, films, concepts))
    ground = Ground.of(films, concepts)
    return WeighedLayer.of(lambda units: activations[:, units], activations.shape[1], ground, hub_strength)


def block_of(activations, films, concepts, hub_strength=0.5):
    return layer_of(activations, films, concepts, hub_strength).block(slice(0, activations.shape[1]))


def standard(column):
    return (column - column.mean()) / column.std()


def weights_of(column, heat):
    return np.array([math.exp(heat * min(z, 5)) for z in standard(column)])


def evidence_of(weights, films, directions):
    centred = weights - weights.mean()
    if weights.max() == weights.min():
        return np.zeros(len(directions))
    centred = centred / math.sqrt((centred**2).sum())
    return np.array([sum(w * float(film @ d) for w, film in zip(centred, films, strict=True)) for d in directions])


def directions_of(films, concepts):
    spread = np.array([np.std([film @ concept for film in films]) for concept in concepts])
    return concepts / (spread + 0.25 * np.sort(spread)[(len(spread) - 1) // 2])[:, None], spread


def slow_layer(activations, films, concepts, strength):
    """Side, weights, evidence and scores of every unit, one at a time."""
    directions, _ = directions_of(films, concepts)
    sides = {}
    for name, sign in (("present", 1), ("absent", -1)):
        found = []
        for column in activations.T:
            tried = [(weights_of(sign * column, heat), heat) for heat in (0.5, 1.0)]
            scored = [(evidence_of(w, films, directions), w) for w, _ in tried]
            found.append(scored[int(scored[1][0].max() > scored[0][0].max())])
        sides[name] = found
    scores, layer = {}, []
    for name, found in sides.items():
        relative = np.array([raw / abs(raw).max() for raw, _ in found])
        half = math.ceil(len(found) / 2)
        hub = np.array([np.sort(column)[::-1][:half].mean() for column in relative.T])
        scores[name] = [abs(raw).max() * (r - strength * hub) for (raw, _), r in zip(found, relative, strict=True)]
    for unit in range(activations.shape[1]):
        turned = sides["absent"][unit][0].max() > 2 * sides["present"][unit][0].max()
        name = "absent" if turned else "present"
        raw, weights = sides[name][unit]
        layer.append((turned, weights, raw, scores[name][unit] / math.sqrt(len(films))))
    return layer
