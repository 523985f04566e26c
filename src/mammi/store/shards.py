"""Activations on disk: blocks of films while capturing, one memory-mapped array per layer by unit when complete."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from mammi.errors import RunError
from mammi.store.files import atomic_path, read_json, write_array, write_json

__all__ = ["ActivationStore"]

#: Units and films of a piece that is turned over at a time: 64 MB.
SIDE = 4096


@dataclass(frozen=True)
class ActivationStore:
    """The activations of one run.

    A block is a run of consecutive films. Its layers' arrays are written first and its record last, so a block with a
    record is whole: after a kill, resuming is listing records.

    Attributes:
        folder: the run folder.
        n_films: number of films.
        block_size: films per block.
        part: folder below it for the arrays of another network; ``""`` for the network under study. Its records lie
            under ``private/`` of the run all the same.
    """

    folder: Path
    n_films: int
    block_size: int
    part: str = ""

    @property
    def n_blocks(self) -> int:
        """Number of blocks; the last may be short."""
        return -(-self.n_films // self.block_size)

    def rows(self, block: int) -> range:
        """Return the rows of the films in a block."""
        return range(block * self.block_size, min(self.n_films, (block + 1) * self.block_size))

    def _record_path(self, block: int) -> Path:
        # The record holds the reasons for unreadable films, and those name files.
        return self.folder / "private" / self.part / "blocks" / f"{block:06d}.json"

    def _shard_path(self, layer: str, block: int) -> Path:
        return self.folder / self.part / "activations" / layer / f"shard-{block:06d}.npy"

    def array_path(self, layer: str) -> Path:
        """Return where a layer's finished ``(n_units, n_films)`` array lies."""
        return self.folder / self.part / "activations" / layer / "by_unit.npy"

    def done(self) -> dict[int, dict[str, Any]]:
        """Return the records of the finished blocks, by block."""
        return {
            block: read_json(path) for block in range(self.n_blocks) if (path := self._record_path(block)).is_file()
        }

    def discard(self, block: int) -> None:
        """Forget a block, so that it is computed again."""
        self._record_path(block).unlink(missing_ok=True)

    def write(self, block: int, layers: Mapping[str, NDArray[np.float32]], record: dict[str, Any]) -> None:
        """Store a block: one ``(n_films_of_block, n_units)`` array per layer, then its record.

        Raises:
            RunError: if a file cannot be written; blocks already stored stay.
        """
        for layer, activations in layers.items():
            write_array(self._shard_path(layer, block), np.ascontiguousarray(activations, dtype=np.float32))
        write_json(self._record_path(block), record)

    def finish(self, layer: str, n_units: int, kept: NDArray[np.int64]) -> None:
        """Turn a layer's blocks into one ``(n_units, n_kept)`` array, then drop the blocks.

        Args:
            layer: name of the layer.
            n_units: its number of units.
            kept: rows of the films to keep, rising.

        Raises:
            RunError: if a block is missing or has another shape, or the array cannot be written.
        """
        path = self.array_path(layer)
        if not path.is_file():
            with atomic_path(path) as aside:
                shape = (n_units, len(kept))
                offset = np.lib.format.open_memmap(aside, mode="w+", dtype=np.float32, shape=shape).offset
                with aside.open("r+b") as file:
                    # A hole met later on a full disk would end the process by a signal; this is an error in time.
                    os.posix_fallocate(file.fileno(), 0, aside.stat().st_size)
                    for units, first, turned in self._turned(layer, n_units, kept):
                        for unit, films in zip(units, turned, strict=True):
                            file.seek(offset + (unit * len(kept) + first) * films.itemsize)
                            file.write(films)
        for block in range(self.n_blocks):
            self._shard_path(layer, block).unlink(missing_ok=True)

    def _turned(
        self, layer: str, n_units: int, kept: NDArray[np.int64]
    ) -> Iterator[tuple[range, int, NDArray[np.float32]]]:
        """Yield pieces of the ``(n_units, n_kept)`` array: its units, its first film, its values.

        A piece holds some units on the films of some blocks, about as long as it is wide: it is read and written in few
        long stretches, and its size does not depend on the layer's.
        """
        width = -(-n_units // -(-n_units // SIDE))
        blocks = max(1, SIDE * SIDE // width // self.block_size)
        for left in range(0, n_units, width):
            units = range(left, min(left + width, n_units))
            for start in range(0, self.n_blocks, blocks):
                group = range(start, min(start + blocks, self.n_blocks))
                first, last = kept.searchsorted([self.rows(group[0]).start, self.rows(group[-1]).stop])
                turned = np.empty((len(units), last - first), dtype=np.float32)
                place = 0
                for block in group:
                    rows = self.rows(block)
                    inside = kept[first:last]
                    inside = inside[(inside >= rows.start) & (inside < rows.stop)] - rows.start
                    shard = self._open_shard(layer, block, (len(rows), n_units))
                    turned[:, place : place + len(inside)] = shard[inside, units.start : units.stop].T
                    place += len(inside)
                yield units, int(first), turned

    def _open_shard(self, layer: str, block: int, shape: tuple[int, int]) -> NDArray[np.float32]:
        path = self._shard_path(layer, block)
        try:
            shard: NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError, BadZipFile) as error:
            raise RunError(
                f"{path} cannot be read ({error}): remove {self._record_path(block)} and run again"
            ) from error
        if shard.shape != shape:
            raise RunError(f"{path} has shape {shard.shape}, expected {shape}: remove {self._record_path(block)}")
        return shard

    def read(self, layer: str) -> NDArray[np.float32]:
        """Open a finished layer, read-only and memory-mapped: shape ``(n_units, n_kept)``, float32.

        Raises:
            RunError: if the layer was not recorded or the run is not complete.
        """
        return self._open(layer)

    def _open(self, layer: str) -> "np.memmap[Any, np.dtype[np.float32]]":
        path = self.array_path(layer)
        try:
            array: np.memmap[Any, np.dtype[np.float32]] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError, BadZipFile) as error:
            raise RunError(
                f"{path} cannot be read: the run is not complete or is damaged, run the same command again"
            ) from error
        return array

    def read_units(self, layer: str, units: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read some units of a finished layer: shape ``(n, n_kept)``, float32.

        What a memory map has read counts as memory of this process for as long as it is mapped; this does not.

        Args:
            layer: its name.
            units: which, in the order wanted.

        Raises:
            RunError: if the layer was not recorded or the run is not complete.
        """
        array = self._open(layer)
        found = np.empty((len(units), array.shape[1]), dtype=np.float32)
        with self.array_path(layer).open("rb", buffering=0) as file:
            for row, unit in zip(found, units.tolist(), strict=True):
                file.seek(array.offset + unit * row.nbytes)
                file.readinto(row)
        return found
