"""Every page of the face, once: what it says as data, how it looks as a template; for files on disk and the explorer.

A face makes one `RunView`, asks it for pages, and renders them with a `Site` of its own::

    view = RunView(run)
    page = overview_page(view)  # units_page, unit_page, classes_page, class_page, audit_page, method_page
    html, data = render(page, site), twin(page)
"""

from mammi.pages.audit import audit_page
from mammi.pages.classes import class_page, classes_page
from mammi.pages.method import method_page, model_card
from mammi.pages.opinions import nav_of, opinions_page
from mammi.pages.overview import overview_page
from mammi.pages.site import ASSETS, NAV, Links, NavEntry, Page, Site, asset, render, twin
from mammi.pages.unit import unit_page
from mammi.pages.units import units_page
from mammi.pages.view import RunView

__all__ = [
    "ASSETS",
    "NAV",
    "Links",
    "NavEntry",
    "Page",
    "RunView",
    "Site",
    "asset",
    "audit_page",
    "class_page",
    "classes_page",
    "method_page",
    "model_card",
    "nav_of",
    "opinions_page",
    "overview_page",
    "render",
    "twin",
    "unit_page",
    "units_page",
]
