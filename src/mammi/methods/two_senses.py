"""Whether the strongest films of a unit fall into two groups, one for each of two concepts."""

import torch
from torch import Tensor

from mammi.functional.senses import two_groups
from mammi.methods.weighing import WeighedUnits

__all__ = ["two_senses"]

#: Films in which a unit's senses are looked for: activations so many standard deviations above average, so many at most.
SENSE_LEVEL, SENSE_FILMS = 1.5, 200


def two_senses(
    units: WeighedUnits, unit: int, first: int, second: int, patients: Tensor, min_patients: int
) -> tuple[float, float] | None:
    """Return how pure the groups of films of two senses are, or None if the films do not fall apart that way.

    Args:
        units: a block of units.
        unit: the one of them that is asked about.
        first: the concept of its first sense.
        second: that of its second.
        patients: number of each film's patient.
        min_patients: patients that each group needs.
    """
    activation = units.standard[:, unit]
    strong = (activation > SENSE_LEVEL).nonzero().flatten()
    strong = strong[activation[strong].argsort(descending=True, stable=True)[:SENSE_FILMS]]
    if len(strong) < 2 * min_patients:
        return None
    group = two_groups(units.ground.films[strong])
    similar = units.ground.similarities(strong, torch.tensor([first, second]))
    is_first = similar[:, 0] > similar[:, 1]
    if is_first[group].double().mean() > is_first[~group].double().mean():
        group = ~group
    sizes = [len(torch.unique(patients[strong[part]])) for part in (~group, group)]
    if min(sizes) < min_patients:
        return None
    pure = float(is_first[~group].double().mean()), float((~is_first[group]).double().mean())
    return pure if min(pure) > 0.5 else None
