"""``mammi vlms map``: where on a film a text is, as a vision-language model with patches sees it."""

from pathlib import Path
from typing import Annotated

import typer

from mammi.cli.app import command
from mammi.cli.console import err, out
from mammi.cli.models import vlms_app
from mammi.errors import InputError

__all__ = ["text_map"]


@vlms_app.command("map")
@command
def text_map(
    film: Annotated[Path, typer.Argument(help="A film: PNG, JPEG, TIFF or DICOM.")],
    vlm: Annotated[str, typer.Argument(help="A vision-language model with patches, as biovil:FOLDER.")],
    text: Annotated[str, typer.Option(help="What to look for.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The PNG to write: a picture of a patient.")],
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:1.")] = "cpu",
) -> None:
    """Draw where on a film a text is: the cosine of every patch with it."""
    from mammi.data import read_film
    from mammi.explain.text_map import draw_text_map
    from mammi.explain.text_map import text_map as find
    from mammi.vlms import create_vlm

    if output.suffix.lower() != ".png":
        raise InputError(f"--output must end with .png, got {output.name!r}")
    decoded = read_film(film)
    annotator = create_vlm(vlm, device=device)
    found = find(annotator, decoded, text)
    for note in annotator.notes:
        err.print(f"note: {note}", markup=False, soft_wrap=True)
    output.write_bytes(draw_text_map(decoded, found))
    rows, columns = found.cosines.shape
    low, high = float(found.cosines.min()), float(found.cosines.max())
    out.print(f"cosine of the whole film: {found.cosine:+.3f}", markup=False)
    out.print(f"of its {rows} x {columns} patches: {low:+.3f} to {high:+.3f}", markup=False)
    out.print(f"map: {output}", markup=False, soft_wrap=True)
    err.print("A research and audit tool, not a diagnostic device.")
