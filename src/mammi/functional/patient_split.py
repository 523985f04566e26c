"""Training, validation and test films that share no patient."""

import math

import torch
from torch import Tensor

from mammi.errors import InputError

__all__ = ["split_patients"]

#: Fewest films in each part: a correlation of two films is always 1 or -1.
FEWEST = 3


def split_patients(
    patients: Tensor, validation: float = 0.1, test: float = 0.2, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Split films by patient, at random.

    Patients in random order fill the test part until it holds its share of the films, then the validation part; the
    rest is for training. Each part has at least 3 films.

    Args:
        patients: int64, shape ``(n_films,)``: films with the same number are of one patient.
        validation: share of the films for validation, in ``[0, 1)``.
        test: share of the films for the test, in ``[0, 1)``.
        seed: of the random order; the same patients give the same split however their films are ordered.

    Returns:
        Training, validation and test films: three rising int64 tensors of film indices.

    Raises:
        InputError: if the shares are out of range, or the patients are too few for three parts.
    """
    if not (0 <= validation < 1 and 0 <= test < 1 and validation + test < 1):
        raise InputError(f"'validation' and 'test' must be shares that leave a rest, got {validation} and {test}")
    _, owner, counts = torch.unique(patients, return_inverse=True, return_counts=True)
    order = torch.randperm(len(counts), generator=torch.Generator().manual_seed(seed))
    filled = counts[order].cumsum(0)  # films of the first patients in the random order
    part = torch.zeros(len(counts), dtype=torch.int64)
    start = films = 0
    for number, share in ((2, test), (1, validation)):
        # 0.07 of 100 films is a little more than 7 in floating point, and must not ask for an eighth.
        wanted = films + max(FEWEST, math.ceil(share * len(patients) - 1e-9))
        stop = start + int((filled[start:] < wanted).sum()) + 1
        part[order[start:stop]] = number
        start, films = stop, int(filled[min(stop, len(filled)) - 1]) if len(filled) else 0
    found = part[owner]
    parts = [(found == number).nonzero().flatten() for number in range(3)]
    if min(len(films) for films in parts) < FEWEST:
        raise InputError(
            f"{len(patients)} films of {len(counts)} patients are too few to split by patient into training, "
            f"validation and test parts of at least {FEWEST} films: show the network more patients"
        )
    return parts[0], parts[1], parts[2]
