"""Where the real data lies, and a quiet machine for everybody else on it."""

import os

# Before torch is imported: with a busy neighbour, spinning threads are ten times slower than sleeping ones.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real films, reports and models; tests on it are skipped where it is absent."""
    folder = Path(os.environ.get("MAMMI_SHARED_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
    if not (folder / "nih" / "labels.csv").is_file():
        pytest.skip("the real films, reports and models are not on this machine (MAMMI_SHARED_DATA)")
    return folder
