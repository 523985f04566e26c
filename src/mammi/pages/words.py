"""Numbers as a reader wants to see them; the filters of the templates."""

import math
from typing import Any

__all__ = ["count", "decimals", "number", "percent", "plural", "q", "signed"]

#: What stands where there is no number.
NOTHING = "\u2013"
#: A true minus sign, as wide as a plus.
MINUS = "\u2212"


def _known(value: Any) -> bool:  # noqa: ANN401 - a number or nothing
    return value is not None and math.isfinite(value)


def count(value: float | None) -> str:
    """Write a count: ``12,345``."""
    return f"{value:,.0f}" if value is not None and _known(value) else NOTHING


def number(value: float | None, digits: int = 3) -> str:
    """Write a number with so many digits that count: ``0.0123``, ``1,230``; a true minus sign."""
    if value is None or not _known(value):
        return NOTHING
    if value and abs(value) >= 10**digits:
        return f"{value:,.0f}".replace("-", MINUS)
    return f"{value:.{digits}g}".replace("-", MINUS)


def decimals(value: float | None, places: int = 2) -> str:
    """Write a number with so many places: ``0.50``; a true minus sign, none before zero."""
    if value is None or not _known(value):
        return NOTHING
    text = f"{value:,.{places}f}"
    return (text[1:] if text.startswith("-") and not float(text.replace(",", "")) else text).replace("-", MINUS)


def signed(value: float | None, places: int = 2) -> str:
    """Write a number with its sign: ``+0.50``."""
    text = decimals(value, places)
    return text if text[0] in (MINUS, NOTHING) else f"+{text}"


def percent(value: float | None, places: int = 0) -> str:
    """Write a share: ``42 %``; what is not quite none or all is not written so."""
    if value is None or not _known(value):
        return NOTHING
    least = 10.0**-places
    if 0 < 100 * value < least / 2:
        return f"< {least:g} %"
    if 100 - least / 2 <= 100 * value < 100:
        return f"> {100 - least:g} %"
    return f"{100 * value:.{places}f} %"


def plural(value: int, one: str, many: str = "") -> str:
    """Write a count with its noun: ``1 film``, ``2 films``."""
    return f"{count(value)} {one if value == 1 else many or one + 's'}"


def q(value: float | None) -> str:
    """Write a false discovery rate or a p-value: ``0.012``, ``< 0.001``."""
    return "< 0.001" if value is not None and value < 0.001 else decimals(value, 3)
