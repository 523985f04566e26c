"""Agreement of units with marks: against one film and one unit at a time, on unequal films, and where little is known."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import mammi
from mammi.capture import plan_layers, plan_maps
from mammi.data import MaskSet
from mammi.data.masks import Mark
from mammi.errors import CaptureError, InputError, UnknownNameError
from mammi.explain.agreement import COLUMNS, SIDE, unit_agreement
from mammi.explain.models import load_target
from mammi.explain.receptive import cell_offset
from mammi.explain.where import cell_maps, lay_on_film
from mammi.functional.chance import patient_resamples
from mammi.functional.pointing import pointing_hit, side_agreement, strongest_iou

SHOWN = ("effusion", "pacemaker", "pneumothorax")


@pytest.fixture(scope="module")
def target(phantom_run):
    return load_target(phantom_run)


@pytest.fixture(scope="module")
def masks(drawn):
    return MaskSet.read(drawn / "masks.csv")


@pytest.mark.parametrize(("layer", "at"), [("layer3", None), ("head", "layer2")])
def test_equals_one_film_and_one_unit_at_a_time(phantom_run, target, masks, drawn, layer, at):
    some = masks.only([f"film-{n:05d}" for n in range(40)]).renamed(lambda name: name if name in SHOWN else None)
    found = unit_agreement(phantom_run, target, some, layer, at=at, every=True)
    assert tuple(found.columns) == COLUMNS
    films = mammi.ProbingSet.open(drawn / "images", drawn / "labels.csv")
    plan = plan_layers(target, [layer])[0]
    below = plan_layers(target, [at])[0] if at else None
    points = (np.arange(SIDE) + 0.5) / SIDE
    offset = cell_offset(target, plan_maps(target, [below or plan])[0])
    for concept, unit in (("effusion", 3), ("pacemaker", 11), ("pneumothorax", 0)):
        per_film = []
        for row, name in enumerate(films.ids):
            if name not in some.films:
                continue
            film = films.film(row)
            truth = some.grid(name, film.pixels.shape, points, points)[some.concepts.index(concept)]
            if truth.any():
                cells = cell_maps(target, plan, target.view(film)[None], [unit], at=below)
                shape = film.pixels.shape
                one = lay_on_film(cells[0, 0], target.preprocessing, shape, (SIDE, SIDE), offset=offset)
                middle = np.zeros((SIDE, SIDE))
                middle[SIDE // 2, SIDE // 2] = 1
                values = [float(m(one, truth)) for m in (pointing_hit, strongest_iou, side_agreement)]
                per_film.append([films.patients[row], *values, float(pointing_hit(middle, truth))])
        table = pd.DataFrame(per_film, columns=["patient", "pointing", "iou", "side", "centre"])
        row = found[(found["unit"] == unit) & (found["concept"] == concept)].iloc[0]
        assert (row["n"], row["n_patients"]) == (len(table), table["patient"].nunique())
        for name in ("pointing", "iou", "side", "centre"):
            assert row[name] == pytest.approx(table[name].mean(), abs=1e-6 if name == "iou" else 1e-9, nan_ok=True)
        # The interval: draws of patients, each with all its films. Salted ids number the patients in another order.
        salted = phantom_run.images.set_index("row")["patient"]
        rows = [films.ids.index(n) for n in some.films if films.ids.index(n) in salted.index]
        rows = [
            r for r in rows if some.grid(films.ids[r], (256, 256), points, points)[some.concepts.index(concept)].any()
        ]
        numbers = np.unique(salted[rows], return_inverse=True)[1]
        means = [
            np.average(table["pointing"], weights=times.numpy())
            for times in patient_resamples(torch.from_numpy(numbers), 500, 0)
        ]
        np.testing.assert_allclose(
            row[["pointing_low", "pointing_high"]].astype(float), np.quantile(means, (0.025, 0.975)), atol=1e-9
        )
    assert len(found) == len(some.concepts) * (128 if layer == "layer3" else 19)


def test_units_are_compared_with_what_they_are_named(phantom_run, target, masks):
    few = masks.only(masks.films[:30])
    found = unit_agreement(phantom_run, target, few, "layer3")
    kept = phantom_run.annotations[phantom_run.annotations["kept"] & (phantom_run.annotations["layer"] == "layer3")]
    concepts = mammi.ConceptSet.read(phantom_run.folder / "concepts.csv")
    expected = {
        (unit, concept)
        for unit, term in zip(kept["unit"], kept["concept"], strict=True)
        for concept in few.concepts
        for name in (term, *concepts.find(term).synonyms)
        if re.search(rf"\b{concept}\b", name)
    }
    assert set(zip(found["unit"], found["concept"], strict=True)) == expected
    assert len({concept for _, concept in expected}) > 3
    every = unit_agreement(phantom_run, target, few, "layer3", every=True)
    both = found.merge(every, on=["layer", "unit", "concept"], suffixes=("", "_every"))
    assert len(both) == len(found)
    np.testing.assert_array_equal(both["pointing"], both["pointing_every"])
    np.testing.assert_array_equal(both["iou"], both["iou_every"])
    known = every[every["n_patients"] > 1]
    assert (known["pointing_low"] <= known["pointing"]).all()
    assert (known["pointing"] <= known["pointing_high"]).all()
    assert every[every["n_patients"] == 1]["pointing_low"].isna().all()


def test_a_unit_that_fires_when_it_is_absent_is_not_compared(phantom_run, target, masks):
    run = replace(phantom_run)
    annotations = phantom_run.annotations.copy()
    annotations["kept"] = False
    rows = annotations.index[annotations["layer"] == "layer3"][:3]
    annotations.loc[rows, "kept"] = True
    annotations.loc[rows, "concept"] = ["large left effusion", "effusion", "massive effusions"]
    annotations.loc[rows, "unit"] = [5, 6, 7]
    annotations.loc[rows, "effect"] = [1.5, -1.5, 1.5]
    run.__dict__["annotations"] = annotations
    found = unit_agreement(run, target, masks, "layer3")
    assert found[["unit", "concept"]].to_numpy().tolist() == [[5, "effusion"]]  # "massive" is no mass
    units = phantom_run.units.copy()
    units.loc[(units["layer"] == "layer3") & (units["unit"] == 5), "name"] = "NOT large left effusion"
    run.__dict__["units"] = units
    assert unit_agreement(run, target, masks, "layer3").empty
    assert tuple(unit_agreement(run, target, masks, "layer3").columns) == COLUMNS


def test_one_film_and_a_concept_in_the_very_centre(phantom_run, target, masks):
    name = masks.films[0]
    middle = np.array([[120.0, 120], [136, 120], [136, 136], [120, 136]])
    one = MaskSet({name: [Mark("dot", corners=middle)]})
    found = unit_agreement(phantom_run, target, one, "layer3", every=True)
    assert len(found) == 128
    assert (found["n"] == 1).all()
    assert (found["centre"] == 1).all()
    assert found["pointing_low"].isna().all()  # a single patient
    assert found["side"].isna().all()  # on both sides


def test_what_cannot_be_compared_is_refused(phantom_run, target, masks):
    with pytest.raises(CaptureError, match="'head' gives one number a unit and no map"):
        unit_agreement(phantom_run, target, masks, "head")
    with pytest.raises(UnknownNameError, match="This run holds"):
        unit_agreement(phantom_run, target, masks, "stem")
    with pytest.raises(InputError, match="none of the 1 films with masks is among the 60 films"):
        unit_agreement(phantom_run, target, MaskSet({"other": []}), "layer3")
