"""Labels, boxes and masks agree, and each finding changes the film where its mask says."""

from dataclasses import replace

import numpy as np
import pytest

from mammi.phantoms.catalogue import OUTPUTS, SIDED
from mammi.phantoms.cohort import Cohort
from mammi.phantoms.film import draw

#: Findings that reshape the chest: they change the film outside their mask too.
RESHAPING = {"cardiomegaly", "emphysema"}
#: Findings drawn faint on purpose.
FAINT = {"infiltration": 0.02, "atelectasis": 0.02, "fibrosis": 0.02}


def plans_with(name, count, seed=8):
    """Return the plans of the first films that show ``name``."""
    cohort = Cohort(3000, seed=seed)
    found = (plan for plan in map(cohort.plan, range(3000)) if plan.has(name))
    return [next(found) for _ in range(count)]


def test_pixels_are_grey_levels(unseen):
    for film in unseen[:40]:
        assert film.pixels.dtype == np.float32
        assert film.pixels.shape == (256, 256)
        assert film.pixels.min() >= 0
        assert film.pixels.max() <= 1
        assert film.pixels.std() > 0.12


def test_masks_and_boxes_are_there_exactly_for_the_labels_that_are_true(unseen):
    for film in unseen:
        present = {name for name, label in film.labels.items() if label}
        assert present == set(film.masks) == set(film.boxes)
        for name, mask in film.masks.items():
            left, top, right, bottom = film.boxes[name]
            assert mask.any()
            assert 0 <= left < right <= 256
            assert 0 <= top < bottom <= 256
            assert mask.sum() == mask[top:bottom, left:right].sum(), "all of the mask is inside its box"
            assert mask[top].any()
            assert mask[bottom - 1].any()
            assert mask[:, left].any()
            assert mask[:, right - 1].any()


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_finding_changes_the_film_where_its_mask_says(name):
    for plan in plans_with(name, 3):
        alone = replace(plan, findings=tuple(f for f in plan.findings if f.name in {name, "side marker"}))
        without = replace(alone, findings=tuple(f for f in alone.findings if f.name != name))
        film = draw(alone)
        change = np.abs(film.pixels - draw(without).pixels)
        inside, outside = change[film.masks[name]].mean(), change[~film.masks[name]].mean()
        assert inside > FAINT.get(name, 0.035), (name, inside)
        if name not in RESHAPING:
            assert inside > 4 * outside, (name, inside, outside)


@pytest.mark.parametrize("name", sorted(SIDED - {"pacemaker"}))
def test_the_patients_left_is_on_the_pictures_right(name):
    for plan in plans_with(name, 6):
        finding = next(f for f in plan.findings if f.name == name)
        if len(finding.sides) == 2:
            continue
        columns = np.flatnonzero(draw(plan).masks[name].any(axis=0))
        assert (columns.mean() > 128) == (finding.sides == ("left",)), (finding, columns.mean())


def test_findings_do_not_disturb_each_other():
    """Taking one finding away leaves the shape of the others as it was."""
    plan = next(p for p in plans_with("nodule", 30) if len(p.findings) >= 3 and not p.has("emphysema"))
    others = tuple(f for f in plan.findings if f.name != "nodule")
    film, fewer = draw(plan), draw(replace(plan, findings=others))
    for finding in others:
        assert (film.masks[finding.name] == fewer.masks[finding.name]).all()


def test_worse_is_more():
    plan = plans_with("effusion", 1)[0]
    effusion = next(f for f in plan.findings if f.name == "effusion")
    areas = [
        draw(replace(plan, findings=(replace(effusion, severity=severity),))).masks["effusion"].sum()
        for severity in (0.0, 0.5, 1.0)
    ]
    assert areas[0] < areas[1] < areas[2]


def test_the_marker_stands_on_its_own_side():
    for plan in plans_with("side marker", 8):
        columns = np.flatnonzero(draw(plan).masks["side marker"].any(axis=0))
        assert (columns.mean() > 128) == (plan.view.marker == "L")
