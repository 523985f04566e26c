"""Every error this package raises on purpose.

MammiError
├── InputError            an argument, an array or an option is wrong            (also a ValueError)
│   ├── UnknownNameError  a name is not in a registry or not in a network        (also a KeyError)
│   └── ReportError       reports or a concept file cannot be understood
├── ImageError            a film cannot be read, or a folder holds none
├── TargetError           the network under study cannot be built or loaded
│   └── CaptureError      a layer cannot be recorded
├── VlmError              a vision-language model cannot be found, loaded or used
├── RunError              a run folder cannot be written or read
│   ├── StaleRunError     the folder belongs to other weights, films or settings
│   └── BusyRunError      another process is working in the folder
├── WorkerError           a worker process ended, or failed in a way of its own
└── MissingExtraError     an optional dependency is not installed                (also an ImportError)

Each message says what, where, what was got, what was expected and what to do next. The command line prints it on
one line and exits with code 2.
"""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "BusyRunError",
    "CaptureError",
    "ImageError",
    "InputError",
    "MammiError",
    "MissingExtraError",
    "ReportError",
    "RunError",
    "StaleRunError",
    "TargetError",
    "UnknownNameError",
    "VlmError",
    "WorkerError",
]


class MammiError(Exception):
    """Base of every error raised on purpose; catch this to catch them all."""


class InputError(MammiError, ValueError):
    """An argument, an array or an option has the wrong shape, range or value."""


class UnknownNameError(InputError, KeyError):
    """A name is not among those that exist; the message suggests the nearest."""

    def __str__(self) -> str:
        """Return the message as written (``KeyError`` would print its ``repr``)."""
        return str(self.args[0]) if self.args else ""

    @classmethod
    def among(cls, kind: str, name: str, known: Iterable[str], hint: str) -> "UnknownNameError":
        """Build the error for ``name``, with the nearest of ``known`` and what to do (``hint``)."""
        near = get_close_matches(name, list(known), n=1, cutoff=0.5)
        guess = f" Did you mean {near[0]!r}?" if near else ""
        return cls(f"{kind} {name!r} is not known.{guess} {hint}")


class ReportError(InputError):
    """Reports or a concept file cannot be understood."""


class ImageError(MammiError):
    """A film cannot be read, or a folder or table holds none."""


class TargetError(MammiError):
    """The network under study cannot be built, or its weights do not fit."""


class CaptureError(TargetError):
    """A layer cannot be recorded."""


class VlmError(MammiError):
    """A vision-language model cannot be found, loaded or used."""


class RunError(MammiError):
    """A run folder cannot be written or read."""


class StaleRunError(RunError):
    """A run folder belongs to other weights, films or settings than those asked for."""


class BusyRunError(RunError):
    """Another process is working in the run folder."""


class WorkerError(MammiError):
    """A worker process ended in the middle of its work, or failed in a way that has no error of its own."""


class MissingExtraError(MammiError, ImportError):
    """An optional dependency is not installed; the message holds the line that installs it."""
