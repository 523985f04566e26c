"""The planted arrow: as often as said, nothing else on the film moved, learned by one target and by a few of its units."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from mammi.cli.app import app
from mammi.data import MaskSet
from mammi.data.table import read_table
from mammi.errors import InputError, TargetError, UnknownNameError
from mammi.phantoms import Cohort, Shortcut, draw, write_cohort
from mammi.phantoms.catalogue import OUTPUTS
from mammi.phantoms.shortcut import ARROW, draw_arrow
from mammi.phantoms.target import create, create_shortcut
from mammi.targets import create_target

FINDING = "pneumothorax"
COLUMN = OUTPUTS.index(FINDING)
SEED = 9002
N_PAIRS = 40
#: Units of layer3 that carry most of the change, as docs/phantoms.md has them.
CARRIERS = [43, 74, 103]


@pytest.fixture(scope="module")
def pairs():
    """The same films without and with the arrow, none of them with the finding."""
    plain = Cohort(200, SEED)
    always = Cohort(200, SEED, shortcut=Shortcut(FINDING, 1, 1))
    rows = [i for i in range(200) if not plain.plan(i).has(FINDING)][:N_PAIRS]
    return [(plain.film(i), always.film(i)) for i in rows]


@pytest.fixture(scope="module")
def inputs(pairs):
    target = create_target("phantom")
    mean, std = target.preprocessing.mean[0], target.preprocessing.std[0]
    films = [[np.asarray(film.to_pil().resize((128, 128), 2)) for film in half] for half in zip(*pairs, strict=True)]
    return (torch.from_numpy(np.array(films, np.float32))[:, :, None] / 255 - mean) / std


def units_and_logits(net, inputs):
    with torch.no_grad():
        units = net.features(inputs.flatten(0, 1)).mean((2, 3))
        return (values.unflatten(0, inputs.shape[:2]).numpy() for values in (units, net.head(units)))


def test_the_arrow_goes_with_the_finding_as_often_as_said():
    n = 1000
    for rates in ((0.9, 0.05), (0.5, 0.5), (0.0, 1.0)):
        plans = [Cohort(n, 3, shortcut=Shortcut("effusion", *rates)).plan(i) for i in range(n)]
        shown = np.array([plan.has("effusion") for plan in plans])
        marked = np.array([plan.arrow is not None for plan in plans])
        for rows, rate in ((shown, rates[0]), (~shown, rates[1])):
            # four standard deviations of a share of that many films; exact for 0 and 1
            assert abs(marked[rows].mean() - rate) <= 4 * np.sqrt(rate * (1 - rate) / rows.sum())


def test_without_a_shortcut_nothing_of_a_film_is_different():
    plain, planted = Cohort(300, 3), Cohort(300, 3, shortcut=Shortcut(FINDING))
    for index in range(300):
        assert planted.plan(index).findings == plain.plan(index).findings
        assert replace(planted.plan(index), arrow=None) == plain.plan(index)
    index = next(i for i in range(300) if planted.plan(i).arrow is None)
    assert planted.film(index).pixels.tobytes() == plain.film(index).pixels.tobytes()


def test_the_arrow_lies_at_the_same_place_whatever_the_rates():
    always, often = (Cohort(200, 3, shortcut=Shortcut(FINDING, *rates)) for rates in ((1, 1), (0.5, 0.5)))
    both = [(always.plan(i).arrow, often.plan(i).arrow) for i in range(200) if often.plan(i).arrow]
    assert 60 < len(both) < 140
    assert all(one == two for one, two in both)


def test_only_pixels_at_the_arrow_change_and_labels_do_not(pairs):
    for plain, marked in pairs:
        changed = plain.pixels != marked.pixels
        assert changed.any()
        assert not changed[~marked.masks[ARROW]].any()
        assert (marked.pixels >= plain.pixels).all()
        assert marked.pixels[marked.masks[ARROW]].max() == 1
        assert marked.labels == plain.labels
        assert set(marked.masks) - set(plain.masks) == {ARROW}
        left, top, right, bottom = marked.boxes[ARROW]
        assert 0 < left < right < 256
        assert 0 < top < bottom < 64, "an upper corner"
        lead = draw_arrow(marked.plan.arrow, 256)
        assert np.maximum(plain.pixels, lead).tobytes() == marked.pixels.tobytes()


def test_the_arrow_and_the_letter_lie_in_different_corners():
    lettered = [p for p in map(Cohort(60, 3, shortcut=Shortcut(FINDING, 1, 1)).plan, range(60)) if p.view.marker]
    assert len(lettered) > 15
    for plan in lettered:
        film = draw(plan, 128)
        assert not (film.masks[ARROW] & film.masks["side marker"]).any()


def test_a_written_cohort_has_the_arrow_as_metadata_and_not_as_a_label(tmp_path):
    shortcut = Shortcut(FINDING, 0.5, 0.5)
    cohort = write_cohort(tmp_path / "planted", 12, 4, masks=True, size=128, shortcut=shortcut)
    write_cohort(tmp_path / "plain", 12, 4, masks=True, size=128)
    table, plain = (read_table(tmp_path / name / "labels.csv") for name in ("planted", "plain"))
    assert table.label_names == plain.label_names == OUTPUTS
    assert (table.labels == plain.labels).all()
    assert list(plain.metadata) == ["view", "age", "sex"]
    assert list(table.metadata) == ["view", "age", "sex", "marker"]
    told = ["arrow" if cohort.plan(i).arrow else "none" for i in range(12)]
    assert table.metadata["marker"].tolist() == told
    assert set(told) == {"arrow", "none"}
    assert ARROW in MaskSet.read(tmp_path / "planted" / "masks.csv").concepts
    assert ARROW not in MaskSet.read(tmp_path / "plain" / "masks.csv").concepts
    same = [row for row, mark in enumerate(told) if mark == "none"]
    for row in same:
        image = f"images/film-{row:05d}.png"
        assert (tmp_path / "planted" / image).read_bytes() == (tmp_path / "plain" / image).read_bytes()
    assert (tmp_path / "planted/reports.jsonl").read_bytes() == (tmp_path / "plain/reports.jsonl").read_bytes()


def test_the_command_plants_it(tmp_path):
    line = ["phantoms", "write", str(tmp_path), "--films", "3", "--shortcut", FINDING]
    done = CliRunner().invoke(app, [*line, "--with-finding", "1", "--without", "1"])
    assert done.exit_code == 0, done.output
    with (tmp_path / "labels.csv").open(newline="") as file:
        assert [row["marker"] for row in csv.DictReader(file)] == ["arrow"] * 3


def test_rates_without_a_shortcut_are_refused(tmp_path):
    done = CliRunner().invoke(app, ["phantoms", "write", str(tmp_path), "--films", "3", "--without", "0.5"])
    assert done.exit_code != 0


def test_bad_shortcuts_are_named():
    with pytest.raises(UnknownNameError, match=r"Finding 'pneumotorax' is not known. Did you mean 'pneumothorax'\?"):
        Shortcut("pneumotorax")
    with pytest.raises(InputError, match=r"'without' of a shortcut must be in \[0, 1\], got 1.5"):
        Shortcut(FINDING, without=1.5)


def test_one_target_takes_the_arrow_for_the_finding_and_the_other_does_not(inputs):
    _, before = units_and_logits(create(), inputs)
    _, after = units_and_logits(create_shortcut(), inputs)
    assert abs((before[1] - before[0])[:, COLUMN].mean()) < 0.1
    change = (after[1] - after[0]).mean(axis=0)
    assert change[COLUMN] > 1.5, change[COLUMN]
    assert np.abs(np.delete(change, COLUMN)).max() < 0.3, dict(zip(OUTPUTS, change.round(2), strict=True))


def test_a_few_units_carry_it_and_without_them_it_is_gone(inputs):
    net = create_shortcut()
    units, logits = units_and_logits(net, inputs)
    weight = net.head.weight.detach().numpy()
    parts = (units[1] - units[0]).mean(axis=0) * weight[COLUMN]
    assert parts.sum() == pytest.approx((logits[1] - logits[0])[:, COLUMN].mean(), abs=1e-4)
    assert set(np.argsort(-parts)[: len(CARRIERS)]) == set(CARRIERS)
    assert parts[CARRIERS].sum() > 0.8 * parts.sum()


def test_the_target_with_the_shortcut_is_another_target():
    one, two = create_target("phantom"), create_target("phantom:shortcut")
    assert two.name == "phantom:shortcut"
    assert one.fingerprint != two.fingerprint
    assert one.output_names == two.output_names == OUTPUTS
    for part in ("stem", "layer1", "layer2"):
        ours, theirs = (getattr(t.model, part).state_dict() for t in (one, two))
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), "only the last stage and the head differ"
    with pytest.raises(TargetError, match="give 'phantom' alone, or 'phantom:shortcut'"):
        create_target("phantom:shortkut")
