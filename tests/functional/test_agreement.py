import math

import pytest
import torch

from mammi.errors import InputError
from mammi.functional import agreement as room
from mammi.functional.agreement import agreement, auroc, average_precision, cosine, pearson

NAN = float("nan")
TABLES = ("pearson", "cosine", "f1", "iou", "auprc", "average_precision", "auroc")


def crafted(seed=0, n_films=37, n_units=7, n_concepts=5):
    """Ties, a constant and a broken unit, unknown labels, a concept nobody has, one that all have."""
    generator = torch.Generator().manual_seed(seed)
    activations = torch.randint(-2, 5, (n_films, n_units), generator=generator).float()
    activations[:, 1] = torch.rand(n_films, generator=generator)
    activations[:, 2] = 0.1
    activations[4, 3] = NAN
    labels = (torch.rand(n_films, n_concepts, generator=generator) < 0.3).float()
    labels[torch.rand(n_films, n_concepts, generator=generator) < 0.2] = NAN
    labels[4, 1] = NAN  # the broken unit is whole where concept 1 is known
    labels[:, 3] = torch.where(labels[:, 3].isnan(), NAN, 0.0)
    labels[:, 4] = 1.0
    return activations, labels


def slowly(a, y, share):
    """Re-derived from the formulas, one unit and one concept, in plain Python."""
    films = [i for i in range(len(y)) if not math.isnan(y[i])]
    a, y = [a[i] for i in films], [y[i] for i in films]
    n = len(a)
    if any(math.isnan(v) for v in a) or len(set(a)) == 1 or len(set(y)) == 1:
        return dict.fromkeys(TABLES, NAN)
    mean_a, mean_y = sum(a) / n, sum(y) / n
    dot = sum((p - mean_a) * (q - mean_y) for p, q in zip(a, y, strict=True))
    length = math.sqrt(sum((p - mean_a) ** 2 for p in a) * sum((q - mean_y) ** 2 for q in y))
    raw = sum(p * q for p, q in zip(a, y, strict=True)) / math.sqrt(sum(p * p for p in a) * sum(q * q for q in y))
    present = int(sum(y))
    count = present if share is None else math.ceil(share * n)
    line = sorted(a, reverse=True)[count - 1]
    strong = [v >= line for v in a]
    both = sum(s and q == 1 for s, q in zip(strong, y, strict=True))
    pairs = [(p, r) for p, q in zip(a, y, strict=True) if q for r, s in zip(a, y, strict=True) if not s]
    return {
        "pearson": dot / length,
        "cosine": raw,
        "f1": 2 * both / (sum(strong) + present),
        "iou": both / sum(s or q == 1 for s, q in zip(strong, y, strict=True)),
        "auprc": curve(y, strong),
        "average_precision": curve(a, [q == 1 for q in y]),
        "auroc": sum(1.0 if p > r else 0.5 if p == r else 0.0 for p, r in pairs) / len(pairs),
    }


def curve(score, wanted):
    area = before = 0.0
    for line in sorted(set(score), reverse=True):
        found = [w for s, w in zip(score, wanted, strict=True) if s >= line]
        recall, precision = sum(found) / sum(wanted), sum(found) / len(found)
        area += (recall - before) * precision
        before = recall
    return area


@pytest.mark.parametrize("share", [None, 0.05, 0.2, 0.9])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_number_equals_its_formula(seed, share, monkeypatch):
    monkeypatch.setattr(room, "TILE", 3)
    activations, labels = crafted(seed)
    found = agreement(activations, labels, share)
    for k in range(7):
        for m in range(5):
            slow = slowly(activations[:, k].tolist(), labels[:, m].tolist(), share)
            for name in TABLES:
                value = getattr(found, name)[k, m].item()
                assert value == pytest.approx(slow[name], abs=1e-12, nan_ok=True), (name, k, m)
    for name, alone in (("pearson", pearson), ("cosine", cosine), ("average_precision", average_precision)):
        torch.testing.assert_close(alone(activations, labels), getattr(found, name), equal_nan=True, rtol=0, atol=0)
    torch.testing.assert_close(auroc(activations, labels), found.auroc, equal_nan=True, rtol=0, atol=0)
    assert found.known.tolist() == (~labels.isnan()).sum(0).tolist()
    torch.testing.assert_close(found.prevalence, labels.double().nanmean(0))


def test_constant_and_broken_columns_are_nan_and_cost_nobody_anything():
    found = agreement(*crafted())
    for name in TABLES:
        table = getattr(found, name)
        assert table[2].isnan().all(), "the unit that never varies"
        assert table[:, 3:].isnan().all(), "nobody, and everybody"
        assert table[3].isnan().tolist() == [True, False, True, True, True], "the unit that is broken on film 4"
        assert not table[[0, 1, 4, 5, 6]][:, :3].isnan().any()


def test_a_concept_of_which_nothing_is_known_is_nan():
    labels = torch.tensor([[NAN, 1.0], [NAN, 0.0], [NAN, 0.0]])
    found = agreement(torch.tensor([[3.0], [2.0], [1.0]]), labels)
    assert found.pearson.isnan().tolist() == [[True, False]]
    assert found.known.tolist() == [0, 3]
    assert math.isnan(found.prevalence[0])
    assert not found.rare.any()


def test_order_of_films_units_and_concepts_permutes_the_answer():
    activations, labels = crafted(2)
    plain = agreement(activations, labels, 0.1)
    generator = torch.Generator().manual_seed(1)
    films, units, concepts = (torch.randperm(n, generator=generator) for n in (37, 7, 5))
    moved = agreement(activations[films][:, units], labels[films][:, concepts], 0.1)
    for name in TABLES:
        torch.testing.assert_close(getattr(moved, name), getattr(plain, name)[units][:, concepts], equal_nan=True)


def test_ranks_do_not_feel_a_monotone_map_and_pearson_not_an_affine_one():
    activations, labels = crafted(3)
    plain, bent = agreement(activations, labels, 0.1), agreement((activations.double() + 9).exp(), labels, 0.1)
    for name in ("f1", "iou", "auprc", "average_precision", "auroc"):
        torch.testing.assert_close(getattr(bent, name), getattr(plain, name), equal_nan=True)
    torch.testing.assert_close(
        pearson(activations.double() * 3 + 1e4, labels), plain.pearson, equal_nan=True, atol=1e-9, rtol=0
    )
    assert (cosine(activations + 1e4, labels) - plain.cosine).abs().nan_to_num().max() > 0.1, "cosine feels a shift"


def test_scikit_learn_gives_the_same_areas():
    metrics = pytest.importorskip("sklearn.metrics")
    generator = torch.Generator().manual_seed(5)
    activations = torch.randint(0, 40, (300, 3), generator=generator).double()
    labels = (torch.rand(300, 2, generator=generator) < torch.tensor([0.02, 0.4])).double()
    found = agreement(activations, labels, 0.1)
    for k in range(3):
        strong = activations[:, k] >= activations[:, k].sort(descending=True).values[29]
        for m in range(2):
            a, y = activations[:, k].numpy(), labels[:, m].numpy()
            assert found.average_precision[k, m].item() == pytest.approx(metrics.average_precision_score(y, a))
            assert found.auprc[k, m].item() == pytest.approx(metrics.average_precision_score(strong.numpy(), y))
            assert found.auroc[k, m].item() == pytest.approx(metrics.roc_auc_score(y, a))
            assert found.f1[k, m].item() == pytest.approx(metrics.f1_score(y, strong.numpy()))
            assert found.iou[k, m].item() == pytest.approx(metrics.jaccard_score(y, strong.numpy()))


def test_scores_of_any_scale_can_be_correlated():
    activations = torch.tensor([[1.0], [2.0], [4.0], [9.0]])
    scores = torch.tensor([[-0.3], [NAN], [-0.6], [-1.35]])
    assert pearson(activations, scores).item() < -0.99
    assert cosine(activations, scores).item() < -0.99


def test_rare_concepts_are_flagged_beside_the_area():
    labels = torch.zeros(1000, 3)
    labels[:9, 0] = labels[:10, 1] = labels[:11, 2] = 1
    found = agreement(torch.rand(1000, 2, generator=torch.Generator().manual_seed(0)), labels)
    assert found.rare.tolist() == [True, False, False]
    assert found.share.tolist() == found.prevalence.tolist()
    assert agreement(torch.rand(1000, 2), labels, 0.05).share.tolist() == [0.05] * 3


def test_a_share_of_films_is_not_rounded_up_by_a_rounding_error():
    activations = torch.arange(100.0).flip(0)[:, None]
    labels = torch.zeros(100, 1)
    labels[:7] = 1
    assert agreement(activations, labels, 0.07).f1.item() == 1  # 0.07 * 100 is 7.000000000000001


@pytest.mark.parametrize(
    ("activations", "labels", "match"),
    [
        (
            torch.zeros(2, 3, 4),
            torch.zeros(2, 1),
            r"'activations' must have 2 axes, films first, got shape \(2, 3, 4\)",
        ),
        (torch.zeros(2, 3), torch.zeros(2), "'labels' must have 2 axes"),
        (torch.zeros(2, 3), torch.zeros(3, 1), "holds 2 films and 'labels' 3"),
        (torch.zeros(2, 3), torch.zeros(2, 1, dtype=torch.int64), "'labels' must be floating, got torch.int64"),
        (torch.zeros(2, 3), torch.full((2, 1), 0.5), "must be 1, 0 or NaN: take a threshold"),
        (torch.zeros(2, 3), torch.full((2, 1), torch.inf), "'labels' holds infinite values"),
    ],
)
def test_bad_tables_are_named(activations, labels, match):
    with pytest.raises(InputError, match=match):
        agreement(activations, labels)


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0])
def test_a_bad_share_is_named(share):
    with pytest.raises(InputError, match=r"'share' must be in \(0, 1\)"):
        agreement(torch.zeros(2, 1), torch.zeros(2, 1), share)
