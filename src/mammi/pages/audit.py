"""What the units say of how a film was made and of whom, and how much of it reaches the outputs."""

from mammi.pages.site import Page
from mammi.pages.view import RunView

__all__ = ["audit_page"]


def audit_page(view: RunView) -> Page:
    """Return the audit page.

    ``view.audit`` holds ``rows``: ``attribute``, ``layer``, ``unit``, ``name`` (``""`` without a concept), ``effect`` with
    ``q`` over the layer, and ``output`` with ``carried``, the logit it carries there (None where no network was loaded);
    and ``gaps``: ``output``, ``attribute``, ``gap`` of the logit with ``low`` and ``high`` over patients, and
    ``named_share``, the share of it through units with a name. Without it the page says how to make one.
    """
    data = {
        "made": view.audit is not None,
        **(dict(view.audit) if view.audit is not None else {"rows": [], "gaps": []}),
    }
    return Page("Audit", "audit.html", ("audit",), data)
