"""Units against labels of the films, gathered batch by batch."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mammi.errors import InputError
from mammi.functional.agreement import Agreement, agreement
from mammi.functional.patient_bootstrap import pearson_interval

__all__ = ["UnitAgreement"]


@dataclass
class UnitAgreement:
    """How far the activations of units go with the presence of concepts, on films that chose no name.

    Attributes:
        activations: one table ``(n_films, n_units)`` a batch.
        labels: one table ``(n_films, n_concepts)`` a batch: 1 present, 0 absent, NaN unknown.
        patients: who is on each film.

    Example:
        >>> judge = UnitAgreement()
        >>> judge.update(torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [1.0]]), ["a", "b"])
        >>> judge.update(torch.tensor([[2.0]]), torch.tensor([[1.0]]), ["b"])
        >>> round(judge.compute().pearson.item(), 3)
        0.866
    """

    activations: list[Tensor] = field(default_factory=list)
    labels: list[Tensor] = field(default_factory=list)
    patients: list[str] = field(default_factory=list)

    def update(self, activations: Tensor, labels: Tensor, patients: Sequence[str | int]) -> None:
        """Add a batch of films: floating ``(n_films, n_units)`` and ``(n_films, n_concepts)``, and who is on each.

        Raises:
            InputError: if the films are not as many, or units or concepts not those of the batches before.
        """
        if not len(activations) == len(labels) == len(patients):
            raise InputError(
                f"a batch needs as many activations, labels and patients, got {len(activations)}, {len(labels)} "
                f"and {len(patients)}"
            )
        self._check_width(activations, labels)
        self.activations.append(activations.detach().cpu())
        self.labels.append(labels.detach().cpu())
        self.patients += map(str, patients)

    def merge(self, other: "UnitAgreement") -> None:
        """Add the films of another.

        Raises:
            InputError: if its units or concepts are not as many.
        """
        if other.activations:
            self._check_width(other.activations[0], other.labels[0])
        self.activations += other.activations
        self.labels += other.labels
        self.patients += other.patients

    def compute(self, share: float | None = None) -> Agreement:
        """Return every measure of every unit against every concept; see `mammi.functional.agreement.agreement`.

        Raises:
            InputError: if there is no film, or ``share`` is out of range.
        """
        return agreement(*self._tables(), share)

    def interval(self, pairs: Sequence[int] | None = None, *, seed: int, n_resamples: int = 1000) -> tuple[Tensor, ...]:
        """Return the 95 % interval of Pearson's r over resamples of the patients.

        Args:
            pairs: the concept of each unit, usually the one that names it; None for every unit against every concept.
            seed: of the resamples.
            n_resamples: how many.

        Returns:
            Lower and upper bound, float64, ``(n_units,)`` with ``pairs``, else ``(n_units, n_concepts)``.

        Raises:
            InputError: if there is no film, or ``pairs`` does not name one concept a unit.
        """
        activations, labels = self._tables()
        numbers = torch.from_numpy(np.unique(np.array(self.patients), return_inverse=True)[1].astype(np.int64))
        if pairs is None:
            columns = [
                pearson_interval(activations, labels[:, m : m + 1], numbers, seed=seed, n_resamples=n_resamples)
                for m in range(labels.shape[1])
            ]
            return tuple(torch.stack(bounds, dim=1) for bounds in zip(*columns, strict=True))
        if len(pairs) != activations.shape[1] or not all(0 <= m < labels.shape[1] for m in pairs):
            raise InputError(
                f"'pairs' must name one of {labels.shape[1]} concepts for each of {activations.shape[1]} units, "
                f"got {list(pairs)[:10]}"
            )
        return pearson_interval(
            activations, labels[:, torch.tensor(list(pairs))], numbers, seed=seed, n_resamples=n_resamples
        )

    def _check_width(self, activations: Tensor, labels: Tensor) -> None:
        for what, table, before in (("units", activations, self.activations), ("concepts", labels, self.labels)):
            if before and before[0].shape[1:] != table.shape[1:]:
                raise InputError(f"{before[0].shape[1]} {what} in the batches before, got shape {tuple(table.shape)}")

    def _tables(self) -> tuple[Tensor, Tensor]:
        if not self.activations:
            raise InputError("no film to judge by: call update() first")
        return torch.cat(self.activations), torch.cat(self.labels)
