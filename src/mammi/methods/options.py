"""Checks of options, so that a wrong one fails before any film is read."""

from math import isfinite
from numbers import Integral, Real

from mammi.errors import InputError

__all__ = ["check_number", "check_whole"]


def check_whole(name: str, value: object, least: int) -> None:
    """Refuse an option that is no whole number from ``least`` to 2 147 483 647.

    Raises:
        InputError: with the name of the option and what was got.
    """
    if not isinstance(value, Integral) or not least <= int(value) < 2**31:
        raise InputError(f"{name!r} must be a whole number from {least} to 2 147 483 647, got {value!r}")


def check_number(name: str, value: object, least: float, below: float) -> None:
    """Refuse an option that is no finite number in ``[least, below)``.

    Raises:
        InputError: with the name of the option and what was got.
    """
    if not isinstance(value, Real) or not isfinite(value) or not least <= float(value) < below:
        limits = f"in [{least:g}, {below:g})" if isfinite(below) else f"of at least {least:g}"
        raise InputError(f"{name!r} must be a number {limits}, got {value!r}")
