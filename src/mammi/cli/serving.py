"""``mammi serve``: the explorer of a run, in the browser of whoever holds the printed link."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from mammi.cli.app import app, command
from mammi.cli.console import err, out
from mammi.registry import import_extra

__all__ = ["serve"]


@app.command()
@command
def serve(
    run: Annotated[Path, typer.Argument(help="A run folder that 'mammi annotate' wrote.")],
    with_images: Annotated[
        bool, typer.Option("--with-images", help="Show the example films: pictures of patients.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 for any that is free.")] = 0,
    beside: Annotated[Path | None, typer.Option(help="A second run over the same films, to compare with.")] = None,
) -> None:
    """Open a run in the browser: units, classes, search by any words, explanation of a film. For this machine only."""
    from mammi.store import open_run

    for module in ("fastapi", "uvicorn", "python_multipart"):
        import_extra(module, "web")
    first = open_run(run)
    second = None if beside is None else open_run(beside)
    from mammi.web.serve import serve as run_server

    def ready(link: str) -> None:
        out.print(link, markup=False, soft_wrap=True)
        err.print("Open this link in a browser on this machine. It lets its holder in: keep it. Ctrl+C stops.")

    with suppress(KeyboardInterrupt):  # how it is ended
        run_server(first, with_images=with_images, port=port, beside=second, ready=ready)
