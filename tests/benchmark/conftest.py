"""One small probing set for all tests of the benchmark, and what was drawn for it."""

import pytest

from mammi.benchmark import held_out_truth, phantom_material
from mammi.benchmark import material as rooms

FILMS, SEED, HELD_OUT = 120, 0, 45


@pytest.fixture(scope="session")
def drawn():
    """Arguments of every cohort that truth and material were drawn from: number of films and seed."""
    return []


@pytest.fixture(scope="session")
def told():
    """The last that was told of each step."""
    return {}


@pytest.fixture(scope="session")
def noted(drawn, told):
    """Run with every cohort noted, and how to tell of steps."""
    draw = rooms._drawn

    def draw_and_note(n_films, seed, *rest):
        drawn.append((n_films, seed))
        return draw(n_films, seed, *rest)

    def run(step, *arguments):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rooms, "_drawn", draw_and_note)
            return step(*arguments, lambda what, *counts: told.update({what: counts}))

    return run


@pytest.fixture(scope="session")
def truth(noted):
    return noted(held_out_truth, HELD_OUT)


@pytest.fixture(scope="session")
def material(noted, truth):
    return noted(phantom_material, FILMS, SEED, truth)
