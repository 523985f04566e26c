"""Says in words what the units of a medical imaging network respond to, without pixel masks.

    >>> import mammi
    >>> "mammi" in dict(mammi.list_methods())
    True

A research and audit tool, not a diagnostic device.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mammi.arrays import ArrayAnnotations, annotate_arrays
    from mammi.comparison import Comparison, compare
    from mammi.concepts import Concept, ConceptSet, build_concepts, read_reports
    from mammi.data import MaskSet, ProbingSet, read_film
    from mammi.engine import create_engine
    from mammi.errors import MammiError
    from mammi.methods import list_methods
    from mammi.opinions import ask_second_opinions
    from mammi.pipeline import annotate
    from mammi.reports import unit_page, write_report, write_report_folder
    from mammi.store import Run, open_run
    from mammi.targets import create_target, list_layers, list_targets
    from mammi.vlms import create_vlm, list_vlms

#: Where each public name lives. Loaded on first use, so that ``import mammi`` and ``mammi --help`` stay light.
_HOMES = {
    "ArrayAnnotations": "mammi.arrays",
    "Comparison": "mammi.comparison",
    "Concept": "mammi.concepts",
    "ConceptSet": "mammi.concepts",
    "MammiError": "mammi.errors",
    "MaskSet": "mammi.data",
    "ProbingSet": "mammi.data",
    "Run": "mammi.store",
    "annotate": "mammi.pipeline",
    "annotate_arrays": "mammi.arrays",
    "ask_second_opinions": "mammi.opinions",
    "build_concepts": "mammi.concepts",
    "compare": "mammi.comparison",
    "create_engine": "mammi.engine",
    "create_target": "mammi.targets",
    "create_vlm": "mammi.vlms",
    "list_layers": "mammi.targets",
    "list_methods": "mammi.methods",
    "list_targets": "mammi.targets",
    "list_vlms": "mammi.vlms",
    "open_run": "mammi.store",
    "read_film": "mammi.data",
    "read_reports": "mammi.concepts",
    "unit_page": "mammi.reports",
    "write_report": "mammi.reports",
    "write_report_folder": "mammi.reports",
}

__all__ = [
    "ArrayAnnotations",
    "Comparison",
    "Concept",
    "ConceptSet",
    "MammiError",
    "MaskSet",
    "ProbingSet",
    "Run",
    "annotate",
    "annotate_arrays",
    "ask_second_opinions",
    "build_concepts",
    "compare",
    "create_engine",
    "create_target",
    "create_vlm",
    "list_layers",
    "list_methods",
    "list_targets",
    "list_vlms",
    "open_run",
    "read_film",
    "read_reports",
    "unit_page",
    "write_report",
    "write_report_folder",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a public name of any kind
    if name not in _HOMES:
        raise AttributeError(f"module 'mammi' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
