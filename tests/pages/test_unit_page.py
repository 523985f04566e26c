"""The page of one unit, number by number."""

import numpy as np
import pytest
import torch

from mammi.errors import InputError, RunError, UnknownNameError
from mammi.functional.agreement import agreement
from mammi.pages import RunView, render, unit_page
from mammi.pages.senses import Embedded
from mammi.store.run import open_run
from small_run import (
    DEAD,
    HEAD,
    IMAGE,
    LAYER,
    N_FILMS,
    NAMELESS,
    REASONS,
    SCRIPT,
    TWO_PATIENTS,
    TWO_SENSES,
    activations,
)


def test_a_named_unit(view):
    data = unit_page(view, LAYER, 0).data
    assert (data["name"], data["named"], data["reason"], data["output"]) == (SCRIPT, True, "", "")
    assert [entry["concept"] for entry in data["concepts"]] == [SCRIPT, "effusion"]
    assert data["concepts"][0] == {
        "concept": SCRIPT,
        "category": "finding",
        "score": 0.8,
        "unseen": False,
        "effect": 1.0,
        "q_value": 0.0004,
        "stability": 0.9,
        "purity": 1.0,
        "sense": 0,
    }
    assert [entry["concept"] for entry in data["next"]] == [IMAGE, "tube", "mass; nodule", "mass", "lung"]


def test_a_concept_that_the_annotator_could_not_tell_is_marked(view, site):
    view.unseen = frozenset({"effusion"})
    page = unit_page(view, LAYER, 0)
    assert [entry["unseen"] for entry in page.data["concepts"]] == [False, True]
    assert render(page, site).count("could not tell it in its check") == 1


def test_examples_and_counter_examples_are_of_other_patients(view):
    activation = activations()[LAYER][0]
    data = unit_page(view, LAYER, 0).data
    examples = [view.film_rows[film["id"]] for film in data["examples"]["films"]]
    assert examples == np.argsort(-activation, kind="stable")[:5].tolist()
    assert data["examples"]["films"][0]["activation"] == pytest.approx(activation.max())
    counter = [view.film_rows[film["id"]] for film in data["counter"]["films"]]
    seen = {film // 2 for film in examples}
    expected, order = [], np.argsort(activation, kind="stable")
    for film in order.tolist():
        if film // 2 not in seen:
            seen.add(film // 2)
            expected.append(film)
    assert counter == expected[:4]
    spread = [view.film_rows[film["id"]] for film in data["spread"]["films"]]
    assert spread == [order[round(share * (N_FILMS - 1))] for share in (0, 0.1, 0.25, 0.5, 0.75, 0.9, 1)]
    assert [film["caption"] for film in data["spread"]["films"]][:3] == ["lowest", "10 % below", "25 % below"]


def test_pictures_of_two_patients_are_withheld_and_those_of_three_are_not(view, site):
    page = unit_page(view, LAYER, TWO_PATIENTS)
    examples = page.data["examples"]
    assert examples["patients"] == 2
    assert "of 2 patients" in examples["withheld"]
    text = render(page, site)
    for film in examples["films"]:
        assert f"picture/{film['id']}" not in text.partition("Films that excite it least")[0]
    assert "Pictures withheld" in text
    other = unit_page(view, LAYER, 0).data["examples"]
    assert other["patients"] >= 3
    assert other["withheld"] == ""


def test_a_unit_without_a_concept_says_why(view, site):
    page = unit_page(view, LAYER, NAMELESS)
    assert page.data["reason"] == REASONS[NAMELESS]
    assert not page.data["concepts"]
    text = render(page, site)
    assert "No concept is above chance (q = 0.40)." in text
    assert "What came closest" in text


def test_a_dead_unit(view, site):
    page = unit_page(view, LAYER, DEAD)
    assert page.data["examples"]["films"] == []
    assert page.data["histogram"]["counts"] == [N_FILMS]
    assert page.data["labels"]["rows"] == []
    assert "never varies" in render(page, site)


def test_a_broken_unit(view, site, monkeypatch):
    values = activations()[LAYER][0].copy()
    values[[3, 30]] = np.nan, np.inf
    monkeypatch.setattr(view, "activation", lambda layer, index: values)
    data = unit_page(view, LAYER, 0).data
    assert data["histogram"]["not_finite"] == 2
    assert sum(data["histogram"]["counts"]) == N_FILMS - 2
    assert view.films[3] not in [film["id"] for film in data["spread"]["films"]]
    assert view.films[30] not in [film["id"] for film in data["spread"]["films"]]
    monkeypatch.setattr(view, "activation", lambda layer, index: np.full(N_FILMS, np.nan, dtype=np.float32))
    page = unit_page(view, LAYER, 0)
    assert (page.data["histogram"]["counts"], page.data["spread"]["films"]) == ([], [])
    render(page, site)


def test_histogram_counts_every_film_and_marks_the_examples(view):
    activation = activations()[LAYER][1]
    found = unit_page(view, LAYER, 1).data["histogram"]
    assert sum(found["counts"]) == N_FILMS
    edges = np.linspace(activation.min(), activation.max(), len(found["counts"]) + 1)
    assert found["counts"] == np.histogram(activation.astype(float), edges)[0].tolist()
    assert found["median"] == pytest.approx(np.median(activation))
    assert sorted(found["examples"]) == pytest.approx(np.sort(activation)[-5:].tolist())


def test_labels_are_those_of_agreement(view):
    data = unit_page(view, HEAD, 0).data["labels"]
    assert data["n"] == 3
    assert [row["label"] for row in data["rows"]] == ["Effusion", "mass"]  # "rare" is on no film
    activation = torch.from_numpy(activations()[HEAD][:1].T.copy())
    expected = agreement(activation, torch.from_numpy(view.labels))
    for place, row in enumerate(data["rows"]):
        assert row["r"] == pytest.approx(expected.pearson[0, place].item(), abs=1e-6)
        assert row["auprc"] == pytest.approx(expected.auprc[0, place].item(), abs=1e-6)
        assert row["prevalence"] == pytest.approx(expected.prevalence[place].item(), abs=1e-6)
        assert row["films"] == expected.known[place]
        assert row["low"] < row["r"] < row["high"]


def test_two_senses_have_films_of_their_own(view):
    senses = unit_page(view, LAYER, TWO_SENSES).data["senses"]
    assert [sense["concepts"] for sense in senses] == [["effusion"], ["tube"]]
    assert [sense["purity"] for sense in senses] == [0.8, 0.8]
    activation = activations()[LAYER][TWO_SENSES]
    strong = np.flatnonzero(activation > activation.mean() + 1.5 * activation.std())
    told = [film["id"] for sense in senses for film in sense["films"]["films"]]
    assert sorted(view.film_rows[film] for film in told) == strong.tolist()
    embedded = Embedded.of(view)
    films = np.stack([np.load(path) for path in embedded.paths]).reshape(N_FILMS, -1).astype(float)
    alike = np.stack([films @ embedded.concepts[concept] for concept in ("effusion", "tube")], axis=1)
    standard = (alike - alike.mean(axis=0)) / alike.std(axis=0)
    for place, sense in enumerate(senses):
        for film in sense["films"]["films"]:
            assert standard[view.film_rows[film["id"]]].argmax() == place
    assert unit_page(view, LAYER, 0).data["senses"] == []


def test_senses_without_embeddings_or_private_parts_are_named_all_the_same(view, site):
    view._kept["embedded"] = None
    page = unit_page(view, LAYER, TWO_SENSES)
    assert [sense["films"] for sense in page.data["senses"]] == [None, None]
    assert "cannot be told" in render(page, site)


def test_embeddings_that_are_gone_are_no_error(folder, tmp_path):
    import shutil

    copy = tmp_path / "run"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("private"))
    assert Embedded.of(RunView(open_run(copy))) is None


def test_feeds(view, site):
    from types import SimpleNamespace

    weight = np.array([[0.0] * 6, [2.0, -1.0, 0, 0, 0, 0], [0.5, 0, 0, 0, 0, 0]])
    head = SimpleNamespace(weight=weight, bias=np.zeros(3))
    view.account = SimpleNamespace(
        layer=LAYER,
        outputs=("effusion", "mass", "hernia"),
        head=head,
        films=np.arange(N_FILMS),
        logits=np.zeros((N_FILMS, 3)),
    )
    activation = activations()[LAYER][0].astype(float)
    page = unit_page(view, LAYER, 0)
    rows = page.data["feeds"]["rows"]
    assert [(row["output"], row["number"]) for row in rows] == [("mass", 1), ("hernia", 2), ("effusion", 0)]
    assert rows[0]["moves"] == pytest.approx(2 * activation.std(), rel=1e-6)
    assert rows[0]["mean"] == pytest.approx(2 * activation.mean(), rel=1e-6)
    assert unit_page(view, LAYER, 1).data["feeds"]["rows"][0]["moves"] < 0
    assert "moves its logit" in render(page, site)
    assert unit_page(view, HEAD, 0).data["feeds"] is None
    # where there is no head: contributions of a sample of the films
    films = np.array([1, 5, 9, 30])
    shares = {
        output: np.outer(np.arange(6), np.ones(4)) + weight[output][:, None] * activations()[LAYER][:, films]
        for output in range(3)
    }
    view.account.head, view.account.films, view.account.contributions = None, films, shares.__getitem__
    rows = unit_page(view, LAYER, 1).data["feeds"]["rows"]
    assert rows[0]["output"] == "mass"
    assert rows[0]["moves"] == pytest.approx(-activations()[LAYER][1, films].std(), rel=1e-5)
    assert not unit_page(view, LAYER, 1).data["feeds"]["exact"]


def test_reads_its_own_rows_only(view, monkeypatch):
    unit_page(view, LAYER, 0)
    monkeypatch.setattr("mammi.store.run.read_parquet", lambda *_: pytest.fail("a table was read again"))
    unit_page(view, LAYER, 1)


def test_errors(view, tmp_path):
    with pytest.raises(UnknownNameError, match="head"):
        unit_page(view, "haed", 0)
    with pytest.raises(InputError, match="units 0 to 5, got 6"):
        unit_page(view, LAYER, 6)
    with pytest.raises(InputError, match="no table"):
        view.rows("search", LAYER, 0)
    (tmp_path / "manifest.json").write_text('{"schema": 1, "status": "complete"}')
    with pytest.raises(RunError, match="cannot be read"):
        RunView(open_run(tmp_path)).query("SELECT 1", ())
