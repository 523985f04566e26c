"""One small probing set for all tests of the benchmark, and what was drawn for it."""

import pytest

from mammi.benchmark import held_out_truth, phantom_material
from mammi.benchmark import material as rooms

FILMS, SEED, HELD_OUT = 120, 0, 60


@pytest.fixture(scope="session")
def drawn():
    """Arguments of every cohort that the material was drawn from: number of films and seed."""
    return []


@pytest.fixture(scope="session")
def made(drawn):
    """The truth from held-out films, and the material."""
    draw = rooms._drawn

    def noted(n_films, seed, *rest):
        drawn.append((n_films, seed))
        return draw(n_films, seed, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rooms, "_drawn", noted)
        truth = held_out_truth(HELD_OUT)
        return truth, phantom_material(FILMS, SEED, truth)


@pytest.fixture(scope="session")
def truth(made):
    return made[0]


@pytest.fixture(scope="session")
def material(made):
    return made[1]
