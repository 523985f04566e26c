import pytest

from mammi.phantoms.cohort import Cohort
from mammi.phantoms.film import PhantomFilm

UNSEEN = 9001


@pytest.fixture(scope="session")
def unseen() -> list[PhantomFilm]:
    """Films of a seed that neither model was trained on."""
    return list(Cohort(400, seed=UNSEEN))
