"""An account made of numbers instead of a network: every answer is known beforehand."""

from types import SimpleNamespace

import numpy as np
import pandas as pd

from mammi.capture import LayerPlan
from mammi.explain.account import Account
from mammi.explain.heads import LinearHead


def made_up_account(
    activations, weights, labels, patients, *, outputs=None, names=None, films=None, sampled=None, bias=None
):
    """Return a linear account over ``activations`` (n_films, n_units), or one of sampled contributions."""
    n_films, n_units = activations.shape
    outputs = tuple(outputs or (f"finding {c}" for c in range(len(weights))))
    names = names or [f"concept {unit % 4}" for unit in range(n_units)]
    run = SimpleNamespace(
        images=pd.DataFrame(
            {
                "film": range(n_films),
                "id": [f"film-{n}" for n in range(n_films)],
                "patient": [f"p-{p}" for p in patients],
            }
        ),
        labels=pd.DataFrame(labels, index=range(n_films)),
        units=pd.DataFrame({"layer": "deep", "unit": range(n_units), "name": names}),
        annotations=pd.DataFrame({"layer": "deep", "unit": range(n_units), "concept": names, "kept": True}),
        activations=lambda layer: np.ascontiguousarray(activations.T, dtype=np.float32),
        manifest={"images": {"patients_known": True}},
    )
    bias = np.zeros(len(weights)) if bias is None else np.asarray(bias)
    logits = activations.astype(np.float32).astype(np.float64) @ np.asarray(weights).T + bias
    head = None if sampled is not None else LinearHead("head", "none", np.asarray(weights, dtype=np.float64), bias)
    rows = np.arange(n_films) if films is None else np.asarray(films)
    plan = LayerPlan("deep", "map", "mean", n_units)
    return Account(run, None, "deep", plan, outputs, head, logits, rows, "none", sampled)
