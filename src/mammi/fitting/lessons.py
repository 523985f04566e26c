"""What can truly be said of each film: statements made from labels by templates, or found in reports."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mammi.errors import InputError

__all__ = ["TEMPLATES", "LabelLessons", "Lessons", "ReportLessons"]

#: How a finding is put in words, if the user says nothing else. An annotation may use another template.
TEMPLATES = ("{}", "an image of a {}", "{} is seen", "there is {}", "a patient with {}")
#: What is said of a film on which every label is known to be absent.
NOTHING = "no finding"
#: Most statements that are examined at once.
EXAM = 500


class Lessons(Protocol):
    """Texts, and of which film each is true."""

    texts: list[str]

    def draw(self, films: Tensor, generator: torch.Generator) -> Tensor:
        """Return the texts of one step over some films: int64 indices into ``texts``."""
        ...

    def truth(self, films: Tensor, texts: Tensor) -> Tensor:
        """Return ``(n_films, n_texts)`` float32: 1 true, 0 not, NaN not known."""
        ...

    def exam(self, films: Tensor) -> Tensor:
        """Return the texts by which an annotator is judged on some films."""
        ...


@dataclass
class LabelLessons:
    """Statements from a label table: one finding, or none at all; in several wordings.

    Two findings in one statement were tried and left out: on chest films they took 0.007 off the mean AUROC on
    patients held out.

    Attributes:
        texts: every wording of every statement, a statement's wordings side by side.
        n_wordings: wordings of each.
        table: float32 ``(n_films, n_statements)``: 1 true, 0 not, NaN not known.
        n_single: the first statements are of one finding each.
    """

    texts: list[str]
    n_wordings: int
    table: Tensor
    n_single: int

    @classmethod
    def of(cls, names: Sequence[str], labels: Tensor, templates: Sequence[str] = TEMPLATES) -> "LabelLessons":
        """Make the statements.

        Args:
            names: the labels.
            labels: ``(n_films, n_labels)``: 1 present, 0 absent, NaN unknown.
            templates: each with ``{}`` for the finding.

        Raises:
            InputError: if a template has no ``{}``, or no film has a known label.
        """
        wrong = [template for template in templates if "{}" not in template]
        if wrong or not templates:
            raise InputError(f"a template needs {{}} for the finding, got {wrong[0]!r}" if wrong else "give a template")
        labels = labels.float()
        if not (labels == 1).any():
            raise InputError("no film shows any of the labels: there is nothing to learn from")
        statements = list(names)
        columns = [labels[:, column] for column in range(labels.shape[1])]
        shown, unknown = (labels == 1).any(dim=1), labels.isnan().any(dim=1)
        nothing = torch.where(shown, 0.0, torch.where(unknown, torch.nan, 1.0))
        if (nothing == 1).any():
            statements.append(NOTHING)
            columns.append(nothing)
        texts = [template.replace("{}", statement) for statement in statements for template in templates]
        return cls(texts, len(templates), torch.stack(columns, dim=1), len(names))

    def draw(self, films: Tensor, generator: torch.Generator) -> Tensor:
        """Draw a wording of every statement."""
        statements = torch.arange(self.table.shape[1])
        return statements * self.n_wordings + torch.randint(self.n_wordings, statements.shape, generator=generator)

    def truth(self, films: Tensor, texts: Tensor) -> Tensor:
        """Look the truth up in the table."""
        return self.table[films][:, texts // self.n_wordings]

    def exam(self, films: Tensor) -> Tensor:
        """Ask for every single finding, in the first wording."""
        return torch.arange(self.n_single) * self.n_wordings


@dataclass
class ReportLessons:
    """Statements from reports: each whole report, and each of its sentences; true of every film that has it.

    What another report says in other words counts as not true, as in every loss over pairs.

    Attributes:
        texts: distinct reports and sentences, sorted.
        owned: int64, for each film its texts.
    """

    texts: list[str]
    owned: list[Tensor]

    @classmethod
    def of(cls, reports: Sequence[str]) -> "ReportLessons":
        """Make the statements of one report a film."""
        said = [[_plain(report), *_sentences(report)] for report in reports]
        texts = sorted({text for statements in said for text in statements})
        row = {text: i for i, text in enumerate(texts)}
        return cls(texts, [torch.tensor(sorted({row[text] for text in statements})) for statements in said])

    def draw(self, films: Tensor, generator: torch.Generator) -> Tensor:
        """Draw one statement of each film."""
        sizes = torch.tensor([len(self.owned[film]) for film in films.tolist()])
        places = (torch.rand(len(films), generator=generator) * sizes).long().clamp(max=sizes - 1)
        pairs = zip(films.tolist(), places.tolist(), strict=True)
        drawn = sorted({int(self.owned[film][place]) for film, place in pairs})
        return torch.tensor(drawn)

    def truth(self, films: Tensor, texts: Tensor) -> Tensor:
        """Look up whose statements the texts are."""
        place = torch.full((len(self.texts),), -1)
        place[texts] = torch.arange(len(texts))
        table = torch.zeros(len(films), len(texts))
        for row, film in enumerate(films.tolist()):
            columns = place[self.owned[film]]
            table[row, columns[columns >= 0]] = 1
        return table

    def exam(self, films: Tensor) -> Tensor:
        """Ask for the statements that are true of the most films, though not of all; at most 500."""
        counts = torch.bincount(torch.cat([self.owned[film] for film in films.tolist()]), minlength=len(self.texts))
        order = counts.argsort(descending=True, stable=True)
        return order[(counts[order] > 0) & (counts[order] < len(films))][:EXAM]


def _plain(text: str) -> str:
    return " ".join(text.split())


def _sentences(report: str) -> list[str]:
    """Split at full stops, semicolons and ends of lines; one word alone is no sentence."""
    parts = (_plain(part).strip(" .") for part in re.split(r"(?<=[a-z)])[.;](?:\s|$)|\n", report))
    return [part for part in parts if " " in part]
