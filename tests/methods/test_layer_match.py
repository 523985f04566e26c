"""A layer in tiles: the same examples, concepts and ranking as in one piece, and no more kept than is listed."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from mammi.functional.selection import Selection, select_top
from mammi.functional.similarity import unit_rows
from mammi.methods import Evidence, LayerMatch, LayerMethod, Match, Verdict, create_method, match_units, select_units

NAN = float("nan")


def slow_ranking(scores, kept):
    """Kept concepts in their own order, then the best of the others: ten in all, or all kept ones."""
    order = sorted((m for m, score in enumerate(scores) if not np.isnan(score)), key=lambda m: (-scores[m], m))
    return (kept + [m for m in order if m not in kept])[: max(10, len(kept))]


def test_the_head_of_a_ranking(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(11, 29, generator=generator, dtype=torch.float64)
    scores[1] = scores[1].round()
    scores[2, 3:] = NAN
    scores[3] = NAN
    scores[4] = 0.0
    kept = [[5], [9, 2, 7], [1, 20], [], [28], [], list(range(28, 12, -1)), [0], [3, 1], [], [2]]
    tensors = [torch.tensor(own, dtype=torch.int64) for own in kept]
    expected = [slow_ranking(row, own) for row, own in zip(scores.tolist(), kept, strict=True)]
    for values in (2**22, 60):
        monkeypatch.setattr("mammi.functional.tiles.VALUES", values)
        found = LayerMatch.of(Match(scores, tensors))
        ranked = torch.split(found.ranked, found.offsets.diff().tolist())
        assert [row.tolist() for row in ranked] == expected
        assert [own.tolist() for own in found.concepts] == kept
        assert found.n_units == 11
        for unit, (row, values_of_row) in enumerate(
            zip(ranked, torch.split(found.ranked_scores, found.offsets.diff().tolist()), strict=True)
        ):
            np.testing.assert_array_equal(values_of_row, scores[unit, row])
    assert expected[2] == [1, 20, 0, 2]  # what has no score is listed only if it is kept
    assert len(expected[6]) == 16


def layer(n_films=60, n_units=13, n_concepts=31, width=8):
    """Films, concepts and units, one of them dead and one broken."""
    generator = torch.Generator().manual_seed(3)
    films, concepts, template = (
        unit_rows(torch.randn(n, width, generator=generator)) for n in (n_films, n_concepts, 1)
    )
    activations = torch.randn(n_films, n_units, generator=generator)
    activations[:, 4] = 0.5
    activations[7, 9] = NAN
    evidence = Evidence(activations, films, concepts, template[0], torch.arange(n_films) // 2)
    return activations, evidence


def select(recipe, activations, **more):
    return select_units(recipe, lambda units: activations[:, units], activations.shape[1], **more)


def assert_same(one, other):
    for name in ("ranked", "offsets", "n_kept"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    np.testing.assert_allclose(one.ranked_scores, other.ranked_scores, atol=1e-13)
    assert one.formulas == other.formulas
    assert (one.verdict is None) == (other.verdict is None)
    if one.verdict is not None:
        assert one.verdict.reasons == other.verdict.reasons


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mammi", {}),
        ("mammi", {"selection": "top-k"}),
        ("mammi", {"min_examples": 4, "max_examples": 6}),
        ("www", {"top_k": 7}),
        ("correlation", {}),
        ("clip-dissect", {}),
        ("clip-dissect", {"similarity": "rank_reorder"}),
        ("falcon", {"high_std": 1.0, "min_films": 1}),
    ],
)
def test_the_size_of_a_tile_and_where_activations_come_from_change_nothing(monkeypatch, name, options):
    activations, evidence = layer()
    recipe = create_method(name, **options)
    selection = select(recipe, activations)
    scores = torch.full((13, 31), NAN, dtype=torch.float64)
    whole = match_units(recipe, evidence, selection, scores=scores)
    assert torch.isnan(scores[[4, 9]]).all()
    assert torch.isfinite(scores[[0, 12]]).any(dim=1).all()
    assert whole.offsets.diff()[[4, 9]].tolist() == [0, 0]
    monkeypatch.setattr("mammi.functional.tiles.VALUES", 130)
    monkeypatch.setattr("mammi.methods.units.TILE", 2)
    asked = []

    def columns(units):
        asked.append(units.tolist())
        return activations[:, units]

    tiled = select(recipe, activations)
    for one, other in zip((tiled.images, tiled.activations, tiled.offsets), selection_parts(selection), strict=True):
        assert torch.equal(one, other)
    seen = []
    apart = match_units(
        *(recipe, Evidence(evidence.films[:0, :0], *list(vars(evidence).values())[1:]), selection),
        lambda done, total: seen.append((done, total)),
        columns=None if recipe.needs == "examples" else columns,
    )
    assert_same(apart, whole)
    assert seen[-1] == (11, 11)
    if recipe.needs == "films" and not recipe.whole_layer:
        assert sorted(unit for units in asked for unit in units) == [0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12]
        assert max(map(len, asked)) == 2


def selection_parts(selection):
    return selection.images, selection.activations, selection.offsets


def test_bounds_are_those_of_what_was_recorded(monkeypatch):
    activations, _ = layer()
    activations[3, 2] = float("inf")
    monkeypatch.setattr("mammi.functional.tiles.VALUES", 130)
    bounds = torch.empty(2, 13)
    selection = select(create_method("mammi"), activations, bounds=bounds)
    np.testing.assert_array_equal(bounds, np.stack([activations.numpy().min(axis=0), activations.numpy().max(axis=0)]))
    assert selection.counts[[2, 4, 9]].tolist() == [0, 0, 0]


@dataclass(frozen=True)
class InBlocks:
    """Names a unit by how many live units come before it, in blocks of its own choice; needs the layer's sum."""

    needs = "films"
    whole_layer = True

    def select(self, activations):
        return select_top(activations, 2)

    def match(self, evidence, selection):
        raise NotImplementedError

    def match_layer(self, evidence, selection, columns):
        assert tuple(evidence.activations.shape) == (0, 0)
        total = sum(float(columns(slice(at, at + 1)).sum()) for at in range(selection.n_units))
        for start in (0, 5, 6):
            stop = {0: 5, 5: 6, 6: selection.n_units}[start]
            tile = columns(slice(start, stop))
            assert isinstance(selection, Selection)
            scores = torch.full((stop - start, 31), -1.0, dtype=torch.float64)
            scores[torch.arange(stop - start), torch.arange(start, stop)] = total
            kept = [torch.tensor([place]) for place in range(start, stop)]
            effect = [tile[:, [place]].double().sum(dim=0) for place in range(stop - start)]
            verdict = Verdict.only(kept, [""] * len(kept), effect)
            yield Match(scores, kept, [f"NOT {{{place}}}" for place in range(start, stop)], verdict)


def test_a_method_that_walks_through_a_layer_by_itself(monkeypatch):
    activations, evidence = layer()
    recipe = InBlocks()
    assert isinstance(recipe, LayerMethod)
    monkeypatch.setattr("mammi.functional.tiles.VALUES", 130)
    widths = []

    def columns(units):
        widths.append(units.stop - units.start)
        return activations[:, units]

    selection = select_units(recipe, columns, 13)
    assert max(widths) == 2  # its examples are chosen tile by tile
    seen = []
    found = match_units(recipe, evidence, selection, lambda done, total: seen.append(done))
    live = [0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12]
    assert [own.tolist() for own in found.concepts] == [[live.index(u)] if u in live else [] for u in range(13)]
    assert found.formulas == [f"NOT {{{live.index(u)}}}" if u in live else "" for u in range(13)]
    total = float(activations[:, live].double().sum())
    first = found.offsets[:-1][found.n_kept > 0]
    np.testing.assert_allclose(found.ranked_scores[first], total, rtol=1e-5)
    assert [len(values) for values in found.verdict.effect] == [int(u in live) for u in range(13)]
    for unit in live:
        assert float(found.verdict.effect[unit][0]) == float(activations[:, unit].double().sum())
    assert seen == [5, 6, 11]


def test_of_a_layer_without_a_live_unit_nothing_is_said():
    _, evidence = layer()
    for recipe in (create_method("mammi"), create_method("correlation"), create_method("clip-dissect"), InBlocks()):
        selection = select(recipe, torch.zeros(60, 3))
        found = match_units(recipe, evidence, selection)
        assert (found.n_units, len(found.ranked), found.verdict, found.formulas) == (3, 0, None, None)
