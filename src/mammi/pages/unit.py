"""The page of one unit: its name and what speaks for it, the films that excite it and those that do not."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammi.functional.patient_jackknife import pearson_margins
from mammi.functional.quick_agreement import area_under_precision_recall, correlations
from mammi.pages.galleries import gallery, one_a_patient, ranked, spread_films
from mammi.pages.opinions import unit_opinions
from mammi.pages.senses import sense_galleries
from mammi.pages.site import Page
from mammi.pages.view import RunView, finite
from mammi.pages.words import percent

__all__ = ["unit_page"]

#: Example films shown, and films that excite the unit least.
SHOWN, COUNTER = 10, 4
#: Where on the whole range of the activation films are shown: share of films below.
SPREAD = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
#: Bars of the histogram.
BINS = 48
#: Labels shown, those that go with the unit most.
LABELS = 5
#: Outputs shown, those that the unit moves most.
FED = 8


def unit_page(view: RunView, layer: str, index: int) -> Page:
    """Return the page of one unit.

    Reads the unit's row of the activations and its rows of the tables, nothing else of the run but what the view keeps.
    ``view.places[layer, index]``, where given, are rows of the table that `mammi.explain.agreement.unit_agreement` gives:
    whether the unit is strong where a concept was marked on films.

    Raises:
        UnknownNameError: if the run holds no such layer.
        InputError: if the layer has no unit of that index.
    """
    activation = view.activation(layer, index)
    row = view.rows("units", layer, index)[0]
    kept, following = _concepts(view, layer, index)
    examples = [int(example["film"]) for example in view.rows("examples", layer, index, SHOWN)]
    of_examples = frozenset(int(view.patients[film]) for film in examples)
    order = ranked(activation)
    n_units = len(view.units(layer))
    named = bool(kept)
    title = f"{layer}:{index} {row['name']}" if named else f"{layer}:{index} no concept"
    data = {
        "layer": layer,
        "index": index,
        "n_units": n_units,
        "output": str(row["output"]),
        "name": str(row["name"]),
        "named": named,
        "reason": str(row["reason"]),
        "method": view.run.method,
        "concepts": kept,
        "next": following,
        "senses": sense_galleries(view, activation, kept),
        "n_examples": int(row["n_examples"]),
        "examples": gallery(view, examples, activation),
        "counter": gallery(view, one_a_patient(view, order, COUNTER, of_examples), activation),
        "spread": gallery(view, spread_films(order, SPREAD), activation, [_place(share) for share in SPREAD]),
        "patients_known": view.patients_known,
        "histogram": _histogram(activation, examples),
        "labels": _labels(view, activation),
        "feeds": _feeds(view, layer, index, activation),
        "places": _marked(view, layer, index),
        "opinions": unit_opinions(view, layer, index),
    }
    return Page(title, "unit.html", ("unit", layer, index), data)


def _marked(view: RunView, layer: str, index: int) -> list[dict[str, Any]] | None:
    """Return what is known of the unit and marks on films; None where nothing was compared."""
    if view.places is None:
        return None
    return [
        {name: value if isinstance(value, str | int) else finite(value) for name, value in row.items()}
        for row in view.places.get((layer, index), ())
    ]


def _place(share: float) -> str:
    return {0.0: "lowest", 0.5: "median", 1.0: "highest"}.get(share, f"{percent(share)} below")


def _concepts(view: RunView, layer: str, index: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the kept concepts with what the method says of each, and those that came next."""
    kept, following = [], []
    for row in view.rows("annotations", layer, index):
        concept = str(row["concept"])
        entry = {"concept": concept, "category": view.category(concept), "score": finite(row["score"])}
        if row["kept"]:
            sure = {name: finite(row.get(name)) for name in ("effect", "q_value", "stability", "purity")}
            kept.append({**entry, **sure, "sense": int(row.get("sense") or 0)})
        else:
            following.append(entry)
    return kept, following


def _histogram(activation: NDArray[np.float32], examples: list[int]) -> dict[str, Any]:
    """Count films by activation: equal bins from the lowest to the highest."""
    known = activation[np.isfinite(activation)].astype(np.float64)
    if not len(known):
        return {"low": None, "high": None, "median": None, "counts": [], "examples": [], "not_finite": len(activation)}
    low, high = float(known.min()), float(known.max())
    counts = np.histogram(known, BINS, (low, high))[0] if high > low else np.array([len(known)])
    return {
        "low": finite(low),
        "high": finite(high),
        "median": finite(np.median(known)),
        "counts": [int(count) for count in counts],
        "examples": [finite(activation[film]) for film in examples],
        "not_finite": int(len(activation) - len(known)),
    }


def _labels(view: RunView, activation: NDArray[np.float32]) -> dict[str, Any]:
    """Compare the unit with the labels of the films: correlation with its interval over patients, and AUPRC."""
    if not view.label_names:
        return {"n": 0, "rows": []}
    r = correlations(activation[None], view.known_labels)[0]
    best = [
        int(label) for label in np.argsort(-np.abs(np.nan_to_num(r)), kind="stable")[:LABELS] if np.isfinite(r[label])
    ]
    bounds = pearson_margins(activation, view.labels[:, best], view.patients)
    rows = []
    for label, r_of, low, high in zip(best, *bounds, strict=True):
        area, prevalence = area_under_precision_recall(activation, view.labels[:, label])
        rows.append(
            {
                "label": view.label_names[label],
                "r": finite(r_of),
                "low": finite(low),
                "high": finite(high),
                "auprc": finite(area),
                "prevalence": finite(prevalence),
                "films": int((~np.isnan(view.labels[:, label])).sum()),
            }
        )
    return {"n": len(view.label_names), "rows": rows}


def _feeds(view: RunView, layer: str, index: int, activation: NDArray[np.float32]) -> dict[str, Any] | None:
    """Say which outputs a unit moves, and how far; None where no network was loaded or it accounts for another layer."""
    account = view.account
    if account is None or account.layer != layer:
        return None
    # Read off the weights where it can be: the contributions of all units to all outputs need not fit in memory.
    if account.head is not None:
        values = activation.astype(np.float64)
        weight = account.head.weight[:, index]
        mean, spread = weight * values.mean(), np.abs(weight) * values.std()
        sign = np.sign(weight)
    else:
        shares = np.stack([account.contributions(output)[index] for output in range(len(account.outputs))])
        mean, spread = shares.mean(axis=1), shares.std(axis=1)
        over = activation[account.films].astype(np.float64)
        sign = np.sign(((over - over.mean()) * (shares - mean[:, None])).sum(axis=1))
    order = np.argsort(-np.nan_to_num(spread), kind="stable")[:FED]
    rows = [
        {
            "output": account.outputs[output],
            "number": int(output),
            "moves": finite(sign[output] * spread[output]),
            "mean": finite(mean[output]),
        }
        for output in order
    ]
    return {
        "exact": account.head is not None,
        "n_outputs": len(account.outputs),
        "films": len(account.films),
        "rows": rows,
    }
