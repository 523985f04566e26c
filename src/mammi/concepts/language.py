"""From sentences to phrases: what is named, in words that can be counted, and whether it is there.

spaCy (without a model) splits text into sentences and words, TextBlob's bundled lexicon gives each word its part of
speech, a table of our own (``tables/tagger.csv``) corrects it for radiology, and a small grammar finds noun phrases.
All of it works offline.
"""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from mammi.concepts.negation import Status, judge, pipeline
from mammi.concepts.vocabulary import Words, tagger_table
from mammi.concepts.words import lemma, normalise, word_set
from mammi.registry import import_extra

__all__ = ["Mention", "mentions", "sentences"]

# Redactions of public corpora: XXXX, ___, [**...**]. A mark stands for unknown words, so no phrase may span it.
_REDACTED = re.compile(r"\[\*\*.*?\*\*\]|\S*\b[xX]{2,}\b\S*?(?=[\s.,;:)]|$)|_{2,}", re.DOTALL)
# A line that begins like this starts a new sentence even if the last one has no full stop.
_LINE = re.compile(r"\n(?=\s*(?:[-*\u2022]|\d+[.)]|[A-Z]|\n))")
# A question mark in front of a word is a doubt, not the end of a sentence.
_ASKED = re.compile(r"(?:^|(?<=[\s(,;:.]))\?+\s*(?=[^\W\d_])")
# Nouns that say what happened to the thing after "of": "elevation of the hemidiaphragm" is a "hemidiaphragm elevation".
_EVENTS = word_set(
    "blunting calcification collapse compression deviation dilatation dilation displacement distention ectasia elevation "
    "enlargement eventration flattening fracture fullness hyperinflation narrowing obscuration opacification prominence "
    "scarring shift thickening tortuosity unfolding widening"
)
# Adjectives and adverbs that say whether, not what; NegEx must see them in front of a phrase, not in it.
_DOUBT = word_set(
    "absent apparent equivocal likely possible potential presumed probable questionable questioned resolved resolving "
    "suspected suspicious"
)
_NEVER_INSIDE = _DOUBT | {"been"}
_AUXILIARY = dict.fromkeys(word_set("is are was were be been being appears appear remains remain"), "be")
_SKIPPED = frozenset({"DT", "RB", "PRP$"})


@dataclass(frozen=True)
class Mention:
    """A noun phrase (or a clause of the synonym table) and what its sentence says about it.

    Attributes:
        words: the phrase, nouns in the singular, without articles.
        nouns: those of ``words`` that are nouns; empty for a clause.
        status: affirmed, negated or uncertain.
    """

    words: Words
    nouns: Words
    status: Status


def sentences(texts: Sequence[str]) -> list[list[str]]:
    """Split each text into sentences in lower case and one spelling; redaction marks become commas.

    Line breaks end a sentence before a bullet, a number, a capital or an empty line, and are blanks otherwise.
    """
    nlp = pipeline()
    split = nlp.get_pipe("sentencizer")
    result = []
    for text in texts:
        found: list[str] = []
        for block in _LINE.split(_ASKED.sub("questionable ", _REDACTED.sub(" , ", text))):
            # Lower case first: spaCy reads "Mass." as a state of the USA, which ends no sentence.
            doc = split(nlp.make_doc(normalise(" ".join(block.split()))))
            found.extend(sentence.text.strip(" ,-*\u2022") for sentence in doc.sents)
        result.append([sentence for sentence in found if any(map(str.isalpha, sentence))])
    return result


def mentions(sentence: str, clauses: frozenset[Words] = frozenset()) -> tuple[Mention, ...]:
    """Return what one sentence (from ``sentences``) names.

    Args:
        sentence: lower case, one spelling.
        clauses: names that are more than a noun phrase, as ``phrase_key``; where one occurs it is returned in place of
            the phrases inside it.

    Raises:
        MissingExtraError: if spaCy, negspacy or TextBlob is not installed.
    """
    tokens = [token.text for token in pipeline().make_doc(sentence) if not token.is_space]
    tags = _tags(tokens)
    lemmas = [_lemma(token, tag) for token, tag in zip(tokens, tags, strict=True)]
    found = _clause_spans(lemmas, tags, clauses)
    taken = {index for start, end, *_ in found for index in range(start, end)}
    phrases = [span for span in _phrase_spans(tokens, tags) if span[1] - 1 not in taken]
    found += _joined(phrases, tokens, tags, lemmas)
    if not found:
        return ()
    statuses = judge(tokens, [(start, end) for start, end, *_ in found])
    return tuple(Mention(words, nouns, status) for (_, _, words, nouns), status in zip(found, statuses, strict=True))


_Found = tuple[int, int, Words, Words]


def _clause_spans(lemmas: Sequence[str], tags: Sequence[str], clauses: frozenset[Words]) -> list[_Found]:
    """Find names that are clauses, longest first, reading over articles and adverbs ("heart is mildly enlarged")."""
    kept = [index for index, tag in enumerate(tags) if tag not in _SKIPPED or lemmas[index] in ("not", "no")]
    words = [lemmas[index] for index in kept]
    longest = max(map(len, clauses), default=0)
    found: list[_Found] = []
    start = 0
    while start < len(words):
        for length in range(min(longest, len(words) - start), 1, -1):
            name = tuple(words[start : start + length])
            if name in clauses:
                found.append((kept[start], kept[start + length - 1] + 1, name, ()))
                start += length - 1
                break
        start += 1
    return found


def _phrase_spans(tokens: Sequence[str], tags: Sequence[str]) -> list[tuple[int, int]]:
    """Find the longest runs of adjectives, participles and nouns that end in a noun."""
    spans = []
    start = 0
    while start < len(tokens):
        end = start
        while end < len(tokens) and _inside(tokens, tags, start, end):
            end += 1
        last = end
        while last > start and not tags[last - 1].startswith("NN"):
            last -= 1
        if last > start:
            spans.append((start, last))
        start = max(end, start + 1)
    return spans


def _inside(tokens: Sequence[str], tags: Sequence[str], start: int, index: int) -> bool:
    tag, token = tags[index], tokens[index]
    if token in _NEVER_INSIDE or len(token) < 2 or not token.replace("-", "").replace("'", "").isalpha():
        return False
    if tag == "VBN":
        # "a calcified node", but neither "effusion seen" nor "has improved"; a participle after a noun is a verb.
        return not (index and tags[index - 1].startswith("NN"))
    if tag.startswith("JJ"):
        # An adjective after a noun starts something new: "lungs otherwise clear", "effusion larger ...".
        return index == start or not tags[index - 1].startswith("NN")
    return tag.startswith("NN")


def _joined(
    spans: Sequence[tuple[int, int]], tokens: Sequence[str], tags: Sequence[str], lemmas: Sequence[str]
) -> list[_Found]:
    """Turn spans into words: join "X of Y" for events, and share a noun: "left and right effusion" is two."""
    found: list[_Found] = []
    skip = -1
    for number, (start, end) in enumerate(spans):
        if number == skip:
            continue
        words, nouns = _words(range(start, end), tags, lemmas)
        if words[-1] in _EVENTS and number + 1 < len(spans):
            first, last = spans[number + 1]
            between = [token for token, tag in zip(tokens[end:first], tags[end:first], strict=True) if tag != "DT"]
            if between == ["of"]:
                inner, inner_nouns = _words(range(first, last), tags, lemmas)
                found.append((start, last, inner + words, inner_nouns + nouns))
                skip = number + 1
                continue
        found.append((start, end, words, nouns))
        if _shares_noun(start, end, tokens, tags):
            shared, shared_nouns = _words([start - 2, *range(start + 1, end)], tags, lemmas)
            found.append((start - 2, end, shared, shared_nouns))
    return found


def _shares_noun(start: int, end: int, tokens: Sequence[str], tags: Sequence[str]) -> bool:
    """Tell whether the phrase lends its noun to an adjective before "and" or "or"."""
    if start < 2 or end - start < 2 or tokens[start - 1] not in ("and", "or") or tokens[start - 2] in _DOUBT:
        return False
    return tags[start].startswith("JJ") and tags[start - 2].startswith("JJ")


def _words(indices: Sequence[int], tags: Sequence[str], lemmas: Sequence[str]) -> tuple[Words, Words]:
    words = tuple(lemmas[index] for index in indices)
    return words, tuple(lemmas[index] for index in indices if tags[index].startswith("NN"))


def _lemma(token: str, tag: str) -> str:
    return _AUXILIARY.get(token) or (lemma(token) if tag.startswith("NN") else token)


def _tags(tokens: Sequence[str]) -> list[str]:
    """Return a Penn Treebank tag for each lower-case token."""
    words, suffixes = tagger_table()
    tags: list[str] = [tag for _, tag in _parser().find_tags(list(tokens))]
    for index, token in enumerate(tokens):
        tag = words.get(token)
        if tag is None and tags[index] not in ("IN", "DT", "CC", "MD", "PRP", "PRP$", "CD"):
            tag = next(
                (tag for suffix, tag in suffixes if token.endswith(suffix) and len(token) > len(suffix) + 1), None
            )
        if tag is not None:
            tags[index] = tag
    return tags


@cache
def _parser() -> Any:  # noqa: ANN401 - TextBlob's parser; TextBlob is optional and has no types
    parser = import_extra("textblob.en", "text").parser
    with warnings.catch_warnings():
        # Its lexicon is read on first use by a reader that leaves closing the file to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        parser.find_tags(["lung"])
    return parser
