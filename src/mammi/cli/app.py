"""The application itself: what every command shares."""

import os
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

# Sleeping threads instead of spinning ones: ten times quicker where another program uses the other core. Read by the
# OpenMP library when torch is first imported, so it is set here and not in the library.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import typer
from rich.table import Table

from mammi.cli.console import err
from mammi.errors import MammiError

__all__ = ["app", "command", "concepts_app", "main", "phantoms_app", "table"]

P = ParamSpec("P")
R = TypeVar("R")

app = typer.Typer(
    name="mammi",
    help="Says in words what the units of a medical imaging network respond to. "
    "A research and audit tool, not a diagnostic device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
concepts_app = typer.Typer(help="Make and look at concept sets.", no_args_is_help=True, rich_markup_mode=None)
phantoms_app = typer.Typer(help="Drawn chest films with known findings.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(concepts_app, name="concepts")
app.add_typer(phantoms_app, name="phantoms")


def main() -> None:
    """Run the command line; exit code 2 for a user's error, 130 after an interrupt."""
    app()


def command(function: Callable[P, R]) -> Callable[P, R]:
    """Turn what a user can mend into one line and exit code 2; any other error is a fault and keeps its trace."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except MammiError as error:
            err.print(f"mammi: error: {error}", markup=False, soft_wrap=True)
            raise typer.Exit(2) from error
        except BrokenPipeError:
            raise
        except OSError as error:
            where = f" {error.filename}" if error.filename else ""
            err.print(f"mammi: error: cannot read or write{where}: {error.strerror}", markup=False, soft_wrap=True)
            raise typer.Exit(2) from error
        except KeyboardInterrupt as error:
            err.print("mammi: interrupted; what is recorded stays, the same command goes on from there")
            raise typer.Exit(130) from error

    return run


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """Return an empty table without rules; columns named in ``right`` are set to the right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table
