"""`Check`: what a self-test found out about an annotator, as a file that an annotation can look at."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from mammi.concepts import ConceptSet
from mammi.errors import VlmError

__all__ = ["Check", "CheckedConcept", "Told"]

SCHEMA = 1
#: Whether an annotator can tell a concept: its interval lies wholly above 0.5; it does not; or no film could say.
Told = Literal["yes", "no", "not tested"]


@dataclass(frozen=True)
class CheckedConcept:
    """One concept against its label.

    Attributes:
        concept: as the annotator was asked.
        positives: films that show it.
        negatives: films that do not.
        told: whether the annotator can tell it.
        auroc: probability that a film with it scores higher than one without; None where either kind is missing.
        low: lower bound of the 95 % interval by patient.
        high: upper bound.
        average_precision: area under the precision-recall curve; without skill it is ``positives`` of all known films.
        ap_low: lower bound of its interval.
        ap_high: upper bound.
    """

    concept: str
    positives: int
    negatives: int
    told: Told
    auroc: float | None = None
    low: float | None = None
    high: float | None = None
    average_precision: float | None = None
    ap_low: float | None = None
    ap_high: float | None = None


@dataclass(frozen=True)
class Check:
    """A self-test.

    Attributes:
        annotator: its name, fingerprint and card.
        preprocessing: SHA-256 of its views of the drawn films.
        golden: ``status``, ``largest_difference`` and the fingerprint it had then; empty if nothing was compared.
        steadiness: ``films``: largest change of a film's embedding by its batch; ``texts``: of a text's by its
            neighbours; ``text_batch``: texts embedded at once.
        data: counts of films, patients and concepts without a label, and whether patients were known.
        templates: how concepts were put to it.
        concepts: every concept, in order.
        macro: mean AUROC over the tested concepts with its interval: ``auroc``, ``low``, ``high``, ``concepts``.
        settings: seed and number of resamples.
    """

    annotator: dict[str, Any]
    preprocessing: str
    golden: dict[str, Any]
    steadiness: dict[str, float]
    data: dict[str, Any]
    templates: tuple[str, ...]
    concepts: tuple[CheckedConcept, ...]
    macro: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-writable values; no film, patient or path is in it."""
        return {
            "schema": SCHEMA,
            "notice": "A research and audit tool, not a diagnostic device.",
            **asdict(self),
        }

    def write(self, path: str | Path) -> None:
        """Write it as JSON."""
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        Path(path).write_text(f"{text}\n", encoding="utf-8")

    @classmethod
    def read(cls, path: str | Path) -> "Check":
        """Read what `write` wrote.

        Raises:
            VlmError: if the file is no such check.
        """
        try:
            value = json.loads(Path(path).read_text(encoding="utf-8"))
            if value.pop("schema") != SCHEMA:
                raise VlmError(f"{str(path)!r} was written by another version: run 'mammi vlms check' again")
            value.pop("notice", None)
            value["concepts"] = tuple(CheckedConcept(**row) for row in value["concepts"])
            value["templates"] = tuple(value["templates"])
            return cls(**value)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise VlmError(
                f"{str(path)!r} is no check of an annotator ({error}): 'mammi vlms check VLM -o FILE' writes one"
            ) from error

    def require(self, fingerprint: str, name: str) -> None:
        """Refuse to speak for another annotator.

        Raises:
            VlmError: if the fingerprint is not that of the annotator that was checked.
        """
        if self.annotator["fingerprint"] != fingerprint:
            raise VlmError(
                f"the check is of another annotator ({self.annotator['name']}, {self.annotator['fingerprint'][:8]}) than "
                f"{name} ({fingerprint[:8]}; weights, preprocessing and tokenizer count): run 'mammi vlms check' on it"
            )

    def unseen(self, concepts: ConceptSet) -> list[str]:
        """Return those of a concept set that the annotator could not tell, by name or synonym, in its order."""
        blind = {found.term for row in self.concepts if row.told == "no" and (found := concepts.find(row.concept))}
        return [term for term in concepts.terms if term in blind]

    def untested(self, concepts: ConceptSet) -> list[str]:
        """Return those of a concept set that the check says nothing of."""
        known = {
            found.term for row in self.concepts if row.told != "not tested" and (found := concepts.find(row.concept))
        }
        return [term for term in concepts.terms if term not in known]
