"""Why units have no concept, counted by kind: a reason holds the unit's own numbers, its kind does not."""

import re
from collections import Counter
from collections.abc import Iterable

__all__ = ["count_reasons", "kind_of_reason"]

#: What a reason starts or ends with, and what kind it is of.
_KINDS = (
    (r"it rests on \d+ patient", "it rests on too few patients"),
    (r"no concept is above chance", "no concept is above chance"),
    (r"its effect on held-out patients .* untrained copy", "an untrained copy of the network can show as much"),
    (r"its effect on held-out patients", "its effect on held-out patients is too small"),
    (r"another draw of patients", "another draw of patients gives other concepts"),
)


def kind_of_reason(reason: str) -> str:
    """Return a reason without its numbers.

    Example:
        >>> kind_of_reason("no concept is above chance (q = 0.31)")
        'no concept is above chance'
        >>> kind_of_reason("its best of 12 is too weak")
        'its best of … is too weak'
    """
    for pattern, kind in _KINDS:
        if re.match(pattern, reason):
            return kind
    return re.sub(r"-?\d+(\.\d+)?( ?%)?", "…", reason)


def count_reasons(reasons: Iterable[str]) -> list[dict[str, str | int]]:
    """Count reasons by kind, the commonest first; ``""`` (a unit with a concept) is left out."""
    counted = Counter(kind_of_reason(reason) for reason in reasons if reason)
    return [{"reason": kind, "units": units} for kind, units in counted.most_common()]
