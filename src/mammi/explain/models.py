"""The models and films of a run, found again: an explanation needs the network itself, not only what was recorded."""

from pathlib import Path
from typing import Any

from mammi.data import ProbingSet
from mammi.errors import ImageError, RunError, StaleRunError
from mammi.store.files import read_json
from mammi.store.run import Run
from mammi.targets import Target, create_target
from mammi.vlms import Annotator, create_vlm

__all__ = ["load_target", "load_vlm", "run_films"]


def _known(run: Run, model: str, way_out: str) -> dict[str, Any]:
    """Return the arguments that make one of a run's models again."""
    path = run.folder / "private" / "models.json"
    known = read_json(path).get(model) if path.is_file() else None
    if not isinstance(known, dict):
        raise RunError(f"{run.folder} does not tell how its {way_out}")
    return known


def load_target(
    run: Run,
    spec: str | None = None,
    weights: str | Path | None = None,
    *,
    device: str = "cpu",
    **settings: Any,  # noqa: ANN401 - what create_target takes
) -> Target:
    """Load the network that a run annotated.

    Args:
        run: a complete run.
        spec: as for `create_target`; None for what the run's private folder says.
        weights: likewise, only with ``spec``.
        device: where to run.
        **settings: further arguments of `create_target`, only with ``spec``.

    Raises:
        StaleRunError: if its weights, structure or preprocessing are not those of the run.
        RunError: if the run does not tell how its network is made and ``spec`` is not given.
        TargetError: if it cannot be built.
    """
    if spec is not None:
        given: dict[str, Any] = {"spec": spec, "weights": weights, **settings}
    else:
        given = _known(
            run,
            "target",
            "network is made (it came from a module, or an older version wrote the run): give --target and --weights",
        )
    target = create_target(**given, device=device)
    if target.fingerprint != run.manifest["identity"]["target"]:
        raise StaleRunError(
            f"the network at hand is not the one of {run.folder}: content {target.fingerprint[:12]}, the run has "
            f"{run.manifest['identity']['target'][:12]}. Give the weights and settings that were annotated"
        )
    return target


def load_vlm(run: Run, *, device: str = "cpu") -> Annotator:
    """Load the vision-language model that named a run's units.

    Raises:
        StaleRunError: if it is not the same any more.
        RunError: if the run does not tell how it is made.
        VlmError: if it cannot be loaded.
    """
    vlm = create_vlm(**_known(run, "vlm", "vision-language model is made: search by concept instead"), device=device)
    if vlm.fingerprint != run.manifest["identity"]["vlm"]:
        raise StaleRunError(f"the vision-language model at hand is not the one of {run.folder}: search by concept")
    return vlm


def run_films(run: Run) -> ProbingSet:
    """Return the films of a run, in the order of its tables, under their salted ids.

    Raises:
        ImageError: if one of them is not where it was.
        RunError: if the run's private folder is gone.
    """
    path = run.folder / "private" / "films.json"
    if not path.is_file():
        raise RunError(
            f"{run.folder} has no private/films.json, so its films cannot be shown to the network: put 'private' back "
            "beside the manifest"
        )
    sources = read_json(path)
    paths = [Path(sources[int(row)]["path"]) for row in run.images["row"]]
    gone = [film for film, path in zip(run.images["id"], paths, strict=True) if not path.is_file()]
    if gone:
        raise ImageError(f"{len(gone)} of {len(paths)} films are not where they were ({gone[0]}): put them back")
    return ProbingSet(
        paths,
        ids=list(run.images["id"]),
        patients=list(run.images["patient"]),
        frame=run.manifest["identity"]["images"]["frame"],
    )
