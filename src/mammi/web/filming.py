"""What is said of an uploaded film: why the network says what it says, and which units find it unusual."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from mammi.capture import Recorder
from mammi.explain.account import run_plan
from mammi.explain.film import explain_film
from mammi.explain.search import standing
from mammi.pages import Page, RunView
from mammi.pages.explanation import explanation_page, explanation_pictures
from mammi.pages.view import finite
from mammi.types import Film
from mammi.web.guard import Refusal
from mammi.web.models import Models

__all__ = ["explained_page", "film_form", "unusual_page"]

#: Units listed of each layer.
MOST = 30
#: Where the answer to an upload is: at the address of the form, without a twin to call up again.
ANSWER = ("film", "upload")


def film_form(view: RunView, models: Models) -> Page:
    """Return the page that asks for a film."""
    data = {"missing": models.missing.get("target", ""), "partly": models.missing.get("account", "")}
    return Page("Explain a film", "film.html", ("film",), {**data, "layers": view.run.layers})


def explained_page(view: RunView, models: Models, film: Film, *, with_images: bool) -> Page:
    """Return the explanation of one film, or what units find unusual about it where contributions are not known.

    Raises:
        Refusal: with status 503 if the network is not loaded.
        InputError: if the network gives no finite number for the film.
    """
    if models.account is None:
        return unusual_page(view, models, film)
    with models.using:
        explanation = explain_film(models.account, film)
        pictures = explanation_pictures(explanation, film, with_film=with_images)
    page = explanation_page(explanation, pictures, ANSWER)
    return replace(page, data={**page.data, "warnings": list(film.warnings)})


def unusual_page(view: RunView, models: Models, film: Film) -> Page:
    """Return the units of every layer whose activation on a film is most unusual among the run's films.

    Raises:
        Refusal: with status 503 if the network is not loaded.
    """
    target = models.target
    if target is None:
        raise Refusal(503, models.missing.get("target", "The network is not loaded."), retry_after="10")
    plans = [run_plan(view.run, target, layer) for layer in view.run.layers]
    with models.using, Recorder(target.model, plans) as recorder:
        recorded = recorder.record(target.view(film)[None].to(target.device))
    with torch.no_grad():
        layers = [_layer(view, plan.name, recorded[plan.name][0].numpy()) for plan in plans]
    data = {"warnings": list(film.warnings), "n_films": len(view.films), "most": MOST, "layers": layers}
    return Page("Units that find a film unusual", "unusual.html", ANSWER, data)


def _layer(view: RunView, layer: str, activation: np.ndarray[Any, np.dtype[np.float32]]) -> dict[str, Any]:
    found = standing(view.run, layer, activation)
    # First how far from the middle in rank, then, among those beyond every film, in standard deviations.
    far = np.abs(found.percentile - 0.5), np.abs(np.nan_to_num(found.z))
    usable = np.isfinite(found.z) & np.isfinite(activation)
    order = [int(unit) for unit in np.lexsort((-far[1], -far[0])) if usable[unit]][:MOST]
    names = view.units(layer)
    rows = [
        {
            "unit": unit,
            "output": str(names["output"].iat[unit]),
            "name": str(names["name"].iat[unit]),
            "named": bool(names["n_concepts"].iat[unit]),
            "activation": finite(activation[unit]),
            "percentile": finite(found.percentile[unit]),
            "z": finite(found.z[unit]),
        }
        for unit in order
    ]
    return {"layer": layer, "n_units": len(activation), "rows": rows}
