"""What the pages of one run read, each thing once: a face makes one view per run and asks it for every page."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from mammi.store.run import Run

__all__ = ["RunView"]


@dataclass
class RunView:
    """A run as the pages see it.

    Attributes:
        run: a complete run.
        account: how the outputs follow from the units of one layer (`mammi.explain`), if the network was loaded.
        audit: what `mammi.explain` found about attributes of the patients and the films, if it was asked.
    """

    run: Run
    account: Any = field(default=None, repr=False)
    audit: Any = field(default=None, repr=False)

    @cached_property
    def name(self) -> str:
        """Name of the network under study."""
        return str(self.run.manifest["target"]["name"])
