"""One layer beside another: pair the units, then look what became of their names."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mammi.comparison.films import SharedFilms
from mammi.comparison.names import NAME_COLUMNS, Named, concept_table, name_values, named_units, pair_table
from mammi.comparison.result import Estimate, LayerComparison, lone_units
from mammi.functional.resampling import percentile_interval, resampled_means
from mammi.functional.unit_matching import (
    chance_correlations,
    correlations,
    match_units,
    paired_correlations,
    resampled_correlations,
)
from mammi.store import Run

__all__ = ["compare_layers"]

#: Resamples of the patients, each of which correlates every pair anew, and of the units, which is cheap.
PATIENT_RESAMPLES, UNIT_RESAMPLES = 200, 1000


@dataclass(frozen=True)
class _Pairs:
    """Matched units of A (rising) and of B, shape ``(n_pairs, 2)``, their correlations, and how sure that is."""

    units: Tensor
    r: Tensor
    best_a: Tensor
    best_b: Tensor
    matched: Estimate
    correlation: Estimate
    chance_matched: float = math.nan
    chance_correlation: float = math.nan


def _n_varying(x: Tensor) -> int:
    low, high = x.aminmax(dim=0)
    return int(((low < high) & torch.isfinite(high - low)).sum())


def _median(r: Tensor, resampled: Tensor) -> Estimate:
    """Return the median of the known correlations."""
    if not torch.isfinite(r).any():
        return Estimate(math.nan, math.nan, math.nan)
    return Estimate(float(r.nanquantile(0.5)), *percentile_interval(resampled.nanquantile(0.5, dim=1)))


def _pair_by_index(a: Tensor, b: Tensor, films: SharedFilms, seed: int) -> _Pairs:
    r = paired_correlations(a, b)
    units = torch.arange(len(r))[:, None].expand(-1, 2)
    return _Pairs(units, r, r, r, Estimate(1.0, 1.0, 1.0), _median(r, _resampled(a, b, films, seed)))


def _resampled(a: Tensor, b: Tensor, films: SharedFilms, seed: int) -> Tensor:
    """Resample the patients; nothing can be said of other patients where there is one only."""
    if films.n_patients < 2:
        return torch.full((PATIENT_RESAMPLES, a.shape[1]), math.nan, dtype=torch.float64)
    return resampled_correlations(a, b, torch.from_numpy(films.patients), PATIENT_RESAMPLES, seed)


def _pair_by_correlation(a: Tensor, b: Tensor, films: SharedFilms, least: float, seed: int) -> _Pairs:
    every = correlations(a, b)
    assigned = match_units(every)
    of_a, of_b = assigned.T
    r = every[of_a, of_b]
    alike = r >= least
    n_varying = _n_varying(a)
    known = every.nan_to_num(nan=-math.inf)
    best_a, best_b = (torch.where(best.isinf(), math.nan, best) for best in (known.amax(dim=1), known.amax(dim=0)))
    nothing = Estimate(math.nan, math.nan, math.nan)
    pairs = _Pairs(assigned[alike], r[alike], best_a, best_b, nothing, nothing)
    if len(assigned):
        # All that were paired are resampled, so that a pair just below the line can cross it.
        resampled = _resampled(a[:, of_a], b[:, of_b], films, seed)
        shares = (resampled >= least).double().sum(dim=1) / n_varying
        interval = percentile_interval(shares) if films.n_patients > 1 else (math.nan, math.nan)
        matched = Estimate(int(alike.sum()) / n_varying, *interval)
        pairs = replace(pairs, matched=matched, correlation=_median(r[alike], resampled[:, alike]))
    elif n_varying:
        pairs = replace(pairs, matched=Estimate(0.0, 0.0, 0.0))
    if len(assigned) and films.n_patients > 1:
        chance = chance_correlations(a, b, torch.from_numpy(films.patients), seed=seed)
        chance = chance[~chance.isnan()]
        shown = (float((chance >= least).double().mean()), float(chance.quantile(0.95)))
        pairs = replace(pairs, chance_matched=shown[0], chance_correlation=shown[1])
    return pairs


def compare_layers(
    a: Run, layer_a: str, b: Run, layer_b: str, films: SharedFilms, *, same_units: bool, least: float, seed: int
) -> LayerComparison:
    """Compare one layer of one run with one of another.

    Args:
        a: the first run.
        layer_a: its layer.
        b: the second run.
        layer_b: its layer.
        films: the films that both show.
        same_units: whether both are the same layer of the same network, so that units are paired by index.
        least: the least correlation of a matched pair otherwise.
        seed: of the resamples.
    """
    x, y = (
        torch.from_numpy(run.activations(layer)[:, rows]).T
        for run, layer, rows in ((a, layer_a, films.of_a), (b, layer_b, films.of_b))
    )
    pairs = _pair_by_index(x, y, films, seed) if same_units else _pair_by_correlation(x, y, films, least, seed)
    units_a, units_b = named_units(a, layer_a), named_units(b, layer_b)
    matched: list[tuple[int, int]] = [(i, j) for i, j in pairs.units.tolist()]
    names = _name_estimates(units_a, units_b, matched, seed)
    effect = names.pop("effect_difference")
    return LayerComparison(
        layer_a=layer_a,
        layer_b=layer_b,
        paired_by="index" if same_units else "correlation",
        n_units=(x.shape[1], y.shape[1]),
        n_varying=(_n_varying(x), _n_varying(y)),
        n_matched=len(matched),
        matched=pairs.matched,
        correlation=pairs.correlation,
        chance_matched=pairs.chance_matched,
        chance_correlation=pairs.chance_correlation,
        **names,
        # The scale of an effect is the method's own.
        effect_difference=effect if a.method == b.method and not math.isnan(effect.value) else None,
        pairs=pair_table(units_a, units_b, matched, pairs.r.tolist()),
        units_lost=lone_units([u.name for u in units_a], {i for i, _ in matched}, pairs.best_a.tolist()),
        units_gained=lone_units([u.name for u in units_b], {j for _, j in matched}, pairs.best_b.tolist()),
        concepts=concept_table(units_a, units_b),
    )


def _name_estimates(a: list[Named], b: list[Named], matched: list[tuple[int, int]], seed: int) -> dict[str, Estimate]:
    """Return what the units say of the names, by the field of `LayerComparison`."""
    values = name_values(a, b, matched)
    means, samples = values.nanmean(dim=0), resampled_means(values, UNIT_RESAMPLES, seed)
    column = {name: place for place, name in enumerate(NAME_COLUMNS)}

    def difference(what: str) -> Estimate:
        i, j = column[f"{what}_b"], column[f"{what}_a"]
        return Estimate(float(means[i] - means[j]), *percentile_interval(samples[:, i] - samples[:, j]))

    shares = {
        name: Estimate(float(means[place]), *percentile_interval(samples[:, place]))
        for name, place in column.items()
        if not name.startswith("effect")
    }
    return shares | {f"{what}_difference": difference(what) for what in ("coverage", "effect")}
