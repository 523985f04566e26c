"""Faces on paper: a run as one self-contained HTML page."""

from mammi.reports.page import unit_page, write_report

__all__ = ["unit_page", "write_report"]
