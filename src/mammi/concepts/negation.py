"""Is a finding affirmed, denied or only suspected? NegEx, run twice: once for denial, once for doubt.

The algorithm is that of Chapman et al., "A simple algorithm for identifying negated findings and diseases in discharge
summaries" (J Biomed Inform 34, 2001), as implemented by negspacy: a trigger governs what follows (or precedes) it up to
the end of the clause; a pseudo-trigger ("no change in") governs nothing. The triggers are our own selection for reports
on films; the clauses are ours too, because reports join whole sentences with a comma.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any, Literal

from mammi.concepts.words import word_set
from mammi.registry import import_extra

__all__ = ["Status", "judge", "pipeline"]

Status = Literal["affirmed", "negated", "uncertain"]

_SEEN = sorted(
    word_set(
        "seen identified visualized visible present noted demonstrated appreciated evident detected apparent found observed "
        "shown suspected suggested excluded there any"
    )
)
# What can be said of a whole list of findings; after other predicates a new clause has begun.
_SHARED = word_set("removed resolved cleared unlikely absent negative").union(_SEEN)
_BE = word_set("is are was were appears appear appeared remains remain has have")
_TERMINATION = [
    *("but", "however", "although", "though", "except", "nevertheless", "yet", "which", "with", ";", ":"),
    *("stable", "unchanged", "persistent", "mild", "moderate"),
    *("there is", "there are", "there has been", "there was", "apart from", "aside from", "other than"),
    *("secondary to", "due to", "seen in", "identified in", "visualized in", "noted in", "present in"),
    "longer",  # cuts "no longer seen, effusion persists" after its "no", which would govern what follows
]

_CANNOT_EXCLUDE = [
    f"{start} {end}"
    for start in ("cannot", "can not", "could not", "not")
    for end in ("exclude", "be excluded", "be entirely excluded", "be completely excluded", "rule out", "be ruled out")
] + ["not excluded", "not entirely excluded", "not completely excluded", "not ruled out", "difficult to exclude"]

_NEGATION = {
    "pseudo_negations": [
        *(
            f"{start} {middle}{end}"
            for start in ("no", "without")
            for middle in ("", "interval ", "significant ", "significant interval ", "definite ", "appreciable ")
            for end in ("change", "changes", "increase", "decrease", "improvement", "progression", "worsening")
        ),
        *("no further", "without further", "no longer enlarged", "not only", "not certain", "not necessarily"),
        *("no better", "no worse", "not changed", "not significantly changed", "gram negative"),
        *_CANNOT_EXCLUDE,
    ],
    "preceding_negations": [
        *("no", "without", "absence of", "absent", "negative for", "free of", "clear of", "lack of", "denies"),
        *("no evidence of", "no sign of", "no signs of", "fails to reveal", "unremarkable for", "never", "neither"),
        *("nor", "resolution of", "resolved", "removal of", "ruled out", "there is not", "there are not", "devoid of"),
        *("rather than", "excludes"),
        *(
            f"{start} {verb}"
            for start in ("not", "n't")
            for verb in ("demonstrate", "show", "reveal", "have", "see", "identify", "appreciate", "contain", "suggest")
        ),
    ],
    "following_negations": [
        *(f"not {verb}" for verb in _SEEN if verb not in ("there", "any", "excluded")),
        *(f"not {adverb} {verb}" for adverb in ("clearly", "definitely", "well") for verb in ("seen", "identified")),
        *("no longer", "absent", "unlikely", "ruled out", "is excluded", "are excluded", "resolved", "has cleared"),
        *("have cleared", "is negative", "are negative", "removed", "no more", "never seen"),
    ],
    "termination": _TERMINATION,
}
_UNCERTAINTY = {
    "pseudo_negations": ["no possible", "less likely", "not likely", "most likely normal", "more likely than not"],
    "preceding_negations": [
        *("possible", "possibly", "probable", "probably", "likely", "may", "might", "could", "perhaps", "potential"),
        *("potentially", "suspicious for", "suspected", "suspect", "suspicion of", "suspicion for", "concern for"),
        *("concerning for", "worrisome for", "question", "questionable", "questioned", "question of", "equivocal"),
        *("?", "suggest", "suggests", "suggesting", "suggestive of", "suggestion of", "versus", "vs", "vs."),
        *("to exclude", "rule out", "r/o", "evaluate for", "consider", "differential", "indeterminate for"),
        *("presumed", "presumably", "favor", "favors", "favored", "if", "conceivably", "raise", "raises"),
        *_CANNOT_EXCLUDE,
    ],
    "following_negations": [
        *("is possible", "are possible", "also possible", "remains possible", "is likely", "is suspected"),
        *("are suspected", "is suggested", "are suggested", "is questioned", "may be present", "versus", "vs", "vs."),
        *("is considered", "?", "might be present", "could be present", "is not certain"),
        *_CANNOT_EXCLUDE,
    ],
    "termination": [end for end in _TERMINATION if end not in ("mild", "moderate")],
}
# The key that phrases are stored under in a document, and the two marks on them.
_SPANS = "mammi_phrases"
_NEGATED, _UNCERTAIN = "mammi_negated", "mammi_uncertain"


@cache
def pipeline() -> Any:  # noqa: ANN401 - a spaCy Language; spaCy is optional and not imported here
    """Return a spaCy pipeline without a model: tokenizer, sentence splitter and two NegEx components.

    Hyphenated words stay whole. The first call takes seconds.

    Raises:
        MissingExtraError: if spaCy or negspacy is not installed.
    """
    spacy = import_extra("spacy", "text")
    import_extra("negspacy.negation", "text")  # registers the component "negex"
    nlp = spacy.blank("en")
    infixes = [pattern for pattern in nlp.Defaults.infixes if "-|\u2013" not in pattern]
    nlp.tokenizer.infix_finditer = spacy.util.compile_infix_regex(infixes).finditer
    nlp.add_pipe("sentencizer")
    for name, terms in ((_NEGATED, _NEGATION), (_UNCERTAIN, _UNCERTAINTY)):
        nlp.add_pipe("negex", name, config={"neg_termset": terms, "extension_name": name, "span_keys": [_SPANS]})
    return nlp


def judge(tokens: Sequence[str], phrases: Sequence[tuple[int, int]]) -> list[Status]:
    """Tell for each phrase of one sentence whether it is affirmed, negated or uncertain.

    A phrase that is both denied and doubted ("no possible effusion") is negated.

    Args:
        tokens: the words of the sentence as ``pipeline()`` splits them, lower case.
        phrases: first and last-plus-one token of each phrase.

    Returns:
        one status a phrase, in the order given.
    """
    nlp = pipeline()
    doc = import_extra("spacy.tokens", "text").Doc(nlp.vocab, words=list(tokens), sent_starts=_clause_starts(tokens))
    spans = [doc[start:end] for start, end in phrases]
    doc.spans[_SPANS] = spans
    for name in (_NEGATED, _UNCERTAIN):
        doc = nlp.get_pipe(name)(doc)
    return [
        "negated" if span._.get(_NEGATED) else "uncertain" if span._.get(_UNCERTAIN) else "affirmed" for span in spans
    ]


def _clause_starts(tokens: Sequence[str]) -> list[bool]:
    """Mark the first token of the sentence and of each clause joined to it by a comma or "and".

    "No effusion, heart size is normal" is two clauses: "is" says something else than that a thing is (not) seen.
    "Effusion, edema and mass are not seen" is one. Two clauses that both have a verb are always two.
    """
    starts = [index == 0 for index in range(len(tokens))]
    joints = [index for index, token in enumerate(tokens) if token in (",", ";", "and")]
    verbs = False
    previous = 0
    for joint, following in pairwise([*joints, len(tokens)]):
        verbs = verbs or bool(_BE & set(tokens[previous:joint]))
        after = tokens[joint + 1 : following]
        verb = next((index for index, token in enumerate(after) if token in _BE), None)
        own_predicate = verb is not None and not _says_of_all(after[verb + 1 :])
        if tokens[joint] == ";" or own_predicate or (verbs and verb is not None):
            starts[joint] = True
            verbs = False
        previous = joint
    return starts


def _says_of_all(predicate: Iterable[str]) -> bool:
    words = [word for word in predicate if not word.endswith("ly") and word not in ("not", "been", "be", "again")]
    return bool(words) and words[0] in _SHARED
