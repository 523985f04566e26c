"""A stage on its way to another process: models go as what makes them again, and are checked when they are made."""

from dataclasses import dataclass
from io import BytesIO
from typing import Self

import torch

from mammi.engine.work import Work
from mammi.errors import InputError, MammiError, WorkerError

__all__ = ["Parcel", "as_error"]

#: How a class of the user's own script or factory file is called in what is sent; no other process knows it by that.
_HOMELESS = (b"c__main__\n", b"c_mammi_user_")


@dataclass(frozen=True)
class Parcel:
    """A stage, packed once for all workers.

    Attributes:
        content: what torch saved.
    """

    content: bytes

    @classmethod
    def of(cls, work: Work) -> Self:
        """Pack a stage.

        Raises:
            InputError: if it holds a model that no other process can make.
        """
        buffer = BytesIO()
        try:
            torch.save(work, buffer, pickle_protocol=2)
        except MammiError:
            raise
        except Exception as error:
            raise _cannot(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from error
        content = buffer.getvalue()
        if any(mark in content for mark in _HOMELESS):
            raise _cannot("its class is of this script or of a factory file")
        return cls(content)

    def open(self, device: str | None = None) -> Work:
        """Unpack the stage; models are made again here.

        Args:
            device: where models go that were sent whole; None for where they were.

        Raises:
            MammiError: if a model cannot be made here, or is another one here.
        """
        # Code runs in here, as in all that processes of one program send each other; it comes from no file.
        work: Work = torch.load(BytesIO(self.content), map_location=device, weights_only=False)
        return work


def _cannot(why: str) -> InputError:
    return InputError(
        f"a model that was given as an object cannot be sent to other processes ({why}): use one worker, or give "
        "'path/file.py:NAME' to create_target or create_vlm"
    )


def as_error(error: BaseException) -> MammiError:
    """Return an error that can be sent: one of ours as it is, any other by its type and text."""
    if isinstance(error, MammiError):
        return error
    return WorkerError(f"a worker failed: {type(error).__name__}: {' '.join(str(error).split())[:500]}")
