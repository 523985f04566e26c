"""Search by words and by a film, against slow re-derivations; order, size and dead units."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from mammi.errors import InputError, RunError
from mammi.explain.models import load_vlm
from mammi.explain.search import UnitSearch, open_search, standing


class Texts:
    """An annotator whose direction of a text is drawn from its letters."""

    def __init__(self, width):
        self.width, self.asked = width, []

    def embed_texts(self, texts):
        self.asked += texts
        rows = [np.random.default_rng([ord(c) for c in text]).normal(size=self.width) for text in texts]
        return torch.nn.functional.normalize(torch.tensor(np.array(rows)), dim=1).float()


def made(layers, embeddings, patients=None, template="a film of {}", films=None):
    """A run of arrays alone, and its search."""
    n_films = next(iter(layers.values())).shape[1]
    run = SimpleNamespace(
        layers=list(layers),
        activations=lambda layer: layers[layer],
        images=pd.DataFrame({"patient": patients if patients is not None else np.arange(n_films)}),
        manifest={
            "identity": {"template": template},
            "layers": [{"name": name, "n_units": len(units)} for name, units in layers.items()],
        },
    )
    films = np.arange(n_films) if films is None else films
    centred = embeddings - embeddings.mean(axis=0)
    return UnitSearch(run, Texts(embeddings.shape[1]), films, centred.astype(np.float32), len(films) == n_films)


@pytest.fixture
def arrays():
    rng = np.random.default_rng(5)
    units = rng.gamma(2.0, 3.0, (37, 301)).astype(np.float32)
    units[3] += 1e4  # a large mean over a small spread
    units[4] *= 1e25  # squares that float32 cannot hold
    units[5] = 0.1  # never varies
    units[6, 7] = np.nan
    embeddings = rng.normal(size=(301, 16))
    return units, embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)


def slow(units, embeddings, direction):
    return np.array([np.corrcoef(row.astype(np.float64), embeddings @ direction)[0, 1] for row in units])


def test_scores_are_correlations(arrays):
    units, embeddings = arrays
    search = made({"one": units}, embeddings)
    direction = search.direction("heart")
    found = search.scores(direction, "one").r
    assert np.isnan(found[[5, 6]]).all()
    usable = np.setdiff1d(np.arange(37), [5, 6])
    np.testing.assert_allclose(found[usable], slow(units[usable], embeddings, direction), atol=3e-6)


def test_scores_do_not_depend_on_blocks_order_or_neighbours(arrays, monkeypatch):
    units, embeddings = arrays
    whole = made({"one": units}, embeddings)
    direction = whole.direction("heart")
    expected = whole.scores(direction, "one").r
    monkeypatch.setattr("mammi.explain.search.CELLS", 700)  # two units at a time
    np.testing.assert_allclose(made({"one": units}, embeddings).scores(direction, "one").r, expected, atol=1e-6)
    order = np.random.default_rng(1).permutation(301)
    shuffled = made({"one": units[:, order]}, embeddings[order]).scores(direction, "one").r
    np.testing.assert_allclose(shuffled, expected, atol=2e-6)
    turned = made({"one": units[::-1]}, embeddings).scores(direction, "one").r
    np.testing.assert_allclose(turned[::-1], expected, atol=1e-6)


def test_films_that_are_not_encoded_are_left_out(arrays):
    units, embeddings = arrays
    films = np.arange(0, 301, 3)
    search = made({"one": units}, embeddings[films], films=films)
    assert not search.complete
    direction = search.direction("heart")
    usable = np.setdiff1d(np.arange(37), [5, 6])
    np.testing.assert_allclose(
        search.scores(direction, "one").r[usable],
        slow(units[usable][:, films], embeddings[films], direction),
        atol=3e-6,
    )


def test_words_are_put_as_the_concepts_were(arrays):
    units, embeddings = arrays
    search = made({"one": units}, embeddings, template=["an x-ray of {}", "{} is seen"])
    direction = search.direction("  a \n large heart ")
    assert search.vlm.asked == ["an x-ray of a large heart", "a large heart is seen"]
    assert np.linalg.norm(direction) == pytest.approx(1)
    with pytest.raises(InputError, match="nothing to search for"):
        search.direction(" \n ")


def test_unrelated_films_rarely_pass_the_chance_line():
    """Of 200 runs of 60 unrelated units, about 1 in 20 has any unit beyond the line."""
    rng = np.random.default_rng(2)
    passed = 0
    for _ in range(200):
        search = made(
            {"a": rng.normal(size=(25, 400)).astype(np.float32), "b": rng.normal(size=(35, 400)).astype(np.float32)},
            rng.normal(size=(400, 4)),
        )
        direction = rng.normal(size=4)
        passed += any(
            (search.scores(direction, layer).r > search.scores(direction, layer).chance).any() for layer in "ab"
        )
    assert 2 <= passed <= 22


def test_the_chance_line_counts_patients(arrays):
    units, embeddings = arrays
    many = made({"one": units}, embeddings)
    few = made({"one": units}, embeddings, patients=np.arange(301) // 10)
    direction = many.direction("heart")
    lines = many.scores(direction, "one").chance, few.scores(direction, "one").chance
    assert lines[1] / lines[0] == pytest.approx((300 / 30) ** 0.5)
    one = made({"one": units}, embeddings, patients=np.zeros(301))
    assert one.scores(direction, "one").chance == 1.0


def test_words_that_tell_no_films_apart_are_said_to(arrays):
    units, _ = arrays
    with pytest.raises(InputError, match="tell no units apart"):
        made({"one": units}, np.ones((301, 4))).scores(np.ones(4) / 2, "one")


def test_a_run_is_searched_by_its_own_model(phantom_run):
    vlm = load_vlm(phantom_run)
    search = open_search(phantom_run, vlm)
    assert len(search.films) == phantom_run.manifest["counts"]["encoded"]
    # the stored embeddings are those of the films: encoded anew they are the same
    from mammi.explain.models import run_films

    films = run_films(phantom_run)
    rows = vlm.embed_images(torch.stack([vlm.view(films.film(int(row))) for row in search.films[:5]])).numpy()
    mean = rows[0] - search.embeddings[0]
    np.testing.assert_allclose(rows - mean, search.embeddings[:5], atol=1e-5)


def test_a_run_without_embeddings_says_so(phantom_run, tmp_path):
    import shutil

    from mammi.store import open_run

    folder = tmp_path / "bare"
    shutil.copytree(phantom_run.folder, folder)
    shutil.rmtree(folder / "embeddings")
    with pytest.raises(RunError):
        open_search(open_run(folder), load_vlm(phantom_run))


def test_standing_is_the_share_below_and_half_of_those_equal():
    units = np.array([[0, 1, 1, 2], [5, 5, 5, 5], [3, 2, 1, 0]], np.float32)
    run = SimpleNamespace(activations=lambda layer: units)
    found = standing(run, "one", [1.0, 5.0, 9.0])
    assert found.percentile.tolist() == [0.5, 0.5, 1.0]
    assert found.z[0] == 0
    assert np.isnan(found.z[1])
    assert found.z[2] == pytest.approx((9 - 1.5) / units[2].std())
    with pytest.raises(InputError, match="3 units"):
        standing(run, "one", [1.0])
