"""The command line: ``mammi COMMAND``; the only room that prints."""

from mammi.cli import annotating, benchmarking, comparing, demo, looking, preparing, serving
from mammi.cli.app import app, main

__all__ = ["annotating", "app", "benchmarking", "comparing", "demo", "looking", "main", "preparing", "serving"]
