"""Two runs side by side: units matched, names kept and lost, coverage with its interval."""

import threading
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from mammi.comparison import Comparison, compare
from mammi.errors import InputError
from mammi.pages import Page
from mammi.store.run import Run

__all__ = ["Beside", "compare_page"]

#: Rows of one page of pairs.
ROWS = 100


@dataclass(eq=False)
class Beside:
    """A second run to look at beside the first.

    Attributes:
        first: the run of the explorer, A.
        second: the other, B.
    """

    first: Run
    second: Run
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _found: list[Comparison] = field(default_factory=list, repr=False)

    def comparison(self) -> Comparison:
        """Return the comparison of all layers of one name, made once.

        Raises:
            InputError: if the runs cannot be compared.
        """
        with self._lock:
            if not self._found:
                self._found.append(compare(self.first, self.second))
            return self._found[0]


def compare_page(beside: Beside, *, layer: int = 0, only: str = "all", page: int = 1) -> Page:
    """Return one layer of the comparison, and one page of its matched pairs.

    Args:
        beside: the runs.
        layer: number of the pair of layers.
        only: ``"all"`` pairs, or those that ``"changed"`` their name.
        page: which page of pairs, from 1; beyond the last, the last.

    Raises:
        InputError: if the runs cannot be compared, or an argument is none of those.
    """
    found = beside.comparison()
    if not 0 <= layer < len(found.layers):
        raise InputError(f"there are pairs of layers 0 to {len(found.layers) - 1}, got {layer}")
    if only not in ("all", "changed"):
        raise InputError(f"'only' must be all or changed, got {only!r}")
    one = found.layers[layer]
    said = one.to_dict()
    pairs = [pair for pair in said["pairs"] if only == "all" or pair["change"]]
    pages = max(1, -(-len(pairs) // ROWS))
    page = min(max(page, 1), pages)
    head = {key: value for key, value in found.to_dict().items() if key != "layers"}
    concepts = sorted(said["concepts"], key=lambda row: (not row["change"], row["concept"]))
    data: dict[str, Any] = {
        **head,
        "layers": [{"a": pair.layer_a, "b": pair.layer_b, "title": pair.title} for pair in found.layers],
        "number": layer,
        "only": only,
        "page": page,
        "pages": pages,
        "found": len(pairs),
        "in_a": one.layer_a in beside.first.layers,
        "layer": {**said, "pairs": pairs[(page - 1) * ROWS : page * ROWS], "concepts": concepts},
    }
    asked = {"layer": layer or None, "only": only if only != "all" else None, "page": page if page > 1 else None}
    query = urlencode({name: value for name, value in asked.items() if value is not None})
    return Page("Two runs side by side", "compare.html", ("compare", query), data)
