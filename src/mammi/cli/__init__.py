"""The command line: ``mammi COMMAND``; the only room that prints."""

from mammi.cli import (
    annotating,
    auditing,
    benchmarking,
    comparing,
    demo,
    explaining,
    looking,
    models,
    placing,
    preparing,
    proving,
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
    "models",
    "placing",
    "preparing",
    "proving",
    "serving",
]
