"""Where the pages of the explorer are: absolute addresses without a name in them, each with its twin."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

__all__ = ["ExplorerLinks"]


@dataclass(frozen=True)
class ExplorerLinks:
    """Addresses of the explorer's pages, as `mammi.pages` asks for them. Layers go by number: a name may hold anything.

    Attributes:
        layers: names of the run's layers, in order.
    """

    layers: Sequence[str]

    def page(self, *place: str | int) -> str:
        """Return the address of a page."""
        path, query = self._address(place)
        return path + query

    def twin(self, *place: str | int) -> str:
        """Return the address of its data: the same path with ``.json`` behind it."""
        path, query = self._address(place)
        return f"{path}.json{query}"

    def picture(self, film: str) -> str:
        """Return the address of a film's thumbnail."""
        return f"/films/{film}.jpg"

    def asset(self, name: str) -> str:
        """Return the address of a style sheet or script."""
        return f"/assets/{name}"

    def _address(self, place: tuple[str | int, ...]) -> tuple[str, str]:
        kind, *rest = place
        if kind == "overview":
            return "/", ""
        if kind == "unit":
            return f"/unit/{self._number(rest[0])}/{rest[1]}", ""
        if kind == "units" and rest:
            fields = {"layer": self._number(rest[0]), **({"page": rest[1]} if len(rest) > 1 and rest[1] != 1 else {})}
            more = f"&{rest[2]}" if len(rest) > 2 and rest[2] else ""  # filters and order, as asked for
            return "/units", f"?{urlencode(fields)}{more}"
        if kind in ("search", "compare") and rest:  # what was asked is part of the place
            return f"/{kind}", f"?{rest[0]}"
        return "/" + "/".join(map(str, place)), ""

    def _number(self, layer: str | int) -> int:
        return layer if isinstance(layer, int) else list(self.layers).index(layer)
