"""One film explained: the page, its pictures, and the site of a page that is a single file."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mammi.pages import charts
from mammi.pages.galleries import withheld_because
from mammi.pages.site import Page, Place, Site, asset
from mammi.pages.thumbnails import jpeg
from mammi.types import Film, UnitId

if TYPE_CHECKING:
    from mammi.explain.film_result import FilmExplanation, OutputExplanation

__all__ = ["FILM", "alone", "data_address", "explanation_page", "explanation_pictures"]

#: Name of the film's own picture among a page's pictures; those of units are ``"unit 12"``.
FILM = "film"
#: Names listed of each output; the rest is one row.
CONCEPTS = 12
#: Cells along a side of a map that is shown without its film: the maps of a first layer are a picture of the patient.
COARSE = 16
_MEDIA = {"css": "text/css", "js": "text/javascript"}


def explanation_page(
    explanation: "FilmExplanation", pictures: Mapping[str, str] | None = None, place: Place = ("film",)
) -> Page:
    """Return the page of one film.

    Args:
        explanation: what `explain_film` found.
        pictures: from `explanation_pictures`.
        place: where the page is.
    """
    said = explanation.to_dict()
    data = {
        **said,
        "probabilities": any(prediction.probability is not None for prediction in explanation.predictions),
        "thresholds": any(prediction.threshold is not None for prediction in explanation.predictions),
        "outputs": [
            {key: value for key, value in one.items() if key != "contributions"}
            | {"sum": _rows(output), "concepts": _concepts(output), "similar": _similar(output)}
            for one, output in zip(said["outputs"], explanation.outputs, strict=True)
        ],
    }
    return Page("What the network made of one film", "explanation.html", place, data, dict(pictures or {}))


def _rows(output: "OutputExplanation") -> dict[str, Any]:
    """Lay out what adds up to the logit: base, units, all others, what is not accounted for."""
    parts: list[dict[str, Any]] = [{"kind": "base", "label": "base", "value": output.base, "unit": None}]
    parts += [
        {"kind": "unit", "label": unit.name, "value": unit.contribution, "unit": place}
        for place, unit in enumerate(output.units)
    ]
    if output.n_others:
        label = f"all other {output.n_others:,} units"
        parts.append({"kind": "others", "label": label, "value": output.others, "unit": None})
    if output.told_gap:
        parts.append({"kind": "gap", "label": "not accounted for", "value": output.told_gap, "unit": None})
    return charts.steps(parts, output.prediction.logit)


def _concepts(output: "OutputExplanation") -> list[dict[str, Any]]:
    """Return the names that add most, and the sum of the others; ``"no concept"`` is always among them."""
    listed = [share for place, share in enumerate(output.concepts) if place < CONCEPTS or share.concept == "no concept"]
    rows: list[dict[str, Any]] = [
        {"concept": share.concept, "units": share.units, "contribution": share.contribution, "other": 0}
        for share in listed
    ]
    left = [share for share in output.concepts if share not in listed]
    if left:
        units, contribution = sum(share.units for share in left), float(sum(share.contribution for share in left))
        rows.append({"concept": "", "units": units, "contribution": contribution, "other": len(left)})
    return rows


def _similar(output: "OutputExplanation") -> dict[str, Any]:
    """Return the films like it as a gallery; they are of one patient each."""
    films = [
        {"id": film.film, "patient": film.patient, "activation": film.similarity, "caption": ", ".join(film.labels)}
        for film in output.similar
    ]
    return {"films": films, "patients": len(films), "withheld": withheld_because(len(films)) if films else ""}


def explanation_pictures(explanation: "FilmExplanation", film: Film, *, with_film: bool) -> dict[str, str]:
    """Return the maps of the units listed as pictures, on the film or alone.

    Args:
        explanation: what `explain_film` found for it.
        film: the film.
        with_film: show it: it is a picture of a patient. Without, a map is shown alone and no finer than 16 by 16.

    Returns:
        ``data:`` addresses: ``"unit 12"`` of each unit listed, and ``"film"`` with ``with_film``.
    """
    from mammi.explain.overlay import overlay

    found = {}
    where = explanation.where
    if with_film:
        found[FILM] = data_address(jpeg(film, 512))
    if where is not None:
        shape = where.maps.shape[1:]
        shown = _shrunk(film, shape) if with_film else Film(np.zeros(shape, np.float32))
        units = {unit.unit: unit for output in explanation.outputs for unit in output.units}
        for number, values in zip(where.units, where.maps, strict=True):
            unit = units[number]
            values = values if with_film else _coarse(values)
            picture = overlay(
                shown, values, name=unit.name, unit=UnitId(explanation.layer, number), value=unit.activation
            )
            found[f"unit {number}"] = data_address(_repacked(picture))
    return found


def _shrunk(film: Film, shape: tuple[int, ...]) -> Film:
    """Return a film at the size of its maps, in grey."""
    picture = film.to_pil().convert("L").resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    return Film((np.asarray(picture) / 255).astype(np.float32))


def _coarse(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a map of which no more than so many means are left."""
    import torch
    from torch.nn.functional import adaptive_avg_pool2d, interpolate

    size = tuple(min(COARSE, side) for side in values.shape)
    cells = adaptive_avg_pool2d(torch.from_numpy(np.nan_to_num(values))[None, None], size)
    smooth = interpolate(cells, values.shape, mode="bilinear", align_corners=False)[0, 0].numpy()
    coarse: NDArray[np.float32] = np.where(np.isnan(values), np.float32(np.nan), smooth)
    return coarse


def data_address(picture: bytes) -> str:
    """Return a JPEG as an address that holds it."""
    return f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"


def _repacked(png: bytes) -> bytes:
    """Return a picture as JPEG: a fifth of the size."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(buffer, "JPEG", quality=84, optimize=True)
    return buffer.getvalue()


@dataclass(frozen=True)
class _Alone:
    """Addresses of a page that is one file: everything it needs is in it."""

    thumbnails: Mapping[str, str] = field(repr=False)

    def page(self, *place: str | int) -> str:
        return "#main"

    def twin(self, *place: str | int) -> str:
        return ""

    def picture(self, film: str) -> str:
        return self.thumbnails.get(film, "")

    def asset(self, name: str) -> str:
        kind = _MEDIA[name.rpartition(".")[2]]
        return f"data:{kind};base64,{base64.b64encode(asset(name)).decode()}"


def alone(name: str, thumbnails: Mapping[str, str], *, with_images: bool) -> Site:
    """Return the site of a page that is a single file and leads nowhere.

    Args:
        name: of the network.
        thumbnails: pictures of the run's films as ``data:`` addresses, by salted id.
        with_images: whether pictures of films are shown.
    """
    return Site(name, _Alone(thumbnails), nav=(), with_images=with_images)
