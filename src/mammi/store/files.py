"""Writing so that a reader never sees half a file: aside first, then renamed over the name."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from mammi.errors import BusyRunError, RunError

__all__ = [
    "atomic_path",
    "locked",
    "read_array",
    "read_json",
    "refuse_foreign_folder",
    "remove_half_written",
    "write_array",
    "write_atomic",
    "write_json",
]


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a name beside ``path`` to write to; rename it over ``path`` at the end, or remove it after an error.

    The bytes are flushed to the disk before the rename, so that after a power cut either the old file, the new file
    or none is there, never a torn one.

    Raises:
        RunError: if the file cannot be written (no permission, disk full).
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {error.strerror or error}. Free space or choose another output; "
            "what is already written stays, and the same command goes on from there"
        ) from error
    finally:
        aside.unlink(missing_ok=True) if aside.exists() else None


def remove_half_written(folder: Path, parts: Sequence[str]) -> None:
    """Remove what processes were writing when they were killed; for whoever holds the lock of the folder.

    Args:
        folder: the run folder.
        parts: folders below it that only the holder of the lock writes to.
    """
    for place in (folder, *(folder / part for part in parts)):
        for path in place.rglob(".*.part") if place != folder else place.glob(".*.part"):
            path.unlink(missing_ok=True)


def write_atomic(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write one file through ``write(file)``, all or nothing."""
    with atomic_path(path) as aside, aside.open("wb") as file:
        write(file)


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write one array as ``.npy``, all or nothing; arrays of objects are refused."""
    write_atomic(path, lambda file: np.save(file, array, allow_pickle=False))


def read_array(path: Path) -> NDArray[Any]:
    """Read one ``.npy``.

    Raises:
        RunError: if it is missing, torn or holds objects.
    """
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise RunError(f"{path} cannot be read ({error}): remove it and run the same command again") from error


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401 - whatever JSON can write
    """Write JSON that a person can read, all or nothing."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomic(path, lambda file: file.write(f"{text}\n".encode()))


def read_json(path: Path) -> Any:  # noqa: ANN401 - whatever JSON holds
    """Read JSON.

    Raises:
        RunError: if the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path} cannot be read ({error}): it is damaged, remove the run folder and run again"
        ) from error


def refuse_foreign_folder(out: Path) -> None:
    """Raise `RunError` if a run cannot go to ``out`` because something else lies there."""
    if out.exists() and not out.is_dir():
        raise RunError(f"{out} is a file: give a new or empty folder to write the run to")
    if out.is_dir() and any(out.iterdir()) and not ((out / "manifest.json").is_file() or (out / ".lock").is_file()):
        raise RunError(f"{out} is not empty and holds no run: give a new or empty folder to write the run to")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run folder for one process; the lock goes with the process, even when it is killed.

    Raises:
        BusyRunError: if another process holds it.
        RunError: if the folder cannot be made or written to.
    """
    import fcntl

    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
    except OSError as error:
        raise RunError(
            f"cannot write to the run folder {folder}: {error.strerror or error}. Choose another --out"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BusyRunError(
                f"another process is working in {folder}: wait for it, or choose another --out"
            ) from error
        yield
