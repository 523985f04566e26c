"""The network and the vision-language model of a run, loaded while its pages are already shown."""

import logging
import threading
from contextlib import suppress
from dataclasses import dataclass, field

from mammi.errors import MammiError
from mammi.explain.account import Account, open_account
from mammi.explain.models import load_target, load_vlm
from mammi.explain.search import UnitSearch, open_search
from mammi.pages import RunView
from mammi.pages.classes import classes_page
from mammi.pages.opening import open_view
from mammi.pages.overview import overview_page
from mammi.pages.units import units_page
from mammi.store.run import Run
from mammi.targets import Target

__all__ = ["Models"]

_log = logging.getLogger("mammi.web")


class _StoppedError(Exception):
    """The explorer ends while its models are still being loaded."""


@dataclass(eq=False)
class Models:
    """What explanations and searches need, as far as it is there.

    Attributes:
        run: the run.
        target: its network; None until it is loaded, or where it cannot be.
        account: how its outputs follow from the units of one layer; likewise.
        search: search by words; likewise.
        missing: why something is not there, in words for a page, by ``"target"``, ``"account"`` and ``"search"``.
        view: the run as the pages see it, with what is loaded by now.
        using: held while the network or the model is at work.
    """

    run: Run
    target: Target | None = None
    account: Account | None = None
    search: UnitSearch | None = None
    missing: dict[str, str] = field(default_factory=dict)
    using: threading.Lock = field(default_factory=threading.Lock, repr=False)
    view: RunView = field(init=False, repr=False)
    _stopping: threading.Event = field(default_factory=threading.Event, repr=False)
    _thread: threading.Thread | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.view = open_view(self.run)

    def start(self) -> None:
        """Begin to load, in a thread of its own."""
        self.missing = dict.fromkeys(("target", "account", "search"), "It is being loaded: come back in a moment.")
        self._thread = threading.Thread(target=self._load, name="models", daemon=True)
        self._thread.start()

    def stop(self, seconds: float = 20.0) -> None:
        """Give up loading at the next step, and wait for that: a process must not end in the middle of one."""
        self._stopping.set()
        self.wait(seconds)

    def wait(self, seconds: float | None = None) -> None:
        """Wait until everything is loaded or known not to be loadable."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _go_on(self, step: str, done: int, total: int) -> None:
        if self._stopping.is_set():
            raise _StoppedError

    def _load(self) -> None:
        with suppress(_StoppedError):
            self._load_all()

    def _load_all(self) -> None:
        self._warm()
        self._go_on("", 0, 0)
        try:
            search = open_search(self.run, load_vlm(self.run))
            search.prepare(self._go_on)
            self.search = search
            self.missing.pop("search")
        except MammiError as error:
            self._note("search", "The vision-language model or the embeddings of the films are not at hand", error)
        try:
            self.target = load_target(self.run)
            self.missing.pop("target")
        except MammiError as error:
            self._note("target", "The network is not at hand", error)
            self._note("account", "The network is not at hand", error)
            return
        try:
            account = open_account(self.run, self.target, progress=self._go_on)
        except MammiError as error:
            self._note("account", "What units contribute to the outputs is not known", error)
            return
        # A new view, since the old one keeps what it said without the network.
        self.account = account
        self.view = open_view(self.run, account)
        self._warm()
        self.missing.pop("account")

    def _warm(self) -> None:
        """Read what pages keep before somebody waits for it."""
        try:
            overview_page(self.view)
            for layer in self.run.layers:
                units_page(self.view, layer)
            classes_page(self.view)
        except MammiError as error:  # the page itself will say so
            _log.warning("%s", error)

    def _note(self, what: str, words: str, error: MammiError) -> None:
        # The reason names folders: it is for the terminal, not for a page.
        _log.warning("%s: %s", words, error)
        self.missing[what] = f"{words}; the terminal in which the explorer runs says why."
