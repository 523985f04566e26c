"""The kernels that are ours, each beside a plain operation of its size that asks for no memory.

Timed by pytest-benchmark on one thread; `python benchmarks/kernels` makes ratios of the pairs and holds them against the
recorded ones.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

import mammi
from mammi.functional.matching import concept_scores, keep_best, mean_embeddings
from mammi.functional.selection import Selection, select_adaptive, select_top

N_FILMS, N_UNITS, N_CONCEPTS, WIDTH = 8192, 256, 2000, 256
Work = Callable[[], Any]


def _normal(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _rows(*shape: int, seed: int) -> torch.Tensor:
    return torch.nn.functional.normalize(_normal(*shape, seed=seed, dtype=torch.float64), dim=1)


def _selection() -> Selection:
    return select_top(_normal(N_FILMS, N_UNITS, seed=0), 50)


def selecting_by_range() -> tuple[Work, Work]:
    """Adaptive selection; beside the lowest and highest value of each unit."""
    activations = _normal(N_FILMS, N_UNITS, seed=0)
    return lambda: select_adaptive(activations), lambda: activations.aminmax(dim=0)


def selecting_by_rank() -> tuple[Work, Work]:
    """The strongest 50 films of a unit; beside the library's own ranking."""
    activations = _normal(N_FILMS, N_UNITS, seed=0)
    return lambda: select_top(activations, 50), lambda: activations.topk(50, dim=0)


def averaging() -> tuple[Work, Work]:
    """Means of the examples' embeddings; beside gathering the same rows."""
    films, selection = _rows(N_FILMS, 32, seed=1), _selection()
    kept = torch.empty(len(selection.images), 32, dtype=films.dtype)
    return lambda: mean_embeddings(selection, films), lambda: torch.index_select(films, 0, selection.images, out=kept)


def scoring() -> tuple[Work, Work]:
    """Scores of all concepts less the template's share; beside the bare product."""
    means, concepts, template = (_rows(n, WIDTH, seed=n) for n in (N_UNITS, N_CONCEPTS, 1))
    kept = torch.empty(N_UNITS, N_CONCEPTS, dtype=means.dtype)
    return lambda: concept_scores(means, concepts, template[0]), lambda: torch.mm(means, concepts.T, out=kept)


def keeping() -> tuple[Work, Work]:
    """The concepts within a share of the best; beside the best scores alone."""
    scores = _normal(N_UNITS, N_CONCEPTS, seed=2, dtype=torch.float64)
    return lambda: keep_best(scores), lambda: scores.amax(dim=1)


def calibrating() -> tuple[Work, Work]:
    """The method `calibrated` on a small layer; beside the similarities of all its films and concepts, ten times."""
    films, concepts = _rows(200, WIDTH, seed=3), _rows(100, WIDTH, seed=4)
    activations = _normal(200, 16, seed=5)
    options: dict[str, Any] = {"method": "calibrated", "shuffles": 20, "resamples": 10}
    return (
        lambda: mammi.annotate_arrays(activations, films, concepts, **options),
        lambda: [films @ concepts.T for _ in range(10)],
    )


KERNELS = (selecting_by_range, selecting_by_rank, averaging, scoring, keeping, calibrating)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("side", ["kernel", "reference"])
@pytest.mark.parametrize("pair", KERNELS, ids=lambda pair: pair.__name__.replace("_", " "))
def test_kernel(benchmark: BenchmarkFixture, pair: Callable[[], tuple[Work, Work]], side: str) -> None:
    benchmark.group = pair.__name__.replace("_", " ")
    work, reference = pair()
    benchmark.extra_info["side"] = side
    benchmark(work if side == "kernel" else reference)
