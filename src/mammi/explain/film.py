"""One film explained: its predictions, the units that make them, what those are named, and where they are on the film."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from mammi.errors import InputError
from mammi.explain.account import Account
from mammi.explain.attribution import Attribution, integrated_gradients, weighted_units
from mammi.explain.classes import ClassExplanation, FilmAgreement, explain_class, film_agreement
from mammi.explain.film_places import film_maps, peak
from mammi.explain.film_result import ConceptShare, FilmExplanation, OutputExplanation, Prediction, UnitShare
from mammi.explain.gradients import logits_of
from mammi.explain.heads import output_head
from mammi.explain.similar import Company, percentile, same_pixels, similar_films
from mammi.explain.where import UnitMaps
from mammi.targets import Target
from mammi.targets.layers import evaluating
from mammi.targets.preprocessing import Preprocessing
from mammi.types import Film, Progress, no_progress

__all__ = ["TOP", "explain_film"]

#: Units listed of each output.
TOP = 12
#: Outputs explained where none is named: those called present, at most so many, or else the highest so many.
MOST, FALLBACK = 6, 3
#: Films of the run shown beside each output, of as many patients.
SIMILAR = 6
#: A film decided by other units than its class usually is: it agrees with the class less than all but so many of the
#: class's films, of which there are so many.
UNLIKE, ENOUGH = 0.05, 10
#: Where a run has no labels: outputs of this percentile are held against their class.
HIGH = 90.0
#: Contributions of a run's films to a class that are computed for one film, at most: 1 GB.
MOST_VALUES = 2**27


def explain_film(
    account: Account,
    film: Film,
    *,
    outputs: Sequence[str | int] | None = None,
    top: int = TOP,
    classes: Mapping[int, ClassExplanation] | None = None,
    progress: Progress = no_progress,
) -> FilmExplanation:
    """Explain what a network makes of one film, in terms of the units of a run.

    The film needs no file: it may come from memory and be of any size.

    Args:
        account: the run, its network and the layer, from `open_account`.
        film: the film.
        outputs: names or numbers of outputs; None for those called present by the run's thresholds, highest percentile
            first, or the three of the highest percentile if none is.
        top: units listed of each output, at least 1.
        classes: what decides outputs over the run's films, by number, where it is at hand; else it is found for the
            outputs that are called present, unless the run is very large.
        progress: told of every output.

    Returns:
        The explanation. Of every output, base, contributions and gap add up to the logit.

    Raises:
        UnknownNameError: if there is no such output.
        InputError: if ``top`` is below 1 or the network gives no finite number for the film.
        CaptureError: if an output does not follow from the layer by gradients.
        MissingExtraError: if contributions need Captum and it is not installed.
    """
    if top < 1:
        raise InputError(f"'top' must be at least 1, got {top}")
    asked = None if outputs is None else list(dict.fromkeys(account.output(name) for name in outputs))
    target, run = account.target, account.run
    view = target.view(film)
    rows = same_pixels(run, film)
    company = Company(account, [] if rows is None else rows.tolist())
    logits = _logits(target, view)
    if not np.isfinite(logits).all():
        raise InputError("the network gives no finite number for this film, so there is nothing to explain")
    predictions = _predictions(account, logits, company)
    chosen, notes = (asked, []) if asked is not None else _choose(predictions)
    if account.head is not None:
        attribution = weighted_units(target, account.plan, account.head, view, chosen)
    else:
        attribution = integrated_gradients(target, account.plan, view, chosen, progress=progress)
    strongest = [np.argsort(-np.abs(shares), kind="stable")[:top].tolist() for shares in attribution.contributions]
    where, reason = film_maps(account, view, film.pixels.shape[:2], sorted({u for units in strongest for u in units}))
    if reason:
        notes.append(reason)
    if rows is None:
        notes.append("The run does not tell whether it holds this very film: if it does, it is compared with itself.")
    names = _Names(account)
    known = run.manifest["images"].get("patients_known")
    return FilmExplanation(
        network=str(run.manifest["target"]["name"]),
        layer=account.layer,
        exact=account.exact,
        how=_how(account),
        n_films=len(company.rows),
        n_patients=int(run.images["patient"].iloc[company.rows].nunique()) if known else None,
        predictions=tuple(predictions),
        outputs=tuple(
            _explain(company, predictions[output], attribution, place, strongest[place], names, where, classes or {})
            for place, output in enumerate(chosen)
        ),
        twins=() if rows is None else tuple(map(str, run.images["id"].iloc[rows])),
        notes=tuple(notes),
        where=where,
    )


def _logits(target: Target, view: torch.Tensor) -> NDArray[np.float64]:
    with evaluating(target.model), torch.inference_mode(), logits_of(target, output_head(target)) as logits:
        found: NDArray[np.float64] = logits(view[None].to(target.device))[0].double().cpu().numpy()
    return found


def _how(account: Account) -> str:
    """Say what contributions and base are."""
    if account.exact:
        return "A contribution is the unit's activation times its weight; the base is the bias of the output."
    preprocessing = account.target.preprocessing
    grey = (
        f"an even film of grey level {', '.join(f'{mean:.3g}' for mean in dict.fromkeys(preprocessing.mean))}"
        if isinstance(preprocessing, Preprocessing)
        else "which its own preprocessing makes of some even film"
    )
    return (
        "Contributions are integrated gradients from the network's input of zeros "
        f"({grey}); the base is the logit of that input. They are one account among others, and depend on it."
    )


def _predictions(account: Account, logits: NDArray[np.float64], company: Company) -> list[Prediction]:
    probabilities: list[float] | list[None] = [None] * len(logits)
    if account.link == "sigmoid":
        probabilities = torch.sigmoid(torch.from_numpy(logits)).tolist()
    elif account.link == "softmax":
        probabilities = torch.softmax(torch.from_numpy(logits), dim=0).tolist()
    found = []
    for number, output in enumerate(account.outputs):
        logit, threshold = float(logits[number]), account.thresholds.get(output)
        called = None if threshold is None else logit >= threshold
        rank = percentile(logit, account.logits[company.rows, number])
        found.append(Prediction(output, number, logit, probabilities[number], threshold, called, rank))
    return found


def _choose(predictions: Sequence[Prediction]) -> tuple[list[int], list[str]]:
    """Return the outputs to explain where none is named, and what is to be said of the choice."""
    ranked = sorted(predictions, key=lambda p: (-(p.percentile if p.percentile is not None else -1.0), p.number))
    called = [p.number for p in ranked if p.called]
    if called:
        more = f"{len(called) - MOST} more outputs are called present and not explained: name them to see them."
        return called[:MOST], [more] if len(called) > MOST else []
    if all(p.threshold is None for p in predictions):
        why = "The run has no labels of the outputs, so there is no threshold and none is called present or absent"
    else:
        why = "No output is called present"
    chosen = [p.number for p in ranked[:FALLBACK]]
    return chosen, [f"{why}: explained are the {len(chosen)} of the highest percentile among the run's films."]


class _Names:
    """What the run says of each unit of the layer."""

    def __init__(self, account: Account) -> None:
        run = account.run
        units = run.units[run.units["layer"] == account.layer].sort_values("unit")
        self.names = [str(name) for name in units["name"]]
        self.reasons = [str(reason) for reason in units["reason"]]
        kept = run.annotations[(run.annotations["layer"] == account.layer) & run.annotations["kept"]]
        first = kept.sort_values("rank").drop_duplicates("unit").set_index("unit")
        self.certainty = {
            int(unit): tuple(None if np.isnan(value) else float(value) for value in row)
            for unit, row in zip(
                first.index, first[["effect", "q_value", "stability"]].to_numpy(dtype=np.float64), strict=True
            )
        }

    def concepts(self, contributions: NDArray[np.float64]) -> tuple[ConceptShare, ...]:
        """Add contributions up by name, largest first."""
        members: dict[str, list[float]] = {}
        for name, contribution in zip(self.names, contributions.tolist(), strict=True):
            members.setdefault(name, []).append(contribution)
        shares = [ConceptShare(name, len(values), float(np.sum(values))) for name, values in members.items()]
        return tuple(sorted(shares, key=lambda share: (-abs(share.contribution), share.concept)))


def _explain(
    company: Company,
    prediction: Prediction,
    attribution: Attribution,
    place: int,
    units: list[int],
    names: _Names,
    where: UnitMaps | None,
    classes: Mapping[int, ClassExplanation],
) -> OutputExplanation:
    account = company.account
    contributions = attribution.contributions[place]
    values = company.activations(units)
    means, deviations = company.moments(units)
    shares = []
    for row, unit in enumerate(units):
        activation = float(attribution.activations[unit])
        effect, q_value, stability = names.certainty.get(unit, (None, None, None))
        usual = None
        if account.head is not None and np.isfinite(means[row]):
            usual = float(means[row] * account.head.weight[prediction.number, unit])
        shares.append(
            UnitShare(
                unit=unit,
                name=names.names[unit],
                reason=names.reasons[unit],
                effect=effect,
                q_value=q_value,
                stability=stability,
                activation=activation,
                percentile=percentile(activation, values[row]),
                deviation=float((activation - means[row]) / deviations[row]) if deviations[row] > 0 else None,
                contribution=float(contributions[unit]),
                usual=usual,
                peak=peak(where, unit),
            )
        )
    agreement, remarks = _agreement(account, prediction, contributions, classes)
    return OutputExplanation(
        prediction=prediction,
        base=float(attribution.base[place]),
        contributions=contributions,
        gap=float(attribution.gap[place]),
        units=tuple(shares),
        concepts=names.concepts(contributions),
        similar=similar_films(company, attribution.activations, units, prediction.number, SIMILAR),
        agreement=agreement,
        remarks=remarks,
    )


def _agreement(
    account: Account,
    prediction: Prediction,
    contributions: NDArray[np.float64],
    classes: Mapping[int, ClassExplanation],
) -> tuple[FilmAgreement | None, tuple[str, ...]]:
    """Hold a film of a class against the run's films of it; return how they agree and, if hardly, a warning in words."""
    called = prediction.called if prediction.called is not None else (prediction.percentile or 0) >= HIGH
    # Integrated gradients are no gradient times activation: the run's contributions would be another quantity.
    if not called or account.head is None:
        return None, ()
    explained = classes.get(prediction.number)
    if explained is None:
        if account.activations.size > MOST_VALUES:
            return None, ()
        try:
            # One draw: the intervals over patients are not asked for.
            explained = explain_class(account, prediction.number, n_resamples=1)
        except InputError:  # no film stands for the class
            return None, ()
    found = film_agreement(explained, contributions)
    if not np.isfinite(found.percentile):
        return None, ()
    if found.n_films < ENOUGH or found.percentile > UNLIKE:
        return found, ()
    warning = (
        f"This decision rests on unusual units: {1 - found.percentile:.0%} of the run's {found.n_films:,} films of the "
        f"class agree more with what their class usually rests on (cosine {found.cosine:.2f})."
    )
    return found, (warning,)
