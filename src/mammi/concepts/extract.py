"""Reports become concepts: the phrases they use, counted by what they say about them."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Literal, get_args

from mammi.concepts.concept import Category, Concept
from mammi.concepts.concept_set import ConceptSet
from mammi.concepts.language import Mention, mentions, sentences
from mammi.concepts.negation import Status
from mammi.concepts.reports import Report, Reports
from mammi.concepts.vocabulary import DropList, Synonyms, Words, phrase_key, read_drop_list, read_synonyms
from mammi.concepts.words import word_set
from mammi.errors import InputError, ReportError
from mammi.types import Progress, no_progress

__all__ = ["MAX_WORDS", "Mode", "build_concepts", "default_min_reports"]

Mode = Literal["phrases", "nouns"]
#: Longer phrases are cut to this many words from their head on.
MAX_WORDS = 4
_SIDE = word_set("left right bilateral")
_SIZE_AND_SIDE = _SIDE | word_set("small large tiny big")
# A report counts once for a term, with the strongest thing it says.
_STRENGTH: dict[Status, int] = {"affirmed": 2, "uncertain": 1, "negated": 0}


def default_min_reports(n_reports: int) -> int:
    """Return how many reports must mention a term: 5 in large sets, fewer (but 2) in those under 2,000.

    >>> [default_min_reports(n) for n in (50, 500, 1500, 4000, 75_000)]
    [2, 2, 4, 5, 5]
    """
    return min(5, max(2, math.ceil(n_reports / 400)))


def build_concepts(
    reports: Reports | Iterable[Report | str],
    *,
    mode: Mode = "phrases",
    min_reports: int | None = None,
    max_concepts: int | None = None,
    synonyms: str | Path | None = None,
    drop: str | Path | None = None,
    progress: Progress = no_progress,
) -> ConceptSet:
    """Build the concept set that reports speak of.

    A report counts once for each term: as affirmed if any sentence affirms it, else as uncertain if any doubts it, else
    as negated. A phrase counts for itself and for the shorter phrases it ends in ("small pleural effusion" also for
    "pleural effusion"). Terms that are only ever negated are concepts too: films show what reports deny.

    Args:
        reports: from ``read_reports``, or any collection of reports or plain texts.
        mode: ``phrases`` for noun phrases of up to four words with synonyms merged; ``nouns`` for single nouns, the
            recipe of MAMMI (Kim et al., MICCAI 2024).
        min_reports: reports that must mention a term in any way; ``default_min_reports`` if not given.
        max_concepts: keep the terms that most reports mention.
        synonyms: a table of your own, laid over ours; see ``vocabulary.read_synonyms``.
        drop: a list of words that name nothing visible, in place of ours; see ``vocabulary.read_drop_list``.
        progress: told about every 500 sentences.

    Returns:
        the concepts, by affirming reports, most first, then by term.

    Raises:
        InputError: if an option has no meaning.
        ReportError: if there is no report, or no term is left.
        MissingExtraError: if spaCy, negspacy or TextBlob is not installed.
    """
    if mode not in get_args(Mode):
        raise InputError(f"mode must be one of {', '.join(get_args(Mode))}, got {mode!r}")
    for name, value in (("min_reports", min_reports), ("max_concepts", max_concepts)):
        if value is not None and value < 1:
            raise InputError(f"{name} must be 1 or more, got {value}")
    if isinstance(reports, str):
        raise InputError("reports must be a collection of reports, got one string; read a file with read_reports(path)")
    origin = reports if isinstance(reports, Reports) else Reports(())
    texts = [report.text if isinstance(report, Report) else report for report in reports]
    wrong = next((type(text).__name__ for text in texts if not isinstance(text, str)), None)
    if wrong:
        raise InputError(f"reports must hold Report or str, got {wrong}")
    if not texts:
        raise ReportError("There is no report to build concepts from")
    table, dropped = read_synonyms(synonyms), read_drop_list(drop)
    tally = _count(texts, mode, table, dropped, progress)
    least = default_min_reports(len(texts)) if min_reports is None else min_reports
    kept = [words for words in tally.reports if tally.enough(words, least, table)]
    notes = [
        *origin.notes,
        f"{len(tally.reports) - len(kept)} terms dropped: in fewer than {least} of {len(texts)} reports",
    ]
    if max_concepts is not None and len(kept) > max_concepts:
        notes.append(f"{len(kept) - max_concepts} terms dropped: only the {max_concepts} most mentioned are kept")
        kept = sorted(kept, key=lambda words: (-tally.reports[words].total(), words))[:max_concepts]
    if not kept:
        raise ReportError(
            f"No term occurs in at least {least} of {len(texts)} reports; lower min_reports or give more reports"
        )
    source = origin.source or "reports"
    concepts = [_concept(words, tally, mode, table, source, origin.licence) for words in kept]
    concepts.sort(key=lambda concept: (-concept.affirmed, concept.term))
    return ConceptSet(tuple(concepts), mode=mode, n_reports=len(texts), notes=tuple(notes))


@dataclass
class _Tally:
    """What was counted, by term.

    Attributes:
        reports: reports by what they say about it.
        alone: reports where it was a whole phrase.
        shown: how often it came in which order of words.
        written: what it was called before synonyms were replaced.
    """

    reports: dict[Words, Counter[Status]] = field(default_factory=dict)
    alone: Counter[Words] = field(default_factory=Counter)
    shown: dict[Words, Counter[Words]] = field(default_factory=dict)
    written: dict[Words, set[Words]] = field(default_factory=dict)

    def enough(self, words: Words, least: int, table: Synonyms) -> bool:
        """Tell whether a term is kept; one that only ever ends longer phrases ("lobe opacity") is no term."""
        return self.reports[words].total() >= least and (words in table.rows or self.alone[words] >= least)


@dataclass(frozen=True)
class _Term:
    """One term of a sentence.

    Attributes:
        words: what it is counted under; the order of its size and side is fixed.
        shown: the same in the order of the phrase.
        written: the same before synonyms were replaced.
        status: what the sentence says about it.
        alone: whether it is the whole phrase.
    """

    words: Words
    shown: Words
    written: Words
    status: Status
    alone: bool


def _count(texts: Sequence[str], mode: Mode, table: Synonyms, dropped: DropList, progress: Progress) -> _Tally:
    split = sentences(texts)
    # Reports repeat each other: every sentence is analysed once.
    unique = list(dict.fromkeys(sentence for report in split for sentence in report))
    clauses = table.clauses if mode == "phrases" else frozenset[Words]()
    terms: dict[str, tuple[_Term, ...]] = {}
    for done, sentence in enumerate(unique, start=1):
        found = mentions(sentence, clauses)
        of = _phrase_terms if mode == "phrases" else _noun_terms
        terms[sentence] = tuple(term for mention in found for term in of(mention, table, dropped))
        if done % 500 == 0 or done == len(unique):
            progress("concepts: sentences", done, len(unique))
    tally = _Tally()
    for report in split:
        strongest: dict[Words, Status] = {}
        alone: set[Words] = set()
        for term in (term for sentence in report for term in terms[sentence]):
            if _STRENGTH[term.status] >= _STRENGTH[strongest.get(term.words, "negated")]:
                strongest[term.words] = term.status
            if term.alone:
                alone.add(term.words)
            tally.shown.setdefault(term.words, Counter())[term.shown] += 1
            tally.written.setdefault(term.words, set()).add(term.written)
        for words, status in strongest.items():
            tally.reports.setdefault(words, Counter())[status] += 1
        tally.alone.update(alone)
    return tally


def _phrase_terms(mention: Mention, table: Synonyms, dropped: DropList) -> Iterator[_Term]:
    """Yield the term a phrase means, then the shorter terms it implies.

    Size and side can be left out anywhere ("small left pleural effusion" is a "left" and a "small pleural effusion"),
    other words only from the front. Their order makes no new term.
    """
    before, ending = _split(mention.words, table)
    if ending not in table.term_of:
        if mention.words[-1] in dropped.words:
            return
        # No ending is known as it stands: clean first ("heart normal size").
        before, ending = _split(tuple(word for word in mention.words if word not in dropped.words), table)
    before = tuple(word for word in before if word not in dropped.words)
    term = table.term_of.get(ending, ending)
    whole = None
    for start, front in _fronts(before, MAX_WORDS - len(term)):
        whole = start if whole is None else whole
        # What came of replacing the ending may be a known name itself ("degenerative" + "spur").
        words = table.term_of.get(front + term, (*sorted(front, key=_size_and_side_first), *term))
        if words in table.rows or front + term not in dropped.phrases:
            yield _Term(words, front + term, front + ending, mention.status, alone=start == whole)


def _fronts(before: Words, room: int) -> Iterator[tuple[int, Words]]:
    """Yield what may stand before a term, longest first: endings of ``before`` with any size and side words left out.

    Each comes with how many other words were cut from its front; those longer than ``room`` are left out.
    """
    rest = [place for place, word in enumerate(before) if word not in _SIZE_AND_SIDE]
    free = [place for place, word in enumerate(before) if word in _SIZE_AND_SIDE]
    for start in range(len(rest) + 1):
        for number in range(len(free), -1, -1):
            for some in combinations(free, number):
                if number + len(rest) - start <= max(room, 0):
                    yield start, tuple(before[place] for place in sorted((*some, *rest[start:])))


def _size_and_side_first(word: str) -> tuple[bool, str]:
    """Order words by this to give size and side one order; other words keep theirs."""
    return (False, word) if word in _SIZE_AND_SIDE else (True, "")


def _split(phrase: Words, table: Synonyms) -> tuple[Words, Words]:
    """Split a phrase into what stands before and the longest ending that the table knows, else the last word.

    Size and side may stand within the known ending ("elevated right hemidiaphragm").
    """
    known = next((start for start in range(len(phrase)) if phrase[start:] in table.term_of), len(phrase) - 1)
    plain = tuple(word for word in phrase if word not in _SIZE_AND_SIDE)
    within = next((start for start in range(len(plain)) if plain[start:] in table.term_of), len(plain))
    if known and len(plain) - within > sum(word not in _SIZE_AND_SIDE for word in phrase[known:]):
        aside = tuple(word for word in phrase if word in _SIZE_AND_SIDE)
        return (*aside, *plain[:within]), plain[within:]
    return phrase[:known], phrase[known:]


def _noun_terms(mention: Mention, table: Synonyms, dropped: DropList) -> Iterator[_Term]:
    """Yield the single nouns of a phrase; one that the table knows takes the one-word name of its row."""
    for noun in mention.nouns:
        row = table.rows.get(table.term_of.get((noun,), ()))
        term = phrase_key(table.single_word(row)) if row else (noun,)
        if noun not in dropped.words and term not in dropped.phrases:
            yield _Term(term, term, (noun,), mention.status, alone=True)


def _concept(words: Words, tally: _Tally, mode: Mode, table: Synonyms, source: str, licence: str) -> Concept:
    row = table.rows.get(table.term_of.get(words, words))
    # The commonest order of words; of equally common ones that with the size first, then the first by alphabet.
    term = " ".join(min(tally.shown[words].items(), key=lambda item: (-item[1], item[0][0] in _SIDE, item[0]))[0])
    if row:
        term = row.term if mode == "phrases" else table.single_word(row)
    # Forms that the table knows stand in its row already, as people write them.
    written = sorted(" ".join(form) for form in tally.written[words] if form not in table.term_of)
    names = [*((row.term, *row.synonyms) if row else ()), *written]
    counts = tally.reports[words]
    return Concept(
        term=term,
        synonyms=tuple(name for name in dict.fromkeys(names) if name != term),
        category=_category(words, table),
        affirmed=counts["affirmed"],
        negated=counts["negated"],
        uncertain=counts["uncertain"],
        source=source,
        licence=licence,
    )


def _category(words: Words, table: Synonyms) -> Category:
    """Return the category of the longest ending that the table knows: a "left lung base" is anatomy."""
    known = (table.term_of.get(words[start:]) for start in range(len(words)))
    return next((table.rows[term].category for term in known if term is not None), "other")
