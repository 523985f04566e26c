import numpy as np
import pytest
import torch

from mammi.errors import InputError
from mammi.functional.auroc import auroc, mann_whitney, midranks
from mammi.functional.presence import present_by_share


def table(seed, n_films=17, n_units=3, n_concepts=5, unknown=0.2):
    """Small whole activations, so that many tie, and labels of which some are unknown, one never, one constant."""
    rng = np.random.default_rng(seed)
    activations = torch.from_numpy(rng.integers(-2, 3, size=(n_films, n_units)).astype(np.float32))
    labels = rng.integers(0, 2, size=(n_films, n_concepts)).astype(np.float32)
    labels[rng.uniform(size=labels.shape) < unknown] = np.nan
    labels[:, 1] = np.nan
    labels[:, 2] = np.where(np.isnan(labels[:, 2]), np.nan, 1)
    labels[:, 3] = rng.integers(0, 2, size=n_films)
    return activations, torch.from_numpy(labels)


def pair_by_pair(column, labels):
    """The share of (film with, film without) pairs that the film with wins, ties half."""
    won = pairs = 0
    for value, label in zip(column, labels, strict=True):
        for other, other_label in zip(column, labels, strict=True):
            if label == 1 and other_label == 0:
                pairs += 1
                won += 1 if value > other else 0.5 if value == other else 0
    return won / pairs if pairs else float("nan")


@pytest.mark.parametrize("unknown", [0.0, 0.2, 0.7])
@pytest.mark.parametrize("seed", range(6))
def test_auroc_equals_counting_pair_by_pair(seed, unknown):
    activations, labels = table(seed, unknown=unknown)
    found = auroc(activations, labels)
    slow = [[pair_by_pair(a.tolist(), y.tolist()) for y in labels.T] for a in activations.T]
    assert found.shape == (3, 5)
    np.testing.assert_allclose(found.numpy(), slow, rtol=1e-15)


def test_auroc_and_p_values_equal_other_peoples():
    metrics, stats = pytest.importorskip("sklearn.metrics"), pytest.importorskip("scipy.stats")
    activations, labels = table(1, n_films=60)
    found, p_values = auroc(activations, labels), mann_whitney(activations, labels)
    checked = 0
    for unit in range(3):
        for concept in (0, 3, 4):
            known = ~labels[:, concept].isnan()
            values, truth = activations[known, unit].double().numpy(), labels[known, concept].numpy()
            assert found[unit, concept].item() == pytest.approx(metrics.roc_auc_score(truth, values), abs=1e-14)
            test = stats.mannwhitneyu(
                values[truth == 1], values[truth == 0], alternative="greater", method="asymptotic"
            )
            assert p_values[unit, concept].item() == pytest.approx(test.pvalue, abs=1e-13)
            checked += 1
    assert checked == 9
    assert p_values[:, 1:3].isnan().all()


def test_p_values_of_a_unit_that_never_varies_are_unknown():
    labels = torch.tensor([[0.0], [1.0], [1.0]])
    assert mann_whitney(torch.ones(3, 2), labels).isnan().all()
    assert auroc(torch.ones(3, 2), labels).tolist() == [[0.5], [0.5]]
    assert mann_whitney(torch.ones(1, 2), labels[:1]).isnan().all()


def test_midranks_by_hand():
    values = torch.tensor([[3.0, 1.0], [1.0, -0.0], [3.0, 0.0], [2.0, 5.0]])
    assert midranks(values).tolist() == [[3.5, 3.0], [1.0, 1.5], [3.5, 1.5], [2.0, 4.0]]


def test_order_of_films_units_and_concepts_changes_nothing():
    activations, labels = table(3, n_films=29)
    films, units, concepts = (torch.from_numpy(np.random.default_rng(7).permutation(n)) for n in (29, 3, 5))
    for measure in (auroc, mann_whitney):
        moved = measure(activations[films][:, units], labels[films][:, concepts])
        torch.testing.assert_close(moved, measure(activations, labels)[units][:, concepts], equal_nan=True)


def test_a_negation_mirrors_and_a_monotone_map_changes_nothing():
    activations, labels = table(4)
    found = auroc(activations, labels)
    torch.testing.assert_close(auroc(activations, 1 - labels), 1 - found, equal_nan=True)
    torch.testing.assert_close(auroc(activations.sigmoid(), labels), found, equal_nan=True)


def test_lengths_must_agree():
    with pytest.raises(InputError, match="'activations' holds 3 films and 'labels' 4"):
        auroc(torch.ones(3, 1), torch.ones(4, 1))


def test_presence_by_share():
    scores = torch.tensor([[0.1, 1.0], [0.9, 1.0], [0.5, 1.0], [0.5, 1.0], [0.2, 1.0]], dtype=torch.float64)
    assert present_by_share(scores, 0.4)[:, 0].tolist() == [0, 1, 1, 1, 0]  # two asked for, the second is tied
    assert present_by_share(scores, 0.2)[:, 0].tolist() == [0, 1, 0, 0, 0]
    assert present_by_share(scores, 0.01)[:, 0].tolist() == [0, 1, 0, 0, 0]  # at least one
    assert present_by_share(scores, 0.2)[:, 1].tolist() == [1] * 5  # one score on all films says nothing
    order = torch.tensor([3, 1, 4, 0, 2])
    assert torch.equal(present_by_share(scores[order], 0.4), present_by_share(scores, 0.4)[order])
    with pytest.raises(InputError, match=r"'share' must be in \(0, 1\), got 1"):
        present_by_share(scores, 1.0)
    with pytest.raises(InputError, match="holds no film"):
        present_by_share(scores[:0], 0.5)
