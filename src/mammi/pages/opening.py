"""A run with all that is known of it, as every face shows it."""

from typing import TYPE_CHECKING, Any

from mammi.errors import InputError
from mammi.explain.kept import kept
from mammi.pages.view import RunView
from mammi.store.run import Run

if TYPE_CHECKING:
    from mammi.explain.account import Account

__all__ = ["know_account", "open_view"]

#: Units listed from either end of a class.
SHOWN = 12


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
    view = RunView(run, audit=kept(run, "audit"), places=places or None)
    if account is not None:
        know_account(view, account)
    return view


def know_account(view: RunView, account: "Account") -> None:
    """Let a view explain the outputs from now on."""
    from mammi.explain.classes import explain_class

    def decide(number: int) -> dict[str, Any] | None:
        try:
            return explain_class(account, number).to_dict(SHOWN)
        except InputError:  # no film stands for this class, or every film does
            return None

    view.account, view.decide = account, decide
