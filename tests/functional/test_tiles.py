import pytest

from mammi.functional import tiles
from mammi.functional.tiles import unit_tiles


@pytest.mark.parametrize(
    ("n_units", "each", "sizes"), [(7, 5, [2, 2, 2, 1]), (7, 100, [1] * 7), (3, 0, [3]), (0, 5, [])]
)
def test_tiles_cover_all_units_in_order_and_hold_a_bounded_number(monkeypatch, n_units, each, sizes):
    monkeypatch.setattr(tiles, "VALUES", 10)
    found = list(unit_tiles(n_units, each))
    assert [unit for tile in found for unit in range(n_units)[tile]] == list(range(n_units))
    assert [tile.stop - tile.start for tile in found] == sizes
