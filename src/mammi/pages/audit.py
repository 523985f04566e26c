"""What the units say of how a film was made and of whom, and how much of it reaches the outputs."""

from typing import Any

from mammi.pages.site import Page
from mammi.pages.view import RunView

__all__ = ["audit_page"]

#: Gaps shown before all are.
WIDEST = 20


def audit_page(view: RunView) -> Page:
    """Return the audit page.

    ``view.audit`` is what `mammi.explain.audit_result.Audit.to_dict` gives: ``sentences``, ``caution``, ``layer``,
    ``n_units``, ``level``, ``notes``; ``gaps``: rows of ``attribute``, ``output``, ``films``, ``gap`` with ``low`` and
    ``high``, ``carried``, ``n_units``; ``units``: rows of ``attribute``, ``unit``, ``name``, ``effect``, ``q_value``,
    ``reacts``; ``carried``: rows of ``output``, ``attribute``, ``unit``, ``name``, ``effect``, ``q_value``,
    ``carried_same``, ``reacts``; ``confounders``: rows of ``attribute``, ``goes_with``, ``r``. Without it the page says how to make one.
    """
    audit = None if view.audit is None else dict(view.audit)
    data = {
        "made": audit is not None,
        "gaps": [] if audit is None else _clear(audit["gaps"]),
        "carriers": [] if audit is None else _carriers(audit.get("carried", [])),
        "audit": audit,
    }
    return Page("Audit", "audit.html", ("audit",), data)


def _clear(gaps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the widest gaps whose interval does not hold 0, the widest first."""
    clear = [row for row in gaps if row["low"] is not None and (row["low"] > 0 or row["high"] < 0)]
    return sorted(clear, key=lambda row: -abs(row["gap"]))[:WIDEST]


def _carriers(carried: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the units that react at the same finding and carry most of a gap, the most first."""
    react = [row for row in carried if row["reacts"] and row["effect"] is not None]
    return sorted(react, key=lambda row: -abs(row["carried_same"]))[:WIDEST]
