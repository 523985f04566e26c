import math

import pytest
import torch

from mammi.functional.strongest import ranked, strongest

NAN, INF = float("nan"), float("inf")


def slow(row, k):
    """Every place with a value, by falling value, then by place."""
    return sorted((m for m, value in enumerate(row) if not math.isnan(value)), key=lambda m: (-row[m], m))[:k]


def by_row(found, n_rows):
    rows, columns = found
    assert rows.tolist() == sorted(rows.tolist())
    return [columns[rows == row].tolist() for row in range(n_rows)]


@pytest.mark.parametrize("k", [1, 2, 5, 8, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_strongest_of_every_row_ties_by_lower_place(k, dtype):
    generator = torch.Generator().manual_seed(k)
    table = torch.randn(23, 37, generator=generator).to(dtype)
    table[3:9] = table[3:9].round()  # ties at every rank
    table[9:12] = table[9:12].relu()  # fewer values than wanted stand out of a sea of zeros
    table[12] = 1.0
    table[13, ::2] = NAN
    table[14] = NAN
    table[15, :35] = NAN
    table[16, :30] = -INF
    table[17] = torch.where(torch.arange(37) % 3 == 0, NAN, -INF)
    table[18, 4], table[18, 30] = INF, INF
    expected = [slow(row, k) for row in table.tolist()]
    assert by_row(strongest(table, k), 23) == expected
    assert by_row(strongest(table.T.contiguous().T, k), 23) == expected


def test_marked_entries_are_ranked_row_by_row():
    table = torch.tensor([[1.0, 3.0, 3.0], [5.0, 4.0, NAN], [0.0, 0.0, 0.0]])
    mask = torch.tensor([[True, True, True], [True, True, False], [False, False, False]])
    assert by_row(ranked(table, mask), 3) == [[1, 2, 0], [0, 1], []]
    assert by_row(ranked(table[:0], mask[:0]), 0) == []
