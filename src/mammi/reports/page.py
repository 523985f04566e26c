"""One HTML file per run that opens from disk, with nothing fetched: units by layer, concepts, example films."""

import base64
import io
import json
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined
from PIL import Image

from mammi.data import read_film
from mammi.errors import ImageError
from mammi.pages.galleries import withheld_because
from mammi.pages.method import how_to_read
from mammi.store.files import read_json, write_atomic
from mammi.store.run import Run
from mammi.types import Film, Progress, no_progress

__all__ = ["thumbnail", "unit_page", "write_report"]

#: Longest side of a thumbnail, in pixels: enough to see an effusion, and 1,000 of them in some 4 MB.
SIDE = 144
#: Examples shown per unit.
SHOWN = 8


def write_report(run: Run, path: str | Path, *, with_images: bool = False, progress: Progress = no_progress) -> Path:
    """Write a run as one HTML page.

    Args:
        run: a complete run.
        path: where to write.
        with_images: show thumbnails of the example films, read again from where they lie. They are pictures of
            patients: off unless asked for, and withheld where those of a unit are of fewer than 3. File names and paths
            are never written.
        progress: told of every film.

    Returns:
        ``path``.

    Raises:
        RunError: if the run lacks a table or the page cannot be written.
        ImageError: if a film cannot be found or read any more.
    """
    page = _render(run, run.units, with_images, progress)
    write_atomic(Path(path), lambda file: file.write(page.encode()))
    return Path(path)


def unit_page(run: Run, layer: str, index: int, *, with_images: bool = False) -> str:
    """Return the page of one unit as a whole HTML document, for a notebook or a file.

    Args:
        run: a complete run.
        layer: name of the layer.
        index: number of the unit, from 0.
        with_images: as in `write_report`.

    Raises:
        UnknownNameError: if the run holds no such layer.
        InputError: if the layer has no unit of that index.
    """
    run.unit(layer, index)
    units = run.units
    return _render(run, units[(units["layer"] == layer) & (units["unit"] == index)], with_images, no_progress)


def _render(run: Run, units: pd.DataFrame, with_images: bool, progress: Progress) -> str:
    wanted = units[["layer", "unit"]]
    examples = run.examples[run.examples["rank"] <= SHOWN].merge(wanted, on=["layer", "unit"])
    annotations = run.annotations.merge(wanted, on=["layer", "unit"])
    withheld = _withheld(run, examples) if with_images else {}
    keys = zip(examples["layer"], examples["unit"], strict=True)
    pictured = {int(film) for film, key in zip(examples["film"], keys, strict=True) if not withheld.get(key)}
    terms = sorted(set(annotations["concept"]))
    numbers = {str(term): number for number, term in enumerate(terms)}
    return str(
        _template().render(
            manifest=run.manifest,
            counts=run.manifest["counts"],
            layers=[_layer_summary(run.units, layer) for layer in run.layers],
            data=_script_json(
                {
                    "terms": terms,
                    "films": list(run.images["id"]),
                    "pictures": _pictures(run, sorted(pictured), progress) if with_images else {},
                    "units": _units(units, annotations, examples, numbers, run.layers, withheld),
                }
            ),
            style=_asset("page.css"),
            script=_asset("page.js"),
            with_images=with_images,
            how_to_read=how_to_read(run.manifest["identity"]),
        )
    )


def _asset(name: str) -> str:
    return files("mammi.reports").joinpath(name).read_text(encoding="utf-8")


def _template() -> Any:  # noqa: ANN401 - jinja2's Template
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(
        _asset("page.html")
    )


def _script_json(value: Any) -> str:  # noqa: ANN401 - whatever JSON can write
    """Write JSON that no ``</script>`` or comment inside a name can break out of."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _layer_summary(units: pd.DataFrame, layer: str) -> dict[str, Any]:
    mine = units[units["layer"] == layer]
    named = mine[mine["n_concepts"] > 0]
    common = named["name"].value_counts(sort=True).head(3)
    return {
        "name": layer,
        "units": len(mine),
        "named": len(named),
        "examples": float(mine["n_examples"].median()),
        "common": [(str(name), int(count)) for name, count in common.items()],
    }


def _units(
    units: pd.DataFrame,
    annotations: pd.DataFrame,
    examples: pd.DataFrame,
    numbers: dict[str, int],
    layers: list[str],
    withheld: dict[tuple[Any, Any], str],
) -> list[dict[str, Any]]:
    """Return one record per unit, with short keys: there may be many thousand."""
    ranked = dict(iter(annotations.groupby(["layer", "unit"], sort=False)))
    shown = dict(iter(examples.groupby(["layer", "unit"], sort=False)))
    places = {layer: number for number, layer in enumerate(layers)}
    records = []
    for row in units.to_dict("records"):
        key = (row["layer"], row["unit"])
        concepts, films = ranked.get(key), shown.get(key)
        records.append(
            {
                "l": places[str(row["layer"])],
                "u": int(row["unit"]),
                "o": str(row["output"]),
                "m": _formula(row, concepts),
                "n": int(row["n_examples"]),
                "r": str(row["reason"]),
                "w": withheld.get(key, ""),
                "a": [_number(row["low"]), _number(row["high"])],
                "c": []
                if concepts is None
                else [
                    [numbers[str(entry["concept"])], _number(entry["score"]), int(entry["kept"]), *_sure(entry)]
                    for entry in concepts.to_dict("records")
                ],
                "f": []
                if films is None
                else [[int(f), _number(a)] for f, a in zip(films["film"], films["activation"], strict=True)],
            }
        )
    return records


def _withheld(run: Run, examples: pd.DataFrame) -> dict[tuple[Any, Any], str]:
    """Say of every unit why pictures of its films are not shown; "" if they are."""
    patients = examples.assign(patient=run.images["patient"].to_numpy()[examples["film"]])
    counts = patients.groupby(["layer", "unit"], sort=False)["patient"].nunique()
    return dict(zip(counts.index, map(withheld_because, counts.tolist()), strict=True))


def _formula(unit: dict[Any, Any], concepts: pd.DataFrame | None) -> str:
    """Return a unit's name where it says more than its first concept."""
    first = "no concept" if concepts is None else str(concepts["concept"].iloc[0])
    return "" if unit["name"] in (first, "no concept") else str(unit["name"])


def _sure(entry: dict[Any, Any]) -> list[list[Any]]:
    """Return effect, q-value, stability, sense and purity of a kept concept, if the method states any of them."""
    numbers = [_number(entry[name]) for name in ("effect", "q_value", "stability")]
    stated = any(number is not None for number in numbers)
    return [[*numbers, int(entry["sense"]), _number(entry["purity"])]] if stated else []


def _number(value: Any) -> float | None:  # noqa: ANN401 - a numpy scalar
    return float(f"{float(value):.5g}") if np.isfinite(value) else None


def thumbnail(film: Film, side: int = SIDE) -> str:
    """Return a film as a small JPEG in a ``data:`` address; carries no metadata of the source."""
    picture = film.to_pil()
    picture.thumbnail((side, side), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=78, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _pictures(run: Run, films: Iterable[int], progress: Progress) -> dict[int, str]:
    sources = read_json(run.folder / "private" / "films.json")
    rows = run.images["row"].to_numpy()
    frame = run.manifest["identity"]["images"]["frame"]
    wanted = list(films)
    pictures = {}
    for done, film in enumerate(wanted, start=1):
        path = Path(sources[int(rows[film])]["path"])
        if not path.is_file():
            raise ImageError(f"film {run.images['id'].iloc[film]} is not where it was: leave out --with-images")
        pictures[int(film)] = thumbnail(read_film(path, frame=frame))
        progress("drawing thumbnails", done, len(wanted))
    return pictures
