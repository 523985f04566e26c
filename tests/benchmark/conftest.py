"""One small probing set for all tests of the benchmark, and what was drawn for it."""

import pytest

from mammi.benchmark import material as rooms
from mammi.benchmark import phantom_material

FILMS, SEED = 120, 0


@pytest.fixture(scope="session")
def drawn():
    """Arguments of every cohort that the material was drawn from: number of films and seed."""
    return []


@pytest.fixture(scope="session")
def material(drawn):
    draw = rooms._drawn

    def noted(n_films, seed, *rest):
        drawn.append((n_films, seed))
        return draw(n_films, seed, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rooms, "_drawn", noted)
        return phantom_material(FILMS, SEED)
