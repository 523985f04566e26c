"""What the vision-language model is taught is true."""

import numpy as np
import pytest

from mammi.phantoms.catalogue import OUTPUTS
from mammi.phantoms.cohort import Cohort
from mammi.phantoms.lessons import Truth, sample_lessons
from mammi.phantoms.wording import Claim


@pytest.fixture(scope="module")
def plans():
    cohort = Cohort(300, seed=77)
    return [cohort.plan(index) for index in range(300)]


def test_truth_by_the_plain_definition(plans):
    truth = Truth(plans)
    for claim in (
        Claim("effusion"),
        Claim("effusion", "left"),
        Claim("effusion", "both"),
        Claim("nodule", "right", "upper"),
        Claim("edema", "", "", "large"),
    ):
        expected = []
        for plan in plans:
            found = [finding for finding in plan.findings if finding.name == claim.label]
            wanted = {"left": {"left"}, "right": {"right"}, "both": {"left", "right"}, "": set()}[claim.side]
            expected.append(any(wanted <= set(f.sides) and claim.zone in ("", f.zone) for f in found))
        assert truth.of(claim).tolist() == expected
        assert any(expected)


def test_lessons_are_seeded_and_shaped(plans):
    truth, films = Truth(plans), np.arange(20, 60)
    first, again = (sample_lessons(np.random.default_rng(5), truth, films, 90) for _ in range(2))
    assert first.texts == again.texts
    assert (first.targets == again.targets).all()
    assert first.targets.shape == first.weights.shape == (40, len(first.texts)) == (40, 90)
    assert (first.weights > 0).all()
    assert ((first.targets > 0) & (first.targets < 1)).all()


def test_a_lesson_is_true_where_its_label_is(plans):
    truth, films = Truth(plans), np.arange(300)
    lessons = sample_lessons(np.random.default_rng(6), truth, films, 600)
    for name in OUTPUTS:
        wanted = truth.present[:, OUTPUTS.index(name)]
        for text, column in zip(lessons.texts, lessons.targets.T, strict=True):
            if text in (name, f"A chest x-ray image of a {name}"):
                assert ((column > 0.5) == wanted).all(), text
            if text in (f"No {name}.", f"There is no {name}."):
                assert ((column > 0.5) == ~wanted).all(), text
    template = [column for text, column in zip(lessons.texts, lessons.targets.T, strict=True) if text.endswith("of a")]
    assert template
    assert all((column == 0.5).all() for column in template)
