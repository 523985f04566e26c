"""The outputs of the network, and what decides each of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from mammi.errors import InputError
from mammi.functional.agreement import auroc
from mammi.pages.galleries import gallery, one_a_patient, ranked
from mammi.pages.site import Page
from mammi.pages.view import RunView, finite

__all__ = ["class_page", "classes_page", "output_names"]

#: Below this share of films the area under the ROC curve hardly sees wrong labels.
RARE = 0.01
#: Films shown of a class, those that it is said of most surely; and concepts, before all are.
SHOWN, TELLING = 7, 15


def output_names(view: RunView) -> list[str]:
    """Return the names of the network's outputs, by number; empty where the run does not know them."""
    if view.account is not None:
        return list(view.account.outputs)
    layers = {layer for layer, _, _ in view.outputs}
    return [name for layer, _, name in view.outputs if layer == min(layers, key=view.run.layers.index)]


def classes_page(view: RunView) -> Page:
    """Return the list of outputs: name, how well the network tells their films where labels say so, and their unit."""
    rows = [_class(view, number) for number in range(len(output_names(view)))]
    data = {
        "rows": rows,
        "explained": view.decide is not None,
        "layer": view.account.layer if view.account is not None else None,
        "has_labels": bool(view.label_names),
    }
    return Page("Classes", "classes.html", ("classes",), data)


def class_page(view: RunView, number: int) -> Page:
    """Return the page of one output: the units and concepts that decide it.

    ``view.decide(number)`` is what `mammi.explain.classes.ClassExplanation.to_dict` gives: ``rule`` (the films that stand
    for the class, in words), ``n_in``, ``n_out``, ``exact``, ``layer``; ``units``: rows of ``unit``, ``name``,
    ``in_class`` and ``elsewhere`` (mean contribution), their ``difference`` with ``low`` and ``high`` over patients;
    ``concepts``: likewise, with ``concept`` and ``n_units`` in place of unit and name. None where it cannot be told.

    Raises:
        InputError: if the network has no such output.
    """
    names = output_names(view)
    if not 0 <= number < len(names):
        raise InputError(f"the network has outputs 0 to {len(names) - 1}, got {number}")
    decide = view.decide
    decided = view.once(f"decides {number}", lambda: decide(number)) if decide is not None else None
    known = _class(view, number)
    unit = known["unit"]
    values = _logits(view, number, None if unit is None else (unit["layer"], unit["unit"]))
    strongest = [] if values is None else one_a_patient(view, ranked(-values), SHOWN)
    data = {
        **known,
        "n_outputs": len(names),
        "surest": gallery(view, strongest, values.astype(np.float32)) if values is not None else None,
        "concepts": _telling(decided, "concepts"),
        "layer": view.account.layer if view.account is not None else None,
        "decided": None if decided is None else dict(decided),
    }
    return Page(f"What decides {names[number]}", "class.html", ("class", number), data)


def _telling(decided: Mapping[str, Any] | None, rows: str) -> list[Any]:
    """Return the rows that tell a class most from the others, in their order."""
    if decided is None:
        return []
    by_size = sorted(decided[rows], key=lambda row: -abs(row["difference"] or 0.0))[:TELLING]
    return [row for row in decided[rows] if row in by_size]


def _class(view: RunView, number: int) -> dict[str, Any]:
    return view.once(f"class {number}", lambda: _measured(view, number))


def _measured(view: RunView, number: int) -> dict[str, Any]:
    name = output_names(view)[number]
    own = next(((layer, index) for layer, index, output in view.outputs if output == name), None)
    label = view.label_of(name)
    area = prevalence = films = None
    if label is not None:
        truth = view.labels[:, label]
        known = ~np.isnan(truth)
        films, prevalence = int(known.sum()), finite(truth[known].mean()) if known.any() else None
        values = _logits(view, number, own)
        if values is not None:
            columns = torch.from_numpy(values)[:, None], torch.from_numpy(truth)[:, None]
            area = finite(auroc(*columns).item())
    row = None if own is None else view.units(own[0]).iloc[own[1]]
    return {
        "number": number,
        "name": name,
        "auc": area,
        "prevalence": prevalence,
        "films": films,
        "rare": prevalence is not None and prevalence < RARE,
        "unit": None if own is None else {"layer": own[0], "unit": own[1]},
        "named": None if row is None else str(row["name"]),
    }


def _logits(view: RunView, number: int, own: tuple[str, int] | None) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    if view.account is not None:
        return np.asarray(view.account.logits[:, number], dtype=np.float64)
    return None if own is None else view.activation(*own).astype(np.float64)
