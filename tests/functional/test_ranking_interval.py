"""Average precision and the patient bootstrap of both rankings, against scikit-learn and against written-out resamples."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from mammi.errors import InputError
from mammi.functional.auroc import auroc
from mammi.functional.average_precision import average_precision
from mammi.functional.ranking_interval import draw_ranking, percentiles


def example(n_films=60, n_concepts=3, seed=0):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, (n_films, n_concepts)).astype(float)
    scores = np.round(random.normal(0, 1, labels.shape) + 0.5 * labels, 1)  # rounded: many are equal
    labels[random.random(labels.shape) < 0.1] = np.nan
    patients = random.integers(0, n_films // 2, n_films)
    return torch.tensor(scores), torch.tensor(labels), torch.tensor(patients)


def test_average_precision_is_that_of_scikit_learn():
    scores, labels, _ = example()
    for column, found in enumerate(average_precision(scores, labels)):
        known = ~labels[:, column].isnan()
        assert found.item() == pytest.approx(average_precision_score(labels[known, column], scores[known, column]))


def test_average_precision_without_a_film_that_shows_it_is_nan():
    assert average_precision(torch.rand(4, 1), torch.zeros(4, 1)).isnan().all()
    with pytest.raises(InputError, match="must both be"):
        average_precision(torch.rand(4, 1), torch.zeros(4, 2))


def test_every_draw_is_the_measure_of_that_resample():
    scores, labels, patients = example(seed=3)
    areas, precisions = draw_ranking(scores, labels, patients, seed=5, n_resamples=7)
    numbers = torch.unique(patients, return_inverse=True)[1]
    n_patients = int(numbers.max()) + 1
    drawn = torch.randint(n_patients, (7, n_patients), generator=torch.Generator().manual_seed(5))
    for row, choice in enumerate(drawn):
        films = torch.cat([(numbers == patient).nonzero().flatten() for patient in choice])
        for column in range(scores.shape[1]):
            mine, truth = scores[films, column], labels[films, column]
            known = ~truth.isnan()
            assert areas[row, column].item() == pytest.approx(roc_auc_score(truth[known], mine[known]))
            assert precisions[row, column].item() == pytest.approx(average_precision_score(truth[known], mine[known]))


def test_the_order_of_films_and_the_names_of_patients_change_nothing():
    scores, labels, patients = example(seed=4)
    order = torch.randperm(len(scores), generator=torch.Generator().manual_seed(0))
    first = draw_ranking(scores, labels, patients, seed=1, n_resamples=20)
    second = draw_ranking(scores[order], labels[order], patients[order] * 10 + 3, seed=1, n_resamples=20)
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other)


def test_the_interval_holds_the_estimate_and_widens_where_films_share_patients():
    scores, labels, _ = example(n_films=200, seed=6)
    alone = torch.arange(200)
    low, high = percentiles(draw_ranking(scores, labels, alone, seed=0)[0])
    estimate = auroc(scores, labels).diagonal()
    assert ((low < estimate) & (estimate < high)).all()
    copies = [torch.cat([part] * 4) for part in (scores, labels, alone)]
    low4, high4 = percentiles(draw_ranking(*copies, seed=0)[0])
    torch.testing.assert_close(high4 - low4, high - low)  # four copies of a patient's film are no news


def test_a_draw_without_the_concept_is_nan_and_left_out():
    scores, labels = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[0.0], [0.0], [1.0]])
    areas, _ = draw_ranking(scores, labels, torch.arange(3), seed=0, n_resamples=50)
    assert areas.isnan().any()
    assert percentiles(areas)[0].item() == 1.0
    with pytest.raises(InputError, match="one patient a film"):
        draw_ranking(scores, labels, torch.arange(2), seed=0)
