"""The door: two runs in, one comparison out."""

from pathlib import Path

from mammi.comparison.films import SharedFilms, share_films
from mammi.comparison.layers import compare_layers
from mammi.comparison.result import Comparison, LayerComparison
from mammi.errors import InputError, UnknownNameError
from mammi.store import Run, open_run
from mammi.store.identity import changed_parts

__all__ = ["compare"]

#: Share of units that find a partner by chance from which on a reader is told so.
TOO_EASY = 0.05


def compare(
    run_a: Run | str | Path,
    run_b: Run | str | Path,
    *,
    layer_a: str | None = None,
    layer_b: str | None = None,
    min_correlation: float = 0.5,
    seed: int = 0,
) -> Comparison:
    """Compare two methods, two layers or two checkpoints of a network over the same films.

    The same layer of the same network (two methods, two concept sets) has the same units: they are paired by index.
    Otherwise units are matched one to one by the correlation of their activations over the films that both runs show.

    Args:
        run_a: the first run, before; a folder or an open run.
        run_b: the second run, after.
        layer_a: a layer of the first run. Without either, all layers of one name in both are compared.
        layer_b: a layer of the second run; the one of the same name where only one is given.
        min_correlation: pairs less alike than this count as unmatched, in (0, 1].
        seed: of the resamples behind the intervals.

    Raises:
        RunError: if a folder is no complete run.
        InputError: if too few films are shared, no layer has the same name, or ``min_correlation`` is out of range.
        UnknownNameError: if a run holds no such layer.
    """
    if not 0 < min_correlation <= 1:
        raise InputError(f"'min_correlation' must be in (0, 1], got {min_correlation}")
    a, b = (run if isinstance(run, Run) else open_run(run) for run in (run_a, run_b))
    layers = _layer_pairs(a, b, layer_a, layer_b)
    films = share_films(a, b)
    old, new = a.manifest["identity"], b.manifest["identity"]
    differs = changed_parts(old, new)
    found = tuple(
        compare_layers(
            *(a, of_a, b, of_b, films),
            same_units="target" not in differs and of_a == of_b,
            least=min_correlation,
            seed=seed,
        )
        for of_a, of_b in layers
    )
    return Comparison(
        methods=(a.method, b.method),
        n_films=len(films),
        n_patients=films.n_patients,
        min_correlation=min_correlation,
        differs=tuple(differs.values()),
        notes=tuple(_notes(a, b, films, found, differs)),
        layers=found,
    )


def _layer_pairs(a: Run, b: Run, layer_a: str | None, layer_b: str | None) -> list[tuple[str, str]]:
    if layer_a is None and layer_b is None:
        common = [layer for layer in a.layers if layer in b.layers]
        if not common:
            raise InputError(
                f"no layer has the same name in both runs (A: {', '.join(a.layers)}; B: {', '.join(b.layers)}): "
                "say which to compare with layer_a and layer_b (--layer-a, --layer-b)"
            )
        return [(layer, layer) for layer in common]
    of_a, of_b = layer_a or layer_b or "", layer_b or layer_a or ""
    for run, which, layer in ((a, "A", of_a), (b, "B", of_b)):
        if layer not in run.layers:
            raise UnknownNameError.among(
                f"Layer of run {which}", layer, run.layers, f"It holds: {', '.join(run.layers)}."
            )
    return [(of_a, of_b)]


def _notes(
    a: Run, b: Run, films: SharedFilms, found: tuple[LayerComparison, ...], differs: dict[str, str]
) -> list[str]:
    """Say what bounds the reading of the numbers."""
    notes = []
    if len({len(films), len(a.images), len(b.images)}) > 1:
        notes.append(
            f"the runs share {len(films)} films: units are matched over these, names come from all "
            f"{len(a.images)} films of A and {len(b.images)} of B"
        )
    if "concepts" in differs:
        notes.append("the concept sets differ: a concept may be gained or lost because only one run could name it")
    if films.n_patients < 2:
        notes.append("all films are of one patient: there are no intervals over patients and no chance level")
    notes += [
        f"{layer.title}: on shuffled films {layer.chance_matched:.0%} of the units of A find a unit of B as much "
        "alike: compare over more films, or raise min_correlation (--min-correlation)"
        for layer in found
        if layer.chance_matched > TOO_EASY
    ]
    return notes
