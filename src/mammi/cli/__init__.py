"""The command line: ``mammi COMMAND``; the only room that prints."""

from mammi.cli import annotating, benchmarking, comparing, demo, explaining, looking, preparing
from mammi.cli.app import app, main

__all__ = ["annotating", "app", "benchmarking", "comparing", "demo", "explaining", "looking", "main", "preparing"]
