import pytest
import torch

from mammi.functional import film_sums as module
from mammi.functional.film_sums import film_covariance, film_sums


def tables(n=11, n_units=3, n_films=7, width=4):
    generator = torch.Generator().manual_seed(0)
    weights, films = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((n, n_units), (n_films, width))
    )
    return weights, films, torch.randint(n_films, (n,), generator=generator)


@pytest.mark.parametrize("chunk", [1, 4, 5, 11, 4096])
def test_sums_equal_loops_whatever_the_chunk(monkeypatch, chunk):
    monkeypatch.setattr(module, "CHUNK", chunk)
    weights, films, rows = tables()
    found = film_sums(weights, films, rows)
    for unit in range(3):
        for axis in range(4):
            slow = sum(weights[n, unit].item() * films[row, axis].item() for n, row in enumerate(rows.tolist()))
            assert found[unit, axis].item() == pytest.approx(slow, abs=1e-12)
    assert film_sums(weights.float(), films.float(), rows).dtype == torch.float32
    assert not film_sums(weights[:0], films, rows[:0]).any()


@pytest.mark.parametrize("chunk", [1, 3, 4096])
def test_covariance_equals_torch(monkeypatch, chunk):
    monkeypatch.setattr(module, "CHUNK", chunk)
    films = tables()[1] + 100
    torch.testing.assert_close(film_covariance(films), torch.cov(films.T, correction=0), atol=1e-12, rtol=0)
