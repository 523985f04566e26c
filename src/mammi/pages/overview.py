"""The first page: what was looked at, how much of it has a name, and what to be careful with."""

from mammi.pages.site import Page
from mammi.pages.view import RunView

__all__ = ["overview_page"]


def overview_page(view: RunView) -> Page:
    """Return the first page of a run."""
    counts = view.run.manifest["counts"]
    return Page(
        f"What the units of {view.name} respond to",
        "overview.html",
        ("overview",),
        {"name": view.name, "counts": counts},
    )
