"""What was found out about a run once, at some cost, and every face of it shows: kept in the run's folder."""

from typing import Any, Literal

from mammi.errors import RunError
from mammi.store.files import read_json, write_json
from mammi.store.run import Run

__all__ = ["Kept", "keep", "kept"]

#: An audit (`mammi.explain.audit_result.Audit`), agreement with marks (`mammi.explain.agreement.unit_agreement`), or what
#: its annotator's self-test says of the concepts: ``unseen``, those it could not tell, and ``untested``.
Kept = Literal["audit", "places", "checked"]


def keep(run: Run, what: Kept, value: dict[str, Any]) -> None:
    """Keep a result with a run, in place of an earlier one of its kind.

    Raises:
        RunError: if it cannot be written.
    """
    write_json(run.folder / "explain" / f"{what}.json", value)


def kept(run: Run, what: Kept) -> dict[str, Any] | None:
    """Return what was kept with a run; None where nothing was.

    Raises:
        RunError: if it cannot be read.
    """
    path = run.folder / "explain" / f"{what}.json"
    if not path.is_file():
        return None
    value = read_json(path)
    if not isinstance(value, dict):
        raise RunError(f"{path} is not what 'mammi {what}' keeps: remove it and run the command again")
    return value
