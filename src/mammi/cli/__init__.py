"""The command line: ``mammi COMMAND``; the only room that prints."""

from mammi.cli import (
    annotating,
    auditing,
    benchmarking,
    comparing,
    demo,
    explaining,
    looking,
    mapping,
    models,
    ontologies,
    opining,
    placing,
    preparing,
    serving,
)
from mammi.cli.app import app, main

__all__ = [
    "annotating",
    "app",
    "auditing",
    "benchmarking",
    "comparing",
    "demo",
    "explaining",
    "looking",
    "main",
    "mapping",
    "models",
    "ontologies",
    "opining",
    "placing",
    "preparing",
    "serving",
]
