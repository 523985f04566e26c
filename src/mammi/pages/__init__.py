"""Every page of the face, once: what it says as data, how it looks as a template; for files on disk and the explorer.

A face makes one `RunView`, asks it for pages, and renders them with a `Site` of its own::

    view = RunView(run)
    page = overview_page(view)      # units_page, unit_page, classes_page, class_page, audit_page, method_page
    html, data = render(page, site), twin(page)
"""

from mammi.pages.overview import overview_page
from mammi.pages.site import ASSETS, Links, NavEntry, Page, Site, asset, render, twin
from mammi.pages.view import RunView

__all__ = ["ASSETS", "Links", "NavEntry", "Page", "RunView", "Site", "asset", "overview_page", "render", "twin"]
