"""The first page: what was looked at, how much of it has a name, and what to be careful with."""

from typing import Any

import numpy as np
import pandas as pd
import torch

from mammi.data import normalise_label
from mammi.errors import RunError
from mammi.functional.quick_agreement import correlations
from mammi.functional.truth_ranks import risk_coverage, skewness
from mammi.pages.galleries import one_a_patient, withheld_because
from mammi.pages.reasons import count_reasons
from mammi.pages.site import Page
from mammi.pages.units import PICTURES, example_films
from mammi.pages.view import RunView, finite
from mammi.pages.words import plural
from mammi.store.shards import ActivationStore

__all__ = ["overview_page"]

#: Concepts listed: those that name most units.
CONCEPTS = 40
#: Units shown at a glance.
GLANCE = 9
#: Names that can be checked against labels, at least, for a curve to mean anything.
CHECKABLE = 5


def overview_page(view: RunView) -> Page:
    """Return the first page of a run."""
    run = view.run
    counts = run.manifest["counts"]
    per_layer = {layer: view.units(layer) for layer in run.layers}
    named = run.units["n_concepts"].to_numpy() > 0
    concepts = view.once("concepts", lambda: _concepts(view))
    data = {
        "name": view.name,
        "method": run.method,
        "counts": {name: counts.get(name) for name in ("films", "patients", "units", "named", "encoded")}
        | {"concepts": run.manifest["identity"]["concepts"]["n"]},
        "glance": view.once("glance", lambda: _glance(view)),
        "layers": view.once("layers", lambda: [_layer(view, layer) for layer in run.layers]),
        "concepts": concepts[:CONCEPTS],
        "n_concepts": len(concepts),
        "abstentions": count_reasons(run.units["reason"][~named]),
        "control": view.once("control", lambda: _control(view, per_layer)),
        "checked": view.once("checked", lambda: _checked(view)),
        "warnings": _warnings(view),
    }
    return Page(f"What the units of {view.name} respond to", "overview.html", ("overview",), data)


def _concepts(view: RunView) -> list[dict[str, Any]]:
    """Count units by their first concept, over all and layer by layer; those that name most come first."""
    found: dict[str, dict[str, int]] = {}
    for layer in view.run.layers:
        for concept, units in view.units(layer)["first"].value_counts().items():
            if concept:
                found.setdefault(str(concept), {})[layer] = int(units)
    ordered = sorted(found.items(), key=lambda entry: (-sum(entry[1].values()), entry[0]))
    return [
        {"concept": concept, "category": view.category(concept), "units": sum(layers.values()), "layers": layers}
        for concept, layers in ordered
    ]


def _glance(view: RunView) -> list[dict[str, Any]]:
    """Return the units of which the method is surest, one a name, with their strongest films."""
    frames = [view.units(layer).assign(place=place) for place, layer in enumerate(view.run.layers)]
    units = pd.concat(frames, ignore_index=True)
    units = units[units["n_concepts"] > 0]
    by_effect = units["effect"].notna().any()
    surest = units.assign(sure=units["effect"].abs() if by_effect else units["score"]).sort_values(
        ["sure", "place", "unit"], ascending=[False, True, True], kind="stable"
    )
    cards = []
    for row in surest.drop_duplicates("name").head(GLANCE).to_dict("records"):
        films = example_films(view, str(row["layer"]), [int(row["unit"])]).get(int(row["unit"]), [])
        cards.append(
            {
                "layer": str(row["layer"]),
                "unit": int(row["unit"]),
                "name": str(row["name"]),
                "films": [view.films[film] for film in one_a_patient(view, films, PICTURES)],
                "withheld": withheld_because(len({int(view.patients[film]) for film in films})),
            }
        )
    return cards


def _layer(view: RunView, layer: str) -> dict[str, Any]:
    units = view.units(layer)
    names = units["name"][units["n_concepts"] > 0].value_counts()
    firsts = units["first"][units["first"] != ""].value_counts()
    n_concepts = int(view.run.manifest["identity"]["concepts"]["n"])
    # Concepts that name nothing are part of the spread: a hub stands out from them.
    spread = torch.zeros(max(n_concepts, len(firsts)), dtype=torch.int64)
    spread[: len(firsts)] = torch.tensor(firsts.tolist())
    total = int(firsts.sum())
    return {
        "layer": layer,
        "units": len(units),
        "named": int((units["n_concepts"] > 0).sum()),
        "distinct": len(firsts),
        "common": [{"name": str(name), "units": int(count)} for name, count in names.head(3).items()],
        "abstentions": count_reasons(units["reason"]),
        "hubs": {
            "top_1": finite(firsts.iloc[:1].sum() / total) if total else None,
            "top_5": finite(firsts.iloc[:5].sum() / total) if total else None,
            "skewness": finite(skewness(spread)) if total else None,
        },
    }


def _control(view: RunView, per_layer: dict[str, Any]) -> dict[str, Any] | None:
    """Say what is there of the untrained copy of the network; None if the run has none."""
    store = ActivationStore(view.run.folder, 0, 1, "control")
    units, films = 0, 0
    for layer in view.run.layers:
        try:
            shape = store.read(layer).shape
        except RunError:
            continue
        units, films = units + shape[0], shape[1]
    if not units:
        return None
    turned_away = sum(
        int(rows["reason"].str.contains("untrained copy", regex=False).sum()) for rows in per_layer.values()
    )
    return {"units": units, "films": films, "turned_away": turned_away}


def _checked(view: RunView) -> dict[str, Any] | None:
    """Check names that are labels of the films: is it the label that the unit goes with most? None if too few are.

    A name is right if, of all labels, the unit correlates most with the one that names it; for a unit that fires when a
    concept is absent, if it correlates least. Units are sorted by how sure the method is: by effect, else by score.
    """
    names = {normalise_label(label): place for place, label in enumerate(view.label_names)}
    known: dict[str, str] = {}
    for term, synonyms in zip(view.concepts.index, view.concepts["synonyms"], strict=True):
        for word in (str(term), *str(synonyms).split(";")):
            if normalise_label(word) in names:
                known[str(term)] = normalise_label(word)
    sure, right = [], []
    for layer in view.run.layers:
        units = view.units(layer)
        checkable = units[units["first"].map(lambda term: str(term) in known)]
        if not len(checkable):
            continue
        r = correlations(view.run.activations(layer)[checkable["unit"].to_numpy()], view.known_labels)
        for row, values in zip(checkable.to_dict("records"), r, strict=True):
            absent = str(row["name"]).startswith("NOT ")
            usable = np.where(np.isnan(values), -np.inf, -values if absent else values)
            if np.isneginf(usable).all():
                continue
            effect = row["effect"]
            sure.append(abs(effect) if np.isfinite(effect) else row["score"])
            right.append(int(usable.argmax()) == names[known[str(row["first"])]])
    if len(right) < CHECKABLE:
        return None
    coverage, risk = risk_coverage(torch.tensor(sure, dtype=torch.float64), torch.tensor(right))
    return {
        "units": len(right),
        "right": int(sum(right)),
        "coverage": [finite(value) for value in coverage.tolist()],
        "risk": [finite(value) for value in risk.tolist()],
    }


def _warnings(view: RunView) -> list[str]:
    counts, manifest = view.run.manifest["counts"], view.run.manifest
    said = []
    if counts["unreadable"]:
        said.append(f"Left out, since they could not be read: {plural(counts['unreadable'], 'film')}.")
    if counts["with_warnings"]:
        said.append(f"Read, though something was odd about the file: {plural(counts['with_warnings'], 'film')}.")
    if counts["same_pixels"]:
        said.append(f"With the same pixels as another film: {plural(counts['same_pixels'], 'film')}.")
    if not view.patients_known:
        said.append("It is not known who is on each film: every film counts as a patient of its own.")
    if not view.label_names:
        said.append("The films have no labels: names cannot be compared with what is known to be on them.")
    if view.run.method != "calibrated":
        said.append(
            "This method names nearly every unit, sure or not, and states no error rate: a name is a lead to check "
            "against the films."
        )
    if shared := manifest["vlm"].get("shared_corpora"):
        said.append(
            f"The annotator was trained on {', '.join(shared)}, as the network was: it may share what the network "
            "learned there by mistake, and is no independent witness."
        )
    return said + [f"About the annotator: {note}." for note in manifest["vlm"]["notes"]]
