"""Films of strangers are decoded in a process of their own, with little memory and little time.

`mammi.data.read_film_bytes` refuses what it can tell from a header. What is left is a decoder written in C that a
damaged film brings down, or a file that is merely very slow to read: neither may take the explorer with it. The process
reads films from a pipe and writes pixels to another; it opens no file, and one that dies or stalls is replaced.
"""

import json
import os
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from importlib import import_module
from time import monotonic
from typing import IO

import numpy as np

from mammi.data.reading import read_film_bytes
from mammi.errors import ImageError, MissingExtraError
from mammi.types import Film

__all__ = ["MAX_PIXELS", "FilmDecoder"]

#: Pixels of an uploaded film, at most; the largest detectors (mammography) have some 28 million.
MAX_PIXELS = 30_000_000
#: Bytes that the process may allocate beyond what it starts with: a film of that size in colour, two times over.
MEMORY = 2**30
#: Seconds until a film is given up.
TIME = 30.0
_LENGTH = struct.Struct("<Q")


class FilmDecoder:
    """Decodes one film at a time. Safe to call from several threads; they wait for one another.

    Args:
        time: seconds until a film is given up.
        memory: bytes that the process may allocate beyond what it starts with.
    """

    def __init__(self, *, time: float = TIME, memory: int = MEMORY) -> None:
        self.time = time
        self.memory = memory
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def decode(self, data: bytes, frame: int | None = None) -> Film:
        """Decode a film that lies in memory.

        Args:
            data: the whole file.
            frame: which picture of a file that holds several, from 0.

        Raises:
            ImageError: if it is refused, or took more time or memory than it may.
            MissingExtraError: if it is DICOM and pydicom is not installed.
        """
        with self._lock:
            process, began = self._start(), monotonic()
            overdue = threading.Timer(self.time, process.kill)
            overdue.start()
            try:
                _write(process.stdin, json.dumps(frame).encode(), data)
                head, pixels = _read(process.stdout), _read(process.stdout)
            except (OSError, EOFError) as error:
                self._stop()
                late = monotonic() - began >= self.time
                why = f"it takes longer than {self.time:g} seconds" if late else "its decoder broke down over it"
                raise ImageError(f"The film cannot be read: {why}: convert it or leave it out") from error
            finally:
                overdue.cancel()
        said = json.loads(head)
        if "error" in said:
            raise (MissingExtraError if said["missing"] else ImageError)(said["error"])
        array = np.frombuffer(pixels, dtype=np.float32).reshape(said["shape"])
        return Film(array, said["bits"], tuple(said["warnings"]))

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._stop()

    def _start(self) -> "subprocess.Popen[bytes]":
        if self._process is None or self._process.poll() is not None:
            self._stop()
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter, this module, a number
                [sys.executable, "-P", "-m", "mammi.web.decoding", str(self.memory)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # decoders print what they find odd, the film's own words among it
            )
        return self._process

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(OSError):  # what was not read any more cannot be flushed
                        pipe.close()
            process.wait()


def _write(pipe: IO[bytes] | None, *parts: bytes | memoryview) -> None:
    if pipe is None:
        raise EOFError
    for part in parts:
        pipe.write(_LENGTH.pack(len(part)))
        pipe.write(part)
    pipe.flush()


def _read(pipe: IO[bytes] | None) -> bytearray:
    size = pipe.read(_LENGTH.size) if pipe else b""
    if pipe is None or len(size) < _LENGTH.size:
        raise EOFError
    (length,) = _LENGTH.unpack(size)
    data = bytearray(length)
    if pipe.readinto(data) < length:  # type: ignore[attr-defined]
        raise EOFError
    return data


def _answer(data: bytes, frame: int | None) -> tuple[bytes, bytes | memoryview]:
    try:
        film = read_film_bytes(data, frame=frame, max_pixels=MAX_PIXELS)
    except (ImageError, MissingExtraError) as error:
        said = {"error": str(error), "missing": isinstance(error, MissingExtraError)}
        return json.dumps(said).encode(), b""
    head = json.dumps({"shape": film.pixels.shape, "bits": film.bits, "warnings": film.warnings}).encode()
    return head, np.ascontiguousarray(film.pixels).reshape(-1).view(np.uint8).data


def _limit_memory(memory: int) -> None:
    with suppress(ImportError, OSError, ValueError):  # not every system can
        import resource

        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - a number of the kernel's, no file
            size = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + memory, size + memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def main() -> None:
    """Decode films from standard input until it ends."""
    with suppress(ImportError):  # what every DICOM film needs, before memory is counted
        import_module("pydicom.pixels")
    # Libraries that print must not print between the pixels.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    _limit_memory(int(sys.argv[1]))
    with suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        while True:
            frame, data = _read(sys.stdin.buffer), _read(sys.stdin.buffer)
            answer = _answer(bytes(data), json.loads(frame))
            _write(answers, *answer)
            del data, answer


if __name__ == "__main__":
    main()
