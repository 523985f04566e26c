import math

import pytest
import torch

from mammi.errors import InputError
from mammi.functional.matching import concept_scores, keep_best, keep_first, mean_embeddings
from mammi.functional.selection import Selection
from mammi.functional.similarity import unit_rows


def ragged(*units: list[int]) -> Selection:
    counts = torch.tensor([0, *(len(unit) for unit in units)])
    images = torch.tensor([image for unit in units for image in unit], dtype=torch.int64)
    return Selection(images, torch.zeros(len(images)), counts.cumsum(0))


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(x * x for x in b))


def test_scores_equal_the_mean_of_template_corrected_cosines():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(11, 5, generator=generator, dtype=torch.float64)
    concepts = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    template = torch.randn(5, generator=generator, dtype=torch.float64)
    selection = ragged([3], [10, 0, 4], [], list(range(11)))
    means = mean_embeddings(selection, unit_rows(images))
    scores = concept_scores(means, unit_rows(concepts), unit_rows(template[None])[0])
    for unit, chosen in enumerate(selection.per_unit()):
        for concept in range(7):
            if len(chosen) == 0:
                assert math.isnan(scores[unit, concept])
                continue
            slow = sum(
                cosine(images[i].tolist(), concepts[concept].tolist()) - cosine(images[i].tolist(), template.tolist())
                for i in chosen.tolist()
            ) / len(chosen)
            assert scores[unit, concept].item() == pytest.approx(slow, abs=1e-14)


def test_without_a_template_scores_are_plain_cosines():
    images = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
    scores = concept_scores(
        mean_embeddings(ragged([0], [0, 1]), unit_rows(images)), unit_rows(torch.tensor([[2.0, 0.0]]))
    )
    assert scores.flatten().tolist() == pytest.approx([0.6, 0.8])


def test_the_template_moves_the_line_but_never_the_order():
    generator = torch.Generator().manual_seed(3)
    images, concepts = torch.randn(9, 4, generator=generator), torch.randn(6, 4, generator=generator)
    means = mean_embeddings(ragged([0, 1], [2, 5, 8]), unit_rows(images))
    plain = concept_scores(means, unit_rows(concepts))
    moved = concept_scores(means, unit_rows(concepts), unit_rows(torch.randn(1, 4, generator=generator))[0])
    assert torch.equal(plain.argsort(dim=1), moved.argsort(dim=1))
    assert (plain - moved).std(dim=1).max() < 1e-15


def test_kept_concepts_by_hand():
    nan = float("nan")
    scores = torch.tensor(
        [
            [0.10, 0.20, 0.191, 0.19],  # 0.95 * 0.20 = 0.19: 0.191 is above, 0.19 is on the line
            [-0.1, -0.2, -0.3, -0.05],  # all negative: nothing exceeds 0.95 of a negative maximum
            [0.0, 0.0, -1.0, 0.0],  # a best score of 0 is no better than the bare template
            [0.3, 0.3, 0.1, 0.3],  # ties by lower index
            [nan, nan, nan, nan],  # a unit without examples
        ],
        dtype=torch.float64,
    )
    assert [kept.tolist() for kept in keep_best(scores, 0.95)] == [[1, 2], [], [], [0, 1, 3], []]


def test_the_best_alone_by_hand():
    nan = float("nan")
    scores = torch.tensor([[0.1, 0.3, 0.3], [nan, -2.0, nan], [nan, nan, nan], [-float("inf"), nan, -1.0]])
    assert [kept.tolist() for kept in keep_first(scores)] == [[1], [1], [], [2]]
    assert [kept.tolist() for kept in keep_first(scores, above=0)] == [[1], [], [], []]


def test_a_unit_scores_the_same_alone_as_in_company():
    generator = torch.Generator().manual_seed(5)
    images = unit_rows(torch.randn(40, 512, generator=generator))
    concepts = unit_rows(torch.randn(33, 512, generator=generator))
    units = [torch.randperm(40, generator=generator)[: 1 + u % 7].tolist() for u in range(512)]  # as many as the width
    together = concept_scores(mean_embeddings(ragged(*units), images), concepts)
    for unit in (0, 17, 511):
        alone = concept_scores(mean_embeddings(ragged(units[unit]), images), concepts)
        torch.testing.assert_close(alone[0], together[unit], rtol=0, atol=1e-14)


def test_bad_arguments_are_named():
    with pytest.raises(InputError, match=r"1 rows without a direction .*row 1"):
        unit_rows(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    with pytest.raises(InputError, match="embedded in 2 dimensions and concepts in 3"):
        concept_scores(torch.ones(1, 2), torch.ones(1, 3))
    with pytest.raises(InputError, match=r"'template_embedding' must be \(2,\)"):
        concept_scores(torch.ones(1, 2), torch.ones(1, 2), torch.ones(3))
    with pytest.raises(InputError, match="example 7 has no row among 3"):
        mean_embeddings(ragged([7]), torch.eye(3))
    with pytest.raises(InputError, match="concept_threshold"):
        keep_best(torch.ones(1, 1), 1.0)
    with pytest.raises(InputError, match="with a concept"):
        keep_first(torch.ones(2, 0))


def test_a_mean_is_summed_film_by_film_whatever_the_tile(monkeypatch):
    generator = torch.Generator().manual_seed(9)
    images = torch.randn(50, 9, generator=generator, dtype=torch.float64)
    units = [torch.randperm(50, generator=generator)[: (7 * unit) % 31].tolist() for unit in range(13)]
    whole = mean_embeddings(ragged(*units), images)
    for unit, chosen in enumerate(units):
        total = torch.zeros(9, dtype=torch.float64)
        for image in sorted(chosen):
            total += images[image]
        expected = total / len(chosen) if chosen else torch.full((9,), torch.nan, dtype=torch.float64)
        torch.testing.assert_close(whole[unit], expected, rtol=0, atol=0, equal_nan=True)
    monkeypatch.setattr("mammi.functional.tiles.VALUES", 40)
    torch.testing.assert_close(mean_embeddings(ragged(*units), images), whole, rtol=0, atol=0, equal_nan=True)


def test_unit_rows_leave_what_was_given_as_it_is():
    for dtype in (torch.float32, torch.float64):
        given = torch.tensor([[3.0, 4.0]], dtype=dtype)
        assert unit_rows(given).tolist() == [[0.6, 0.8]]
        assert given.tolist() == [[3.0, 4.0]]
