"""How many units are looked at together: as many as fit a bounded number of values, whatever the size of the job."""

from collections.abc import Iterator

__all__ = ["unit_tiles"]

#: Values of a tile: 16 MB of float32, small enough to stay in memory that is used again and again.
VALUES = 2**22


def unit_tiles(n_units: int, values_per_unit: int, values: int | None = None) -> Iterator[slice]:
    """Yield consecutive slices that cover all units, each of so many numbers at most, and of one unit at least.

    Args:
        n_units: number of units.
        values_per_unit: numbers that a unit costs: films or concepts, whichever are looked at.
        values: numbers that a slice may hold; ``VALUES`` where not given.
    """
    size = max(1, (VALUES if values is None else values) // max(1, values_per_unit))
    for start in range(0, n_units, size):
        yield slice(start, min(start + size, n_units))
