"""Salted ids: films and patients can be told apart in a run without being named."""

import hashlib
import hmac
import secrets
from collections.abc import Iterable

__all__ = ["new_salt", "salted_ids"]


def new_salt() -> str:
    """Return a fresh secret of 128 bits, as 32 hex digits."""
    return secrets.token_hex(16)


def salted_ids(names: Iterable[str], salt: str, prefix: str) -> list[str]:
    """Return one short id per name: the same name and salt give the same id; without the salt no id can be guessed.

    Args:
        names: names of films or patients.
        salt: the run's secret.
        prefix: first letter of the ids, so that films and patients never look alike.

    Notes:
        48 bits of HMAC-SHA-256: two of a million films share an id with a chance of 0.2 %, and ids are for reading;
        tables are joined by row.
    """
    return [
        f"{prefix}-{hmac.new(salt.encode(), f'{prefix}|{name}'.encode(), hashlib.sha256).hexdigest()[:12]}"
        for name in names
    ]
