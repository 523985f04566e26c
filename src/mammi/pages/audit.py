"""What the units say of how a film was made and of whom, and how much of it reaches the outputs."""

from mammi.pages.site import Page
from mammi.pages.view import RunView

__all__ = ["audit_page"]


def audit_page(view: RunView) -> Page:
    """Return the audit page.

    ``view.audit`` is what `mammi.explain.audit_result.Audit.to_dict` gives: ``sentences``, ``caution``, ``layer``,
    ``n_units``, ``level``, ``notes``; ``gaps``: rows of ``attribute``, ``output``, ``films``, ``gap`` with ``low`` and
    ``high``, ``carried``, ``n_units``; ``units``: rows of ``attribute``, ``unit``, ``name``, ``effect``, ``q_value``,
    ``reacts``; ``confounders``: rows of ``attribute``, ``goes_with``, ``r``. Without it the page says how to make one.
    """
    data = {"made": view.audit is not None, "audit": dict(view.audit) if view.audit is not None else None}
    return Page("Audit", "audit.html", ("audit",), data)
