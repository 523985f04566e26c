"""The command line: ``mammi COMMAND``; the only room that prints."""

from mammi.cli.main import app, main

__all__ = ["app", "main"]
