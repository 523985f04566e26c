"""What decides a class over the films of a run: its units, and the concepts that they are named by."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from mammi.errors import InputError
from mammi.explain.account import Account
from mammi.explain.audit_result import NOTICE, plain_rows
from mammi.explain.gaps import patient_numbers_of
from mammi.functional.group_gap import gap_interval

__all__ = ["ClassExplanation", "FilmAgreement", "explain_class", "film_agreement"]

#: Where an output has no labels, the share of the films with the highest logits that stand for its class.
TOP_SHARE = 0.1


class FilmAgreement(NamedTuple):
    """How like the contributions to one film are to those of its class.

    Attributes:
        cosine: of the film's contributions and the class's mean contributions, in [-1, 1].
        percentile: share of the class's films that agree no more than this one, in [0, 1]; low: the film is decided by
            other units than the class's films usually are.
        n_films: films of the class that it is held against.
    """

    cosine: float
    percentile: float
    n_films: int


@dataclass(frozen=True)
class ClassExplanation:
    """What decides one output over the films of a run.

    Attributes:
        output: name of the output.
        layer: layer of the units.
        exact: whether contributions and bias add up to the logit.
        rule: which films stand for the class, in words.
        n_in: how many these are.
        n_out: how many the other films are.
        n_patients: patients of both.
        units: one row a unit, by falling ``difference``: ``unit, name, in_class, elsewhere`` (mean contribution),
            ``difference, low, high`` (95 % interval over patients). NaN for a unit that is not finite.
        concepts: one row a name, likewise: ``concept, n_units, in_class, elsewhere, difference, low, high``; units without
            a name under ``"no concept"``.
        mean: the class's mean contributions, float64 ``(n_units,)``, 0 where not finite.
        cosines: of each film of the class with the mean of the others of the class, float64 ``(n_in,)``.
    """

    output: str
    layer: str
    exact: bool
    rule: str
    n_in: int
    n_out: int
    n_patients: int
    units: pd.DataFrame = field(repr=False)
    concepts: pd.DataFrame = field(repr=False)
    mean: NDArray[np.float64] = field(repr=False)
    cosines: NDArray[np.float64] = field(repr=False)

    def to_dict(self, limit: int | None = None) -> dict[str, Any]:
        """Return all of it as JSON, null for NaN.

        Args:
            limit: that many units from either end; None for all.
        """
        units = self.units
        if limit is not None and len(units) > 2 * limit:
            sound = units[units["difference"].notna()]
            units = pd.concat([sound.head(limit), sound.iloc[limit:].tail(limit)])
        known = self.cosines[~np.isnan(self.cosines)]
        quartiles = np.quantile(known, [0.05, 0.5, 0.95]).tolist() if len(known) else [None] * 3
        return {
            "notice": NOTICE,
            "output": self.output,
            "layer": self.layer,
            "exact": self.exact,
            "rule": self.rule,
            "n_in": self.n_in,
            "n_out": self.n_out,
            "n_patients": self.n_patients,
            "units": plain_rows(units),
            "concepts": plain_rows(self.concepts),
            "agreement": dict(zip(("low", "median", "high"), quartiles, strict=True)),
        }


def explain_class(account: Account, output: str | int, *, n_resamples: int = 1000, seed: int = 0) -> ClassExplanation:
    r"""Say which units and which concepts decide an output over the films of a run.

    The importance of unit :math:`i` for class :math:`c` is its mean contribution over the films of the class,
    :math:`I_{ci} = \operatorname{mean}_{n \in c} a_{ni}\, \partial z_c / \partial a_{ni}` (Ahn, Kim, Kim, *WWW*, CVPR
    2024), and beside it the same less its mean over the other films, so that what every film carries is not taken for
    evidence. A concept's is the sum over the units of that name. Films of the class are those labelled so, the others
    those labelled absent; where the output has no such labels, those whose logit is among the highest tenth.

    Args:
        account: the outputs and the units.
        output: name or number of the output.
        n_resamples: draws of the patients behind each interval.
        seed: of the draws.

    Raises:
        UnknownNameError: if there is no such output.
        InputError: if no film stands for the class, or every film does.
    """
    c = account.output(output)
    member, rule = _members(account, c)
    shares = account.contributions(c)
    patients = patient_numbers_of(account)[account.films]
    units = account.run.units
    names = [str(name) for name in units.loc[units["layer"] == account.layer, "name"]]
    sound: NDArray[np.bool_] = np.asarray(np.isfinite(shares[:, ~np.isnan(member)]).all(axis=1))
    unit_table = _table(shares, member, patients, n_resamples, seed)
    unit_table.insert(0, "unit", np.arange(len(shares)))
    unit_table.insert(1, "name", names)
    words = list(dict.fromkeys(name for name, whole in zip(names, sound, strict=True) if whole))
    number = {word: place for place, word in enumerate(words)}
    rows = np.array([number[name] for name, whole in zip(names, sound, strict=True) if whole], dtype=np.int64)
    summed = np.zeros((len(words), shares.shape[1]))
    np.add.at(summed, rows, shares[sound])
    concept_table = _table(summed, member, patients, n_resamples, seed)
    concept_table.insert(0, "concept", words)
    concept_table.insert(1, "n_units", np.bincount(rows, minlength=len(words)))
    inside = np.where(sound[:, None], shares, 0.0)[:, member == 1]
    total = inside.sum(axis=1)
    return ClassExplanation(
        output=account.outputs[c],
        layer=account.layer,
        exact=account.exact,
        rule=rule,
        n_in=int((member == 1).sum()),
        n_out=int((member == 0).sum()),
        n_patients=len(np.unique(patients[~np.isnan(member)])),
        units=unit_table.sort_values("difference", ascending=False, kind="stable", ignore_index=True),
        concepts=concept_table.sort_values("difference", ascending=False, kind="stable", ignore_index=True),
        mean=total / inside.shape[1],
        cosines=_cosines(inside, total[:, None] - inside),
    )


def film_agreement(explained: ClassExplanation, contributions: NDArray[np.floating[Any]]) -> FilmAgreement:
    r"""Hold one film's contributions against those of the films of a class.

    The cosine of the class's mean contributions and the film's is the uncertainty of *WWW* (Ahn, Kim, Kim, CVPR 2024),
    taken over units instead of places. The films of the class that it is ranked among are each held against the mean of
    the others, so that none is likened to itself.

    Args:
        explained: the class.
        contributions: of every unit to that output on the film, shape ``(n_units,)``. A film of the class itself has its
            share in the mean, one in ``n_in``: it seems a little more alike than it is.

    Raises:
        InputError: if the number of units differs.
    """
    if contributions.shape != explained.mean.shape:
        raise InputError(
            f"'contributions' must hold one number for each of the {len(explained.mean)} units of {explained.layer!r}, got "
            f"shape {contributions.shape}"
        )
    film = np.nan_to_num(np.asarray(contributions, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    cosine = float(_cosines(film[:, None], explained.mean[:, None])[0])
    known = explained.cosines[~np.isnan(explained.cosines)]
    percentile = float((known <= cosine + 1e-12).mean()) if len(known) and not np.isnan(cosine) else float("nan")
    return FilmAgreement(cosine, percentile, len(known))


def _members(account: Account, output: int) -> tuple[NDArray[np.float64], str]:
    """Return 1 for the films of the class, 0 for the others, NaN for those of neither; and in words which those are."""
    name = account.outputs[output]
    truth = account.labels.get(name)
    if truth is not None:
        member = truth[account.films]
        if {0.0, 1.0} <= set(member[~np.isnan(member)].tolist()):
            return member, f"films labelled {name}, against films labelled without"
    why = "no labels" if truth is None else "no labels of both kinds"
    logits = account.logits[:, output]
    threshold = float(np.quantile(logits[np.isfinite(logits)], 1 - TOP_SHARE)) if np.isfinite(logits).any() else np.nan
    found = np.where(np.isfinite(logits), (logits >= threshold).astype(np.float64), np.nan)[account.films]
    if not {0.0, 1.0} <= set(found.tolist()):
        raise InputError(f"the films of {name!r} cannot be told from others: it has {why} and one logit on all films")
    return (
        found,
        f"the tenth of the films with the highest logit ({threshold:.2f} or more), against the others: {why}",
    )


def _table(
    shares: NDArray[np.float64], member: NDArray[np.float64], patients: NDArray[np.int64], n_resamples: int, seed: int
) -> pd.DataFrame:
    """Return mean contributions in the class, elsewhere, and their difference with its interval; rows of ``shares``."""
    inside, outside = shares[:, member == 1].mean(axis=1), shares[:, member == 0].mean(axis=1)
    low, high = gap_interval(
        *(torch.from_numpy(array) for array in (shares.T, member, patients)), seed=seed, n_resamples=n_resamples
    )
    columns = {"in_class": inside, "elsewhere": outside, "difference": inside - outside}
    table = pd.DataFrame({**columns, "low": low.numpy(), "high": high.numpy()})
    return table.where(np.isfinite(table), np.nan)


def _cosines(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cosine of each column with its partner; NaN where one is 0."""
    lengths = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: NDArray[np.float64] = np.clip((a * b).sum(axis=0) / lengths, -1, 1)
    return found
