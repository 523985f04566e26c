"""Which units react to what is no finding, and how much of a class's logit goes through them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from mammi.errors import InputError
from mammi.explain.account import Account
from mammi.explain.attributes import Attribute, read_attributes
from mammi.explain.audit_result import Audit
from mammi.explain.gaps import GAP_COLUMNS, Films, class_gaps, film_sets, patient_numbers_of
from mammi.functional.chance import benjamini_hochberg
from mammi.functional.group_gap import gap_interval, group_gap
from mammi.functional.unit_association import association, association_p_values
from mammi.types import Progress, no_progress

__all__ = ["audit", "audited_outputs"]


def audit(
    account: Account,
    metadata: str | Path | pd.DataFrame | None = None,
    *,
    attributes: Sequence[str] | None = None,
    classes: Sequence[str | int] | None = None,
    level: float = 0.05,
    n_shuffles: int = 400,
    n_resamples: int = 1000,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Audit:
    r"""Hold every unit and every output against what is known of the films besides their findings.

    A unit reacts to an attribute if its correlation with it beats that of patients dealt anew, at a false discovery rate
    of ``level`` over all units and attributes. The gap of a class is the slope of its logit on the attribute, for a
    binary one the difference of means; with contributions :math:`z_c = \sum_i k_{ci} + b_c` it is the sum of what the
    units carry, :math:`g(z_c) = \sum_i g(k_{ci})`. Both are taken over all films, and where the class has labels also at
    the same finding: films with, without and of unknown finding compared with each other only, so that a unit which
    sees the disease is not blamed for the tube that goes with it.

    Args:
        account: the outputs and the units.
        metadata: what is known of the films, see `read_attributes`; None for the run's own labels that are no outputs.
        attributes: names of columns; None for all that can be used.
        classes: names or numbers of outputs; None for those with labels, or for all where none has.
        level: false discovery rate below which a unit counts as reacting.
        n_shuffles: deals of the patients, at least 20.
        n_resamples: draws of the patients behind each interval.
        seed: of both.
        progress: told of every attribute.

    Returns:
        The tables; see `Audit`.

    Raises:
        InputError: if no attribute can be used, or an option is wrong.
        UnknownNameError: if an attribute or a class does not exist.
    """
    if not 0 < level < 1:
        raise InputError(f"'level' must be in (0, 1), got {level}")
    patients = patient_numbers_of(account)
    found, notes = read_attributes(account.run, patients, metadata, attributes, outputs=account.outputs)
    outputs = audited_outputs(account, classes)
    activations = torch.from_numpy(np.array(account.activations).T)
    owners = torch.from_numpy(patients)
    sets = {c: film_sets(account, c) for c in outputs}
    steps = len(found) * (1 + len(outputs))
    units, within, done = [], [], 0
    for attribute in found:
        m = torch.from_numpy(attribute.values)
        low, high = gap_interval(activations, m, owners, seed=seed, n_resamples=n_resamples)
        units.append(
            pd.DataFrame(
                {
                    "attribute": attribute.label,
                    "unit": np.arange(account.n_units),
                    "name": _unit_names(account),
                    "effect": association(activations, m).numpy(),
                    "p_value": association_p_values(activations, m, owners, n_shuffles=n_shuffles, seed=seed).numpy(),
                    "slope": group_gap(activations, m).numpy(),
                    "low": low.numpy(),
                    "high": high.numpy(),
                }
            )
        )
        progress("auditing", done := done + 1, steps)
    unit_table = _with_q(pd.concat(units, ignore_index=True), level)
    for c in outputs:
        same = next((films for films in sets[c] if films.name == "same finding"), None)
        part = []
        for attribute in found:
            reacts = unit_table.loc[unit_table["attribute"] == attribute.label, "reacts"].to_numpy()
            part.append(
                _carried(account, c, attribute, activations, owners, same, reacts, n_shuffles=n_shuffles, seed=seed)
            )
            progress("auditing", done := done + 1, steps)
        table = pd.concat(part, ignore_index=True)
        within.append(_at_same_finding(_with_q(table, level)) if same is not None else table)
    carried = pd.concat(within, ignore_index=True)
    gaps: list[tuple[object, ...]] = []
    for c in outputs:
        for attribute in found:
            rows = carried[(carried["output"] == account.outputs[c]) & (carried["attribute"] == attribute.label)]
            reacts, overall = rows["reacts"].to_numpy(), rows["reacts_overall"].to_numpy()
            gaps += class_gaps(
                *(account, c, attribute, patients, reacts, overall, sets[c]), seed=seed, n_resamples=n_resamples
            )
    return Audit(
        layer=account.layer,
        exact=account.exact,
        n_films=len(account.run.images),
        n_patients=len(np.unique(patients)),
        patients_known=bool(account.run.manifest["images"]["patients_known"]),
        n_units=account.n_units,
        level=level,
        attributes=tuple(found),
        counts=tuple(attribute.count(patients) for attribute in found),
        units=unit_table,
        carried=carried,
        gaps=pd.DataFrame(gaps, columns=GAP_COLUMNS),
        confounders=_confounders(account, found, outputs),
        notes=tuple(notes),
    )


def audited_outputs(account: Account, classes: Sequence[str | int] | None) -> list[int]:
    """Return the outputs asked for; without any, those whose labels say both present and absent, or all."""
    if classes:
        return list(dict.fromkeys(account.output(name) for name in classes))
    labelled = [c for c in range(len(account.outputs)) if len(film_sets(account, c)) > 1]
    return labelled or list(range(len(account.outputs)))


def _with_q(table: pd.DataFrame, level: float) -> pd.DataFrame:
    """Add the false discovery rates over all rows that could be tested, and which of them react."""
    p_values = torch.from_numpy(table["p_value"].to_numpy(copy=True))
    q_values = torch.full_like(p_values, torch.nan)
    tested = ~p_values.isnan()
    q_values[tested] = benjamini_hochberg(p_values[tested])
    return table.assign(q_value=q_values.numpy(), reacts=(q_values < level).numpy())


def _at_same_finding(table: pd.DataFrame) -> pd.DataFrame:
    """Fall back on all films for an attribute that does not vary at the same finding, such as the finding itself."""
    tested = table.groupby("attribute")["p_value"].transform("count") > 0
    return table.assign(reacts=table["reacts"].where(tested, table["reacts_overall"]))


def _carried(
    account: Account,
    output: int,
    attribute: Attribute,
    activations: Tensor,
    patients: Tensor,
    same: Films | None,
    reacts: NDArray[np.bool_],
    *,
    n_shuffles: int,
    seed: int,
) -> pd.DataFrame:
    """Tabulate what every unit carries of one gap, and whether it reacts at the same finding."""
    m = torch.from_numpy(attribute.values)
    columns, factors = account.shares(output)
    units = activations if account.exact else torch.from_numpy(np.array(columns).T)
    times = torch.from_numpy(factors)
    table = pd.DataFrame(
        {
            "attribute": attribute.label,
            "output": account.outputs[output],
            "unit": np.arange(account.n_units),
            "name": _unit_names(account),
            "carried": (group_gap(units, m[account.films]) * times).numpy(),
            "reacts_overall": reacts,
        }
    )
    nothing = np.full(account.n_units, np.nan)
    if same is None or same.strata is None:
        return table.assign(effect=nothing, p_value=nothing, carried_same=nothing, q_value=nothing, reacts=reacts)
    strata = torch.from_numpy(same.strata)
    return table.assign(
        effect=association(activations, m, strata).numpy(),
        p_value=association_p_values(activations, m, patients, strata, n_shuffles=n_shuffles, seed=seed).numpy(),
        carried_same=(group_gap(units, m[account.films], strata[account.films]) * times).numpy(),
    )


def _confounders(account: Account, attributes: Sequence[Attribute], outputs: Sequence[int]) -> pd.DataFrame:
    """Correlate attributes with each other and with the findings: Pearson's r, for two binary ones Cramer's V signed."""
    findings = [
        (f"finding: {name}", None, truth)
        for c in outputs
        if (truth := account.labels.get(name := account.outputs[c])) is not None
    ]
    columns = [(a.label, a.name, a.values) for a in attributes]
    rows = []
    for place, (label, name, values) in enumerate(columns):
        for other, other_name, others in [*columns[place + 1 :], *findings]:
            if name == other_name:
                continue  # levels of one attribute exclude each other
            known = ~np.isnan(values) & ~np.isnan(others)
            r = association(torch.from_numpy(others[known][:, None]), torch.from_numpy(values[known]))
            rows.append({"attribute": label, "goes_with": other, "r": float(r), "n_films": int(known.sum())})
    table = pd.DataFrame(rows, columns=["attribute", "goes_with", "r", "n_films"])
    return table.sort_values("r", key=lambda r: -r.abs(), kind="stable", ignore_index=True)


def _unit_names(account: Account) -> list[str]:
    units = account.run.units
    return [str(name) for name in units.loc[units["layer"] == account.layer, "name"]]
