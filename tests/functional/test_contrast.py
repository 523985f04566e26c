import pytest
import torch

from mammi.errors import InputError
from mammi.functional import contrast as module
from mammi.functional.contrast import caption_scores, contrast_films, high_films
from mammi.functional.selection import Selection, select_top
from mammi.functional.similarity import unit_rows


def problem(n_films=60, n_units=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    activations = torch.rand(n_films, n_units, generator=generator)
    activations[:15, :2] += 9 * torch.rand(15, 2, generator=generator)
    return activations


def test_high_films_by_hand():
    """Rows (0.6, 0.8), (0, 1) and (0, 0): mean 0.4, unbiased standard deviation 0.456."""
    activations = torch.tensor([[3.0, 4.0], [0.0, 2.0], [0.0, 0.0]])
    assert high_films(activations, 1.0).tolist() == [[False, False], [False, True], [False, False]]
    assert high_films(activations, 0.9).tolist() == [[False, False], [False, True], [False, False]]
    assert high_films(activations, 0.8).tolist() == [[False, True], [False, True], [False, False]]
    assert high_films(activations, 0.0).tolist() == [[True, True], [False, True], [False, False]]
    assert high_films(torch.ones(3, 1), 5.0).all()  # on the line is high


def test_the_scale_of_a_film_does_not_matter():
    activations = problem()
    scale = torch.rand(60, 1, generator=torch.Generator().manual_seed(1)) + 0.1
    assert torch.equal(high_films(activations * scale, 3.0), high_films(activations, 3.0))
    assert 5 < high_films(activations, 3.0).sum() < 60


def test_contrast_films_by_hand():
    """Unit 0 is high on film 0; 1, 2 and 3 leave it cold, and are more and more like film 0 in units 1 and 2."""
    activations = torch.tensor([[8.0, 6.0, 0.0], [0.0, 1.0, 9.0], [0.0, 1.0, 1.0], [0.0, 1.0, 0.0], [8.0, 6.0, 0.0]])
    high = torch.zeros(5, 3, dtype=torch.bool)
    high[0, 0] = True
    found = contrast_films(activations, high, 0.3)
    assert [films.tolist() for films in found] == [[3, 2], [], []]  # 0.6 and 0.42; film 1 has 0.07
    assert [films.tolist() for films in contrast_films(activations, high, 0.0)] == [[3, 2, 1], [], []]
    assert contrast_films(activations, high, 0.0, most=2)[0].tolist() == [3, 2]
    assert contrast_films(activations, high, 0.0, most=0)[0].tolist() == []


def test_ties_go_to_the_lower_index():
    activations = torch.tensor([[8.0, 6.0], *[[0.0, 1.0]] * 40])
    high = torch.zeros(41, 2, dtype=torch.bool)
    high[0, 0] = True
    assert contrast_films(activations, high, 0.3)[0].tolist() == list(range(1, 11))


def test_captions_by_hand():
    images, concepts = torch.eye(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64)
    selection = Selection(torch.tensor([0, 1, 0]), torch.zeros(3), torch.tensor([0, 2, 2, 3]))
    e = torch.exp(torch.tensor(1.0, dtype=torch.float64))
    scores = caption_scores(selection, images, concepts, scale=1.0)
    yes, no = e / (e + 2), 1 / (e + 2)
    torch.testing.assert_close(scores[0], torch.stack([(yes + no) / 2, (yes + no) / 2, no]))
    torch.testing.assert_close(scores[2], torch.stack([yes, no, no]))
    assert scores[1].isnan().all()
    first = caption_scores(selection, images, concepts, scale=1.0, top=1)
    torch.testing.assert_close(
        first[[0, 2]], torch.stack([torch.stack([yes, yes, 0 * e]) / 2, torch.stack([yes, 0 * e, 0 * e])])
    )


def test_blocks_change_nothing(monkeypatch):
    activations = problem()
    generator = torch.Generator().manual_seed(3)
    images, concepts = (unit_rows(torch.randn(n, 5, generator=generator)) for n in (60, 9))
    selection = select_top(activations, 12)
    high = high_films(activations, 3.0)
    films = contrast_films(activations, high)
    scores = caption_scores(selection, images, concepts)
    assert len(films[0]) == 10
    for cells in (1, 300):
        monkeypatch.setattr(module, "CELLS", cells)
        assert torch.equal(high_films(activations, 3.0), high)
        assert [row.tolist() for row in contrast_films(activations, high)] == [row.tolist() for row in films]
        torch.testing.assert_close(caption_scores(selection, images, concepts), scores, rtol=1e-12, atol=0)


def test_no_films_at_all():
    nobody = Selection(torch.empty(0, dtype=torch.int64), torch.empty(0), torch.zeros(3, dtype=torch.int64))
    assert caption_scores(nobody, torch.eye(3), torch.eye(3)).isnan().all()


def test_bad_arguments_are_named():
    with pytest.raises(InputError, match="with a film and a unit"):
        high_films(torch.ones(0, 3))
    with pytest.raises(InputError, match="embedded in 3 dimensions and concepts in 2"):
        caption_scores(select_top(torch.rand(3, 2), 1), torch.eye(3), torch.eye(2))
