"""What a run was computed from, and the refusal to go on with anything else."""

from pathlib import Path
from typing import Any

from mammi.errors import StaleRunError

__all__ = ["changed_parts", "refuse_changes"]

#: The parts of a manifest's ``identity``, and how to name each to a person.
_PARTS = {
    "target": "the target network",
    "images": "the films",
    "layers": "the layers or their pooling",
    "concepts": "the concept set",
    "vlm": "the vision-language model",
    "template": "the template",
    "method": "the method or its options",
    "masks": "the masks",
    "capture": "the capture settings",
    "schema": "the folder's format",
}


def _differences(old: Any, new: Any, place: str) -> list[str]:  # noqa: ANN401 - JSON values
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            line
            for key in [*old, *(key for key in new if key not in old)]
            for line in _differences(old.get(key), new.get(key), f"{place}.{key}")
        ]
    if old == new:
        return []
    shown = [
        f"{str(value)[:12]}..." if isinstance(value, str) and len(value) == 64 else str(value) for value in (old, new)
    ]
    return [f"{place} was {shown[0]}, now {shown[1]}"]


def changed_parts(old: dict[str, Any], new: dict[str, Any]) -> dict[str, str]:
    """Return the parts in which two ``identity`` of manifests differ, with the words for each."""
    return {part: words for part, words in _PARTS.items() if old.get(part) != new.get(part)}


def refuse_changes(folder: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Compare what a run folder was computed from with what is asked for now.

    Args:
        folder: the run folder, for the message.
        old: the ``identity`` of the folder's manifest.
        new: the ``identity`` of the present call.

    Raises:
        StaleRunError: if any part differs; the message names each part and its values.
    """
    changed = changed_parts(old, new)
    if not changed:
        return
    what = ", ".join(changed.values())
    details = [line for part in changed for line in _differences(old.get(part), new.get(part), part)]
    shown = "; ".join(details[:4]) + (f"; and {len(details) - 4} more" if len(details) > 4 else "")
    raise StaleRunError(f"{folder} was computed with other inputs: {what} changed ({shown}). Choose another --out")
