"""Which measures notice wrong labels: the two tests of Oikarinen, Yan and Weng (ICML 2025), as docs/metrics.md tells.

Half of the labels of a concept are taken away, or as many false ones are given: a measure to be trusted must fall in
at least nine of ten trials, at every frequency of the concept.
"""

import re
from functools import cache
from pathlib import Path

import pytest
import torch

from mammi.functional.agreement import agreement

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
FREQUENCIES = (0.499, 0.1, 0.01, 0.001)
MEASURES = ("pearson", "cosine", "f1", "iou", "auprc", "average_precision", "auroc")
TRUSTED = ("pearson", "cosine", "f1", "iou", "auprc")
N_FILMS, TRIALS, LEAST_DROP, ENOUGH = 40_000, 10, 0.001, 0.9


@cache
def drops(frequency: float, noise: float = 0.05, share: float | None = 0.0) -> dict[str, list[float]]:
    """Return, per measure, the share of trials in which it falls: with missing labels, with extra ones.

    The unit is the concept with noise; ``share`` 0 stands for the true frequency of the concept.
    """
    generator = torch.Generator().manual_seed(round(1e6 * frequency))
    fell = {name: torch.zeros(2) for name in MEASURES}
    for _ in range(TRIALS):
        true = (torch.rand(N_FILMS, generator=generator) < frequency).float()
        unit = true + noise * torch.randn(N_FILMS, generator=generator)
        missing = true * (torch.rand(N_FILMS, generator=generator) < 0.5)
        extra = true.logical_or(torch.rand(N_FILMS, generator=generator) < frequency / (1 - frequency)).float()
        alpha = true.mean().item() if share == 0 else share
        found = agreement(unit[:, None], torch.stack([true, missing, extra], dim=1), alpha)
        for name in MEASURES:
            right, *wrong = getattr(found, name)[0].tolist()
            fell[name] += torch.tensor([right - value > LEAST_DROP for value in wrong])
    return {name: (counts / TRIALS).tolist() for name, counts in fell.items()}


@pytest.mark.parametrize("frequency", FREQUENCIES)
@pytest.mark.parametrize("measure", TRUSTED)
def test_trusted_measures_notice_missing_and_extra_labels(measure, frequency):
    assert min(drops(frequency)[measure]) >= ENOUGH


def test_auroc_does_not_notice_missing_labels_of_a_rare_concept():
    assert drops(0.1)["auroc"] == [1, 1]
    assert drops(0.001)["auroc"][0] < 0.1


def test_average_precision_fails_only_where_most_films_have_the_concept():
    assert drops(0.499)["average_precision"][1] < 0.1
    for frequency in (0.1, 0.01, 0.001):
        assert min(drops(frequency)["average_precision"]) >= ENOUGH


def test_f1_and_iou_are_blind_at_a_share_far_from_the_prevalence():
    for measure in ("f1", "iou"):
        assert drops(0.001, share=0.05)[measure][1] < 0.1, "fifty strongest films per film with the concept"
        assert drops(0.499, noise=0.33, share=None)[measure][1] < 0.1, "with every film labelled, every film is right"
        assert min(drops(0.001, share=None)[measure]) >= ENOUGH, "as many as have it"


@pytest.mark.parametrize("measure", ["pearson", "cosine"])
def test_pearson_and_cosine_pass_for_a_poor_unit_too(measure):
    for frequency in FREQUENCIES[:3]:
        assert min(drops(frequency, noise=0.7)[measure]) >= ENOUGH


def test_the_page_tells_what_is_measured():
    rows = re.findall(r"^\| `(\w+)` \| ([\d ]+) \| ([\d ]+) \| (yes|no) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    told = {name: ([int(v) for v in m.split()], [int(v) for v in e.split()], verdict) for name, m, e, verdict in rows}
    measured = {}
    for name in MEASURES:
        missing, extra = ([round(100 * drops(f)[name][side]) for f in FREQUENCIES] for side in (0, 1))
        measured[name] = (missing, extra, "yes" if min(missing + extra) >= 100 * ENOUGH else "no")
    assert told == measured
