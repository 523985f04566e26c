import numpy as np
import pytest
import torch

from mammi.errors import InputError
from mammi.functional import correlation as module
from mammi.functional.correlation import film_correlations, film_cosines, film_cosines_cubed
from mammi.functional.similarity import unit_rows


def problem(n_images=50, n_units=3, n_concepts=7, d_embed=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(n_images, n_units, generator=generator),
        unit_rows(torch.randn(n_images, d_embed, generator=generator) + 1),
        unit_rows(torch.randn(n_concepts, d_embed, generator=generator)),
    )


@pytest.mark.parametrize("n_images", [2, 4, 50])  # fewer images than the width, and more
def test_correlations_equal_numpy(n_images):
    activations, images, concepts = problem(n_images)
    both = np.corrcoef(activations.double().numpy(), (images @ concepts.T).numpy(), rowvar=False)
    np.testing.assert_allclose(film_correlations(activations, images, concepts), both[:3, 3:], atol=1e-12)


def test_cosines_equal_the_formula_and_are_not_centred():
    activations, images, concepts = problem()
    a, p = activations.double().numpy(), (images @ concepts.T).numpy()
    expected = a.T @ p / np.linalg.norm(a, axis=0)[:, None] / np.linalg.norm(p, axis=0)
    np.testing.assert_allclose(film_cosines(activations, images, concepts), expected, atol=1e-13)
    assert (
        film_cosines(activations + 5, images, concepts) - film_cosines(activations, images, concepts)
    ).abs().max() > 0.1


def test_cubes_follow_the_extremes():
    """A concept that fires on the one strongest film beats one that follows the rest."""
    activations = torch.tensor([[10.0], [3.0], [2.0], [1.0], [0.0], [-1.0]])
    images = unit_rows(torch.tensor([[9.0, 0, 9], [0, 3, 9], [0, 2, 9], [0, 1, 9], [0, 0, 9], [0, -1, 9]]))
    scores = film_cosines_cubed(activations, images, torch.eye(3, dtype=torch.float64)[:2])
    assert scores[0, 0] > 0.9 > scores[0, 1]


def test_the_floor_of_the_cubes_holds_back_what_hardly_varies():
    activations, images, concepts = problem()
    nearly = unit_rows(images * torch.tensor([1.0] * 5 + [0.0]) * 0.001 + torch.tensor([0.0] * 5 + [1.0]))
    cubed = film_cosines_cubed(activations, nearly, concepts)
    x, y = ((v - v.mean(dim=0)) ** 3 for v in (activations.double(), nearly @ concepts.T))
    torch.testing.assert_close(cubed, x.T @ y / x.norm(dim=0)[:, None] / 1e-3, rtol=1e-9, atol=0)
    assert cubed.abs().max() < 1e-4
    assert film_correlations(activations, nearly, concepts).abs().max() > 0.1


def test_blocks_change_nothing(monkeypatch):
    arrays = problem()
    whole = film_cosines_cubed(*arrays)
    monkeypatch.setattr(module, "CELLS", 120)
    torch.testing.assert_close(film_cosines_cubed(*arrays), whole, rtol=0, atol=1e-14)


def test_dead_units_and_flat_concepts_are_nan_and_cost_no_other():
    activations, images, concepts = problem()
    activations[:, 1] = 7.0
    assert film_correlations(activations, images, concepts).isnan().any(dim=1).tolist() == [False, True, False]
    activations[:, 1] = 0.0
    assert film_cosines(activations, images, concepts).isnan().any(dim=1).tolist() == [False, True, False]
    alike = images[:1].repeat(50, 1)
    assert film_correlations(activations, alike, concepts).isnan().all()
    assert film_cosines_cubed(activations, alike, concepts).abs().max() < 1e-12
    # float32 embeddings of one film through different batches differ in their last digit
    noisy = unit_rows(alike.float() * (1 + 2e-8 * torch.randn(50, 6, generator=torch.Generator().manual_seed(1))))
    assert film_correlations(activations, noisy, concepts).isnan().all()


def test_bad_arguments_are_named():
    activations, images, concepts = problem()
    for score in (film_correlations, film_cosines, film_cosines_cubed):
        with pytest.raises(InputError, match=r"'activations' must be \(50, n_units\) with an image, got \(49, 3\)"):
            score(activations[1:], images, concepts)
        with pytest.raises(InputError, match="embedded in 6 dimensions and concepts in 5"):
            score(activations, images, concepts[:, :5])
