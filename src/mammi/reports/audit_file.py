"""An audit as one page that opens from disk: the same page as in the report, its style and data inside."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mammi.pages import Page, RunView, Site, asset, audit_page, render, twin
from mammi.store.files import atomic_path
from mammi.store.run import Run

__all__ = ["write_audit_page"]

_KINDS = {"css": "text/css", "js": "text/javascript"}


class _OneFile:
    """Addresses of a page that stands alone: everything is inside, and no other page exists."""

    def __init__(self, page: Page) -> None:
        self._page = page

    def page(self, *place: str | int) -> str:
        return ""

    def twin(self, *place: str | int) -> str:
        return _inside("application/json", twin(self._page).encode())

    def picture(self, film: str) -> str:
        return ""

    def asset(self, name: str) -> str:
        return _inside(_KINDS[name.rpartition(".")[2]], asset(name))


def write_audit_page(run: Run, audit: Mapping[str, Any], path: str | Path) -> Path:
    """Write what an audit found as one self-contained HTML file. It names no patient, no film and no path.

    Args:
        run: the run that was audited.
        audit: from `mammi.explain.audit_result.Audit.to_dict`.
        path: the file to write.

    Returns:
        The file.
    """
    path = Path(path)
    view = RunView(run, audit=audit)
    page = audit_page(view)
    site = Site(view.name, _OneFile(page), nav=())
    with atomic_path(path) as aside:
        aside.write_text(render(page, site), encoding="utf-8")
    return path


def _inside(kind: str, content: bytes) -> str:
    return f"data:{kind};charset=utf-8;base64,{base64.b64encode(content).decode()}"
