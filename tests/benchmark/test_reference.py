"""Overlap of units and masks: equal to counting pixels in plain loops, on films that are drawn."""

import numpy as np
import pytest
import torch

from mammi.benchmark import material as rooms
from mammi.benchmark.reference import MASKED_LAYERS, drawn_areas, for_concepts
from mammi.functional.dissection import QUANTILE, SIDE, Areas, upsample
from mammi.phantoms import OUTPUTS, Cohort
from mammi.targets import create_target
from mammi.types import Film

N_FILMS = 3


@pytest.fixture(scope="module")
def films():
    cohort = Cohort(40, 9)
    found = [film for film in map(cohort.film, range(12)) if len(film.masks) > 1][:N_FILMS]
    assert len(found) == N_FILMS
    return found


@pytest.fixture(scope="module")
def maps(films):
    """What the layers give, by hooks of our own."""
    target = create_target("phantom")
    found = {layer: [] for layer in MASKED_LAYERS}
    hooks = [
        target.model.get_submodule(layer).register_forward_hook(lambda *args, layer=layer: found[layer].append(args[2]))
        for layer in MASKED_LAYERS
    ]
    with torch.no_grad():
        for film in films:
            target.model(target.view(Film(film.pixels))[None])
    for hook in hooks:
        hook.remove()
    return {layer: torch.cat(each) for layer, each in found.items()}


def test_counts_are_those_of_plain_loops(films, maps):
    areas = drawn_areas(iter(films))
    assert list(areas) == list(MASKED_LAYERS)
    step = 256 / SIDE
    # A cell shows what the pixel under its centre shows.
    centres = [int((cell + 0.5) * step) for cell in range(SIDE)]
    grids = [{label: mask[np.ix_(centres, centres)] for label, mask in film.masks.items()} for film in films]
    for layer, found in areas.items():
        n_units = maps[layer].shape[1]
        assert found.both.shape == (n_units, len(OUTPUTS))
        for column, label in enumerate(OUTPUTS):
            assert found.concepts[column] == sum(int(grid[label].sum()) for grid in grids if label in grid)
        checked = 0
        for unit in [*range(0, n_units, 17), n_units - 1]:
            values = upsample(maps[layer][:, unit], (SIDE, SIDE)).numpy()
            above = values > np.quantile(values, QUANTILE)
            assert found.units[unit] == above.sum()
            for column, label in enumerate(OUTPUTS):
                both = sum(
                    int((on & grid[label]).sum()) for on, grid in zip(above, grids, strict=True) if label in grid
                )
                assert found.both[unit, column] == both
                checked += both
        assert checked > 0
    assert (areas["layer3"].concepts > 0).sum() >= 2


def test_counts_of_some_units_as_concepts():
    areas = Areas(torch.tensor([[1, 2], [3, 4], [5, 6]]), torch.tensor([10, 20, 30]), torch.tensor([7, 8]))
    found = for_concepts(areas, [2, 0], [3, 1], 5)
    assert found.both.tolist() == [[0, 6, 0, 5, 0], [0, 2, 0, 1, 0]]
    assert found.units.tolist() == [30, 10]
    assert found.concepts.tolist() == [0, 8, 0, 7, 0]
    assert {each.dtype for each in (found.both, found.units, found.concepts)} == {torch.int64}


def test_a_label_is_the_plainest_concept_that_names_it():
    n_units, n_labels = 3, len(OUTPUTS)
    both = torch.arange(n_units * n_labels).reshape(n_units, n_labels)
    areas = Areas(both, torch.tensor([50, 60, 70]), 100 + torch.arange(n_labels))
    terms = [f"left {OUTPUTS[0]}", OUTPUTS[0], "nothing", f"small {OUTPUTS[2]}", f"large {OUTPUTS[2]}"]
    # The second label is named by none.
    named = [frozenset({0, 1}), frozenset(), frozenset({4, 3}), *[frozenset()] * (n_labels - 3)]
    units = [rooms.Planted("layer3", np.zeros(1), frozenset(), index=index) for index in (0, 2)]
    found = rooms._as_concepts(areas, units, named, terms)
    assert found.both.tolist() == [[0, 0, 0, 2, 0], [0, 2 * n_labels, 0, 2 * n_labels + 2, 0]]
    assert found.units.tolist() == [50, 70]
    assert found.concepts.tolist() == [0, 100, 0, 102, 0]
