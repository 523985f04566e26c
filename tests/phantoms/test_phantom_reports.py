"""Reports affirm exactly what a film shows; nothing absent is affirmed."""

import re
from dataclasses import replace

import numpy as np
import pytest

from mammi.phantoms.catalogue import FINDINGS, OUTPUTS, SYNONYMS, is_named
from mammi.phantoms.cohort import Cohort
from mammi.phantoms.reports import write_report
from mammi.phantoms.wording import DENIALS, TOLD, Claim, affirm, deny, noun_phrase

DENYING = re.compile(r"^(No|Without|Negative|There is no|There are no)\b|not seen")
SAID = {sentence: label for label, sentences in TOLD.items() for sentence in sentences}
SAID_ABSENT = {sentence: label for label, sentences in DENIALS.items() for sentence in sentences}


def labels_of(sentence):
    """Return the labels a sentence names."""
    if sentence in SAID:
        return {SAID[sentence]}
    return {label for label in OUTPUTS if is_named(label, sentence)}


def sentences(text):
    return [part.strip() for part in text.split(".") if part.strip()]


@pytest.fixture(scope="module")
def plans():
    cohort = Cohort(600, seed=12)
    return [cohort.plan(index) for index in range(600)]


def test_findings_affirm_what_is_there_and_deny_only_what_is_not(plans):
    for plan in plans:
        affirmed, denied = set(), set()
        for sentence in sentences(write_report(plan).findings):
            if sentence in SAID_ABSENT:
                denied.add(SAID_ABSENT[sentence])
            elif DENYING.search(sentence):
                denied |= labels_of(sentence)
            else:
                affirmed |= labels_of(sentence)
        present = {finding.name for finding in plan.findings}
        assert affirmed == present, (plan, write_report(plan))
        assert not denied & present, (plan, write_report(plan))


def test_the_impression_names_the_findings_and_no_device(plans):
    for plan in plans:
        named = set().union(*(labels_of(s) for s in sentences(write_report(plan).impression)))
        assert named == {finding.name for finding in plan.findings if finding.name in FINDINGS}


def test_the_indication_names_nothing(plans):
    assert not any(labels_of(s) for plan in plans for s in sentences(write_report(plan).indication))


def test_clear_lungs_are_never_said_of_lungs_that_are_not(plans):
    for plan in plans:
        report = write_report(plan)
        if re.search(r"clear", report.findings, re.IGNORECASE):
            assert not any(plan.has(name) for name in ("nodule", "mass", "pneumonia", "consolidation", "fibrosis"))


def test_sides_in_words_are_the_sides_drawn(plans):
    for plan in plans:
        by_name = {finding.name: finding for finding in plan.findings}
        for sentence in sentences(write_report(plan).impression):
            for label in labels_of(sentence) & set(by_name):
                words = sentence.lower().split()
                sides = by_name[label].sides
                assert ("left" in words) == (sides == ("left",)), (sentence, sides)
                assert ("right" in words) == (sides == ("right",)), (sentence, sides)


def test_a_report_depends_on_its_plan_alone(plans):
    assert write_report(plans[5]) == write_report(replace(plans[5]))
    assert len({write_report(plan).findings for plan in plans}) > 0.8 * len(plans), "words vary"


@pytest.mark.parametrize("label", OUTPUTS)
def test_every_wording_of_a_claim_names_its_label_and_no_other(label):
    rng = np.random.default_rng(0)
    for _ in range(60):
        claim = Claim(label, str(rng.choice(["", "left", "both"])), str(rng.choice(["", "upper"])), "small")
        assert labels_of(noun_phrase(claim, rng)) == {label}
        assert labels_of(affirm(Claim(label), rng).rstrip(".")) == {label}
        sentence = deny([label], rng).rstrip(".")
        assert DENYING.search(sentence) or sentence in SAID_ABSENT


def test_fixed_sentences_name_no_other_label():
    for label, told in [*TOLD.items(), *DENIALS.items()]:
        for sentence in told:
            assert {other for other in OUTPUTS if is_named(other, sentence)} <= {label}, sentence


def test_articles_and_verbs_fit():
    rng = np.random.default_rng(1)
    text = " ".join(affirm(Claim(label), rng) for label in OUTPUTS for _ in range(80))
    assert not re.search(r"\b[Aa] [aeiou]\w+ (heart|infiltrate|tube)", text.replace("a uni", ""))
    assert not re.search(r"(wires|leads|bronchograms|lungs) is\b", text)
    assert "There are" in text
    assert set(SYNONYMS) == set(OUTPUTS)
