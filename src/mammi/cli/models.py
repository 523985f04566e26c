"""``mammi vlms``: the vision-language models that can name units, what may be done with each, and how they do."""

import typer
from rich.markup import escape

from mammi.cli.app import app, command, table
from mammi.cli.console import out

__all__ = ["vlms_app"]

vlms_app = typer.Typer(
    help="The vision-language models that can name units: list them, check one, fit your own.",
    invoke_without_command=True,
    rich_markup_mode=None,
)
app.add_typer(vlms_app, name="vlms")


@vlms_app.callback(invoke_without_command=True)
@command
def vlms(context: typer.Context) -> None:
    """List the kinds of vision-language model that can name units."""
    if context.invoked_subcommand is not None:
        return
    from mammi.vlms import list_vlms

    rows = table("name", "what it is")
    for name, summary in list_vlms():
        rows.add_row(escape(name), escape(summary))
    out.print(rows)
