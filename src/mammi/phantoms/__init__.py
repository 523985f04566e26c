"""Drawn chest films with known findings, reports in words, and the small models trained on them: the offline default."""

from importlib import import_module
from typing import Any

#: Public names and where they live; loaded on first use, so that importing the room needs neither torch nor numpy.
_HOMES = {
    "DEVICES": "catalogue",
    "FINDINGS": "catalogue",
    "OUTPUTS": "catalogue",
    "SYNONYMS": "catalogue",
    "is_named": "catalogue",
    "Cohort": "cohort",
    "PhantomFilm": "film",
    "draw": "film",
    "Report": "reports",
    "Shortcut": "shortcut",
    "write_report": "reports",
    "write_cohort": "writing",
}

__all__ = [
    "DEVICES",
    "FINDINGS",
    "OUTPUTS",
    "SYNONYMS",
    "Cohort",
    "PhantomFilm",
    "Report",
    "Shortcut",
    "draw",
    "is_named",
    "write_cohort",
    "write_report",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any of the public names
    """Load a public name from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
