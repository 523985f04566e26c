"""Print, and write into docs/models-table.md, one row per annotator and per target: ``python -m tests.published``.

Every checkpoint is random, written in its published layout at its published size, and loaded from the file. Takes
minutes and some 10 GiB; ``--only NAME`` makes one row, ``--size tiny`` small ones. ``--refusals`` prints what is said of
spoiled checkpoints instead.
"""

import argparse
import gc
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

from tests.published.refusals import SPOILED, refusal
from tests.published.vlm_row import Published, measure

DOCS = Path(__file__).parents[2] / "docs"
HEAD = """# Every model, measured

Made by `python -m tests.published`, which writes each checkpoint with random weights in its published layout and at its
published size, loads it from the file, and compares it with a forward pass written without `mammi`. Differences are the
largest of any number of an embedding of unit length (or of an output); float32 on two CPU cores.
"""


def modules(name: str) -> Iterator[object]:
    """Yield the modules here that hold ``ROWS`` of a kind."""
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if not path.stem.startswith("_") and path.stem != "vlm_row":
            module = import_module(f"tests.published.{path.stem}")
            if hasattr(module, "ROWS") and (path.stem.startswith("target") == (name == "targets")):
                yield module


def in_folder(work: Callable[[Path], list[str]], name: str) -> list[str] | None:
    """Do one row in a folder of its own; say on stderr how it went."""
    folder = Path(tempfile.mkdtemp())
    start = time.perf_counter()
    try:
        cells = work(folder)
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr)  # noqa: T201 - a command of the tests
    except Exception:  # noqa: BLE001 - the other rows are still wanted
        traceback.print_exc()
        return None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        gc.collect()
    return [name, *cells]


def vlm_cells(published: Published, folder: Path, size: str) -> list[str]:
    """Return the columns of an annotator."""
    found = measure(published, folder, size)
    yes = {True: "yes", False: "no"}
    return [
        "yes",
        *(f"{found[key]:.0e}" for key in ("images", "texts", "batch", "padding")),
        "alone" if found["alone"] else "together",
        "any model" if published.generic else yes[bool(found["card"])],
    ]


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """Return a table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def print_refusals(only: str) -> int:
    """Print what is said of spoiled checkpoints; return 1 if one was not refused."""
    bad = 0
    hub = import_module("huggingface_hub")
    hub.HfApi.model_info = unreachable  # what is missing here must not be looked for elsewhere
    for module in modules("annotators"):
        for published in module.ROWS:
            if published.generic or only.lower() not in published.name.lower():
                continue
            for how in SPOILED:
                with tempfile.TemporaryDirectory() as folder:
                    said = refusal(published, Path(folder), how) or "nothing to spoil: its tokenizer is a library's"
                bad += said in ("LOADED", "RAN CODE")
                print(f"{published.name}, {how}: {said}")  # noqa: T201 - a command of the tests
    return int(bad > 0)


def unreachable(*_: object, **__: object) -> None:
    """Stand for a network that is not there."""
    raise OSError("Name or service not known")


def main() -> int:
    """Make the rows asked for; return 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="rows whose name holds this")
    parser.add_argument("--size", default="full", choices=("tiny", "full"))
    parser.add_argument("--refusals", action="store_true", help="spoil tiny checkpoints and print what is said")
    asked = parser.parse_args()
    if asked.refusals:
        return print_refusals(asked.only)
    tables, failed = [], 0
    head = ["annotator", "loaded from file", "images differ", "texts differ", "batch", "padding", "texts", "card whole"]
    rows = []
    for module in modules("annotators"):
        for published in module.ROWS:
            if asked.only.lower() in published.name.lower():
                row = in_folder(lambda folder, p=published: vlm_cells(p, folder, asked.size), published.name)
                failed += row is None
                rows += [row] if row else []
    tables.append(markdown(head, rows))
    rows, columns = [], ["loaded"]
    for module in modules("targets"):
        for target in module.ROWS:
            if asked.only.lower() not in target.name.lower():
                continue

            def cells(folder: Path, target: object = target) -> list[str]:
                nonlocal columns
                found = target.check(*target.make(folder))
                columns = list(found)
                return [target.family, *found.values()]

            row = in_folder(cells, target.name)
            failed += row is None
            rows += [row] if row else []
    if rows:
        tables.append(markdown(["target", "family", *columns], rows))
    text = "\n\n".join(tables)
    print(text)  # noqa: T201 - a command of the tests
    if not asked.only and asked.size == "full" and not failed:
        (DOCS / "models-table.md").write_text(f"{HEAD}\n{text}\n", encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
