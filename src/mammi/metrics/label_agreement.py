"""The published block of numbers: how far the kept labels agree with the name of an output, as strings and as texts.

For comparison with the literature, and for outputs only. Text against text says nothing of the unit: a method that
gave every unit one common word would score well on some of it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from mammi.errors import InputError
from mammi.functional.similarity import unit_rows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from torch import Tensor

__all__ = ["Encode", "LabelAgreement"]

#: Turns n texts into n rows of one width.
Encode = Callable[[list[str]], "ArrayLike | Tensor"]


@dataclass
class LabelAgreement:
    r"""Hit rate, precision, recall, F1 and text cosines of kept labels against true names.

    With :math:`L_k` the kept labels of unit :math:`k` and :math:`G_k` its true names, in lower case: hit
    :math:`1[L_k \cap G_k \ne \emptyset]`, precision :math:`|L_k \cap G_k| / |L_k|`, recall :math:`|L_k \cap G_k| /
    |G_k|`, F1 their harmonic mean (0 if both are 0), and the mean cosine over all pairs of :math:`L_k \times G_k`,
    at most 1. With ``names``, precision is the share of labels that mean a true name and recall the share of true names
    that a label means: two synonyms are two right labels of one truth. A unit without a label has the label ``none``
    (Kim, Ahn and Kim, MICCAI 2024, and their code).

    Attributes:
        concepts: the concept set that labels could come from, for the ceiling.
        encoders: what embeds texts for the cosines, by name.
        names: tells whether a label, the second argument, means a true name, the first, where they are not one string
            (``Ontology.names``); None compares strings, as published.
        truths: one entry a unit.
        labels: one entry a unit.

    Example:
        >>> judge = LabelAgreement(["mass", "effusion", "fluid"])
        >>> judge.update("Effusion", ["effusion", "fluid"])
        >>> judge.update("pleural thickening", [])
        >>> found = judge.compute()
        >>> found["hit rate"], found["precision"], found["labels per unit"], found["ceiling"]
        (0.5, 0.25, 1.0, 0.5)
    """

    concepts: Sequence[str]
    encoders: Mapping[str, Encode] = field(default_factory=dict)
    truths: list[list[str]] = field(default_factory=list)
    labels: list[list[str]] = field(default_factory=list)
    names: Callable[[str, str], bool] | None = field(default=None, kw_only=True)

    def update(self, truth: str | Sequence[str], labels: Sequence[str]) -> None:
        """Add one unit: its true name, or several, and its kept labels, best first.

        Raises:
            InputError: if there is no true name, or a text is blank.
        """
        names = _clean([truth] if isinstance(truth, str) else truth)
        if not names:
            raise InputError("a unit needs a true name: judge units without one by Abstention")
        self.truths.append(names)
        self.labels.append(_clean(labels))

    def merge(self, other: "LabelAgreement") -> None:
        """Add the units of another, judged with the same encoders.

        Raises:
            InputError: if it has another concept set, or compares names otherwise.
        """
        if self.names != other.names:
            raise InputError("the two compare labels with true names by different functions: judge both by one")
        if list(self.concepts) != list(other.concepts):
            raise InputError(
                f"another concept set ({len(other.concepts)} names for {len(self.concepts)}): one ceiling each"
            )
        self.truths += other.truths
        self.labels += other.labels

    def compute(self) -> dict[str, float]:
        """Return the means over units, each with its standard error; NaN without a unit.

        Returns:
            ``hit rate``, ``precision``, ``recall``, ``f1``, ``cosine NAME`` per encoder, and the same with
            ``st.err`` (population standard deviation over the root of the number of units); ``units``,
            ``labels per unit``, and ``ceiling``: the share of units of whose true names one is in the concept set,
            the highest hit rate that any method can have.

        Raises:
            InputError: if an encoder gives something other than one row a text.
        """
        known = _clean(self.concepts)
        rows: dict[str, list[float]] = {name: [] for name in ("hit rate", "precision", "recall", "f1")}
        for truth, kept in zip(self.truths, self.labels, strict=True):
            labels = kept or ["none"]
            precision = _mean([any(self._means(name, label) for name in truth) for label in labels])
            recall = _mean([any(self._means(name, label) for label in labels) for name in truth])
            rows["hit rate"].append(float(precision > 0))
            rows["precision"].append(precision)
            rows["recall"].append(recall)
            rows["f1"].append(2 * precision * recall / (precision + recall) if precision else 0.0)
        for name, encode in self.encoders.items():
            rows[f"cosine {name}"] = self._cosines(name, encode)
        found: dict[str, float] = {"units": len(self.truths)}
        for name, values in rows.items():
            found[name] = _mean(values)
            found[f"{name} st.err"] = float(np.std(values) / np.sqrt(len(values))) if values else float("nan")
        found["labels per unit"] = _mean([len(kept) for kept in self.labels])
        found["ceiling"] = _mean([any(self._has(known, name) for name in truth) for truth in self.truths])
        return found

    def _means(self, truth: str, label: str) -> bool:
        return truth == label or (self.names is not None and label != "none" and self.names(truth, label))

    def _has(self, concepts: list[str], truth: str) -> bool:
        return truth in concepts or (self.names is not None and any(self.names(truth, name) for name in concepts))

    def _cosines(self, name: str, encode: Encode) -> list[float]:
        """Return each unit's mean cosine; every text is embedded once."""
        units = [(kept or ["none"], truth) for kept, truth in zip(self.labels, self.truths, strict=True)]
        texts = sorted({text for kept, truth in units for text in (*kept, *truth)})
        if not texts:
            return []
        rows = torch.as_tensor(encode(texts)).detach().cpu()
        if rows.ndim != 2 or len(rows) != len(texts):
            raise InputError(
                f"encoder {name!r} must give ({len(texts)}, d) for {len(texts)} texts, got {tuple(rows.shape)}"
            )
        rows = unit_rows(rows, f"texts of encoder {name!r}")
        place = {text: row for row, text in enumerate(texts)}
        return [
            min(1.0, float((rows[[place[t] for t in kept]] @ rows[[place[t] for t in truth]].T).mean()))
            for kept, truth in units
        ]


def _clean(texts: Sequence[str]) -> list[str]:
    """Return texts in lower case, each once."""
    if isinstance(texts, str):
        raise InputError(f"expected a sequence of texts, got the string {texts!r}: put it in a list")
    lower = [text.strip().lower() for text in texts]
    if "" in lower:
        raise InputError(f"text {lower.index('')} of {len(lower)} is blank: leave it out")
    return list(dict.fromkeys(lower))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
