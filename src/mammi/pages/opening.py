"""A run with all that is known of it, as every face shows it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mammi.errors import InputError
from mammi.explain.kept import kept
from mammi.pages.view import RunView
from mammi.store.run import Run

if TYPE_CHECKING:
    from mammi.explain.account import Account

__all__ = ["open_view"]

#: Units listed from either end of a class.
SHOWN = 12
#: Contributions looked at for what decides a class, at most: 512 MB of them.
MOST_VALUES = 2**26


def open_view(run: Run, account: "Account | None" = None) -> RunView:
    """Return what the pages of a run read: the run, its audit and its agreement with marks where they were made.

    Args:
        run: a complete run.
        account: how its outputs follow from the units of one layer; without it classes are listed and not explained.

    Raises:
        RunError: if what was kept with the run cannot be read.
    """
    places: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in (kept(run, "places") or {}).get("rows", []):
        places.setdefault((str(row["layer"]), int(row["unit"])), []).append(row)
    unseen = frozenset((kept(run, "checked") or {}).get("unseen", ()))
    view = RunView(run, audit=kept(run, "audit"), places=places or None, unseen=unseen)
    if account is not None:
        view.account = account
        if account.n_units * len(account.films) <= MOST_VALUES:
            view.decide = _decider(account)
    return view


def _decider(account: "Account") -> Callable[[int], dict[str, Any] | None]:
    from mammi.explain.classes import explain_class

    def decide(number: int) -> dict[str, Any] | None:
        try:
            return explain_class(account, number).to_dict(SHOWN)
        except InputError:  # no film stands for this class, or every film does
            return None

    return decide
