"""``mammi vlms``: the vision-language models that can name units, and what may be done with each."""

import re
from typing import Annotated

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
def vlms(
    context: typer.Context,
    commercial: Annotated[
        bool, typer.Option("--commercial", help="Leave out models whose licence forbids commercial use.")
    ] = False,
) -> None:
    """List the vision-language models that can name units; with a command, check one or fit your own."""
    if context.invoked_subcommand is not None:
        return
    from mammi.vlms import forbids_commerce, known_models, list_vlms

    kinds = table("kind", "what it is")
    for name, summary in list_vlms():
        kinds.add_row(escape(name), escape(summary))
    out.print(kinds)
    out.print()
    rows = table("model", "made for", "pixels", "licence", "weights", "load it with", right=("pixels",))
    for known in known_models():
        card = known.card
        if commercial and forbids_commerce(card):
            continue
        pixels = str(card.image_size) if card.image_size else "-"
        spec = re.sub(r":\*$", ":FILE", known.specs[0])
        rows.add_row(*map(escape, (card.title, card.modality, pixels, card.licence, card.access, spec)))
    out.print(rows)
    out.print("Any other model of these kinds can be used; 'mammi vlms card SPEC' says all that is known of one.")


@vlms_app.command("card")
@command
def show_card(spec: Annotated[str, typer.Argument(help="As for --vlm, for example medclip:weights.bin.")]) -> None:
    """Print what is known of a model: licence, training data, citation. Loads nothing."""
    from mammi.vlms import find_card, forbids_commerce

    card = find_card(spec)
    rows = table("", "")
    rows.show_header = False
    said = (
        ("model", card.title or "not known here"),
        ("made for", card.modality),
        ("pixels", str(card.image_size) if card.image_size else "not stated"),
        ("licence", card.licence + (": no commercial use" if forbids_commerce(card) else "")),
        ("weights", card.access),
        ("trained on", "; ".join(card.training_corpora) or "not stated"),
        ("described in", card.citation or "not stated"),
        *(("note", note) for note in card.notes),
    )
    for name, text in said:
        rows.add_row(name, escape(text))
    out.print(rows)
