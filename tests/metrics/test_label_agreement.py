import math

import numpy as np
import pytest
import torch

from mammi.errors import InputError
from mammi.metrics import LabelAgreement

VECTORS = {"effusion": [1, 0], "fluid": [0.6, 0.8], "mass": [0, 2], "none": [-1, 0], "hernia": [3, 4]}
UNITS = [("Effusion", ["Fluid", "effusion", "FLUID"]), (["mass", "hernia"], ["mass"]), ("hernia", [])]


def encode(texts):
    assert len(texts) == len(set(texts)), "each text once"
    return np.array([VECTORS[text] for text in texts], dtype=np.float32)


def judge(units, **encoders):
    found = LabelAgreement(["effusion", "Fluid", "mass"], encoders)
    for unit in units:
        found.update(*unit)
    return found


def slowly(units):
    """The published block from its formulas, in plain Python."""
    rows = []
    for truth, labels in units:
        truth = [truth.lower()] if isinstance(truth, str) else truth
        labels = sorted({label.lower() for label in labels}) or ["none"]
        both = len(set(truth) & set(labels))
        p, r = both / len(labels), both / len(truth)
        pairs = [
            sum(a * b for a, b in zip(VECTORS[x], VECTORS[y], strict=True))
            / math.hypot(*VECTORS[x])
            / math.hypot(*VECTORS[y])
            for x in labels
            for y in truth
        ]
        rows.append([both > 0, p, r, 2 * p * r / (p + r) if p + r else 0, sum(pairs) / len(pairs)])
    means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    errors = [
        math.sqrt(sum((v - mean) ** 2 for v in column) / len(rows)) / math.sqrt(len(rows))
        for column, mean in zip(zip(*rows, strict=True), means, strict=True)
    ]
    return means, errors


def test_the_block_equals_its_formulas():
    found = judge(UNITS, mini=encode).compute()
    names = ["hit rate", "precision", "recall", "f1", "cosine mini"]
    means, errors = slowly(UNITS)
    assert [found[name] for name in names] == pytest.approx(means)
    assert [found[f"{name} st.err"] for name in names] == pytest.approx(errors)
    assert found["units"] == 3
    assert found["labels per unit"] == 1
    assert found["ceiling"] == pytest.approx(2 / 3), "no hernia among the concepts"


def test_merged_parts_and_another_order_equal_the_whole():
    whole, left, right = judge(UNITS, mini=encode), judge(UNITS[:1], mini=encode), judge(UNITS[1:], mini=encode)
    left.merge(right)
    assert left.compute() == whole.compute()
    assert judge(UNITS[::-1], mini=encode).compute() == pytest.approx(whole.compute())
    with pytest.raises(InputError, match=r"another concept set \(1 names for 3\)"):
        whole.merge(LabelAgreement(["mass"]))


def test_a_cosine_is_never_above_one():
    def rounded(texts):
        return torch.tensor([[1, 2 / 7, 2 / 3]], dtype=torch.float64).expand(len(texts), -1)

    row = torch.nn.functional.normalize(rounded(["a"]), dim=1)
    assert (row @ row.T).item() > 1, "its cosine with itself is rounded up"
    assert judge(UNITS, mini=rounded).compute()["cosine mini"] == 1
    assert LabelAgreement([]).compute()["units"] == 0
    assert math.isnan(judge([], mini=encode).compute()["cosine mini"])


def test_the_name_none_counts_like_any_other():
    assert judge([("none", [])]).compute()["hit rate"] == 1


@pytest.mark.parametrize(
    ("truth", "labels", "match"),
    [
        ([], ["mass"], "a unit needs a true name"),
        ("mass", "mass", "got the string 'mass': put it in a list"),
        ("mass", ["fluid", " "], "text 1 of 2 is blank"),
    ],
)
def test_bad_names_are_said(truth, labels, match):
    with pytest.raises(InputError, match=match):
        LabelAgreement(["mass"]).update(truth, labels)


def test_an_encoder_that_gives_something_else_is_named():
    with pytest.raises(InputError, match=r"encoder 'mini' must give \(5, d\) for 5 texts, got \(5,\)"):
        judge(UNITS, mini=lambda texts: np.zeros(len(texts))).compute()
    with pytest.raises(InputError, match=r"texts of encoder 'mini'.*without a direction"):
        judge(UNITS, mini=lambda texts: np.zeros((len(texts), 2))).compute()
