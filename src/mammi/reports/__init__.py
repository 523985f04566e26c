"""Faces on paper: a run as a folder of pages, or as one self-contained HTML page."""

from mammi.reports.audit_file import write_audit_page
from mammi.reports.folder import write_report_folder
from mammi.reports.page import unit_page, write_report

__all__ = ["unit_page", "write_audit_page", "write_report", "write_report_folder"]
