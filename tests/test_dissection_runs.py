"""Dissection through runs: on drawn films whose masks are known, from the command line, and on real films."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

import mammi
from mammi.capture import plan_layers, plan_maps
from mammi.cli import app
from mammi.concepts import Concept, ConceptSet
from mammi.engine import measure_areas
from mammi.errors import CaptureError, ImageError, InputError, StaleRunError
from mammi.functional.dissection import Areas, iou
from mammi.methods import Evidence, LayerMatch, create_method
from mammi.phantoms import write_cohort
from mammi.phantoms.catalogue import OUTPUTS
from mammi.results import layer_tables
from mammi.types import no_progress


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    write_cohort(folder, 60, 5, masks=True)
    return folder


def concepts():
    """Findings under other names than the table's, one without any mask, and a word nobody marks."""
    return ConceptSet(
        (Concept("pleural fluid", ("effusion",)), *(Concept(name) for name in OUTPUTS[3:]), Concept("hat"))
    )


def call(data, out, **changes):
    arguments = {
        "target": mammi.create_target("phantom"),
        "images": mammi.ProbingSet.open(data / "images", data / "labels.csv"),
        "concepts": concepts(),
        "vlm": mammi.create_vlm("phantom"),
        "layers": ["layer3", "layer2"],
        "out": out,
        "method": "dissection",
        "masks": mammi.MaskSet.read(data / "masks.csv"),
    }
    return mammi.annotate(**(arguments | changes))


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    return call(data, tmp_path_factory.mktemp("runs") / "run")


def test_a_run_holds_the_overlaps(data, run):
    target, masks = mammi.create_target("phantom"), mammi.MaskSet.read(data / "masks.csv")
    images = mammi.ProbingSet.open(data / "images", data / "labels.csv")
    plans = plan_maps(target, plan_layers(target, ["layer3", "layer2"]))
    found = measure_areas(target, plans, images, range(60), masks, batch_size=16, workers=1, progress=no_progress)
    renamed = {"effusion": "pleural fluid"}
    for layer, areas in found.items():
        scores = pd.DataFrame(iou(areas).numpy(), columns=[renamed.get(name, name) for name in masks.concepts])
        rows = run.annotations[run.annotations["layer"] == layer]
        assert not rows["score"].isna().any()
        assert "hat" not in set(rows["concept"])
        for row in rows.to_dict("records"):
            assert row["score"] == pytest.approx(scores.loc[row["unit"], row["concept"]], abs=1e-15)
            assert row["kept"] == (row["score"] > 0.04)
        known = scores[[name for name in scores if name in concepts().terms]]
        assert (rows[rows["kept"]].groupby("unit").size() == (known > 0.04).sum(axis=1).loc[lambda n: n > 0]).all()


def test_units_of_the_drawn_network_lie_on_what_was_drawn(run):
    """The network was trained on these drawings: some of its units must sit on them."""
    best = run.units.groupby("layer")["score"].max()
    assert best["layer3"] > 0.15
    assert run.manifest["counts"]["named"] > 0
    unnamed = run.units[run.units["n_concepts"] == 0]
    assert (
        unnamed["reason"].str.fullmatch(r"its best overlap .* not above 0\.04|it never varies over these films").all()
    )


def test_concepts_without_a_score_are_not_ranked():
    """Fewer concepts with masks than a ranking has places: the others are left out, kept ones stay first."""
    both = torch.tensor([[9, 0, 3, 0], [1, 0, 0, 0]])
    areas = Areas(both, torch.tensor([50, 50]), torch.tensor([60, 0, 60, 0]))
    activations = torch.randn(12, 2, generator=torch.Generator().manual_seed(0))
    recipe = create_method("dissection")
    empty = torch.empty(4, 0, dtype=torch.float64)
    evidence = Evidence(activations, empty[:0], empty, None, torch.arange(12), areas=areas)
    selection = recipe.select(activations)
    bounds = torch.stack([activations.amin(dim=0), activations.amax(dim=0)]).numpy()
    match = LayerMatch.of(recipe.match(evidence, selection))
    tables = layer_tables("conv", bounds, selection, match, list("abcd"))
    ranked = tables.annotations[["unit", "rank", "concept", "kept"]].to_numpy().tolist()
    assert ranked == [[0, 1, "a", True], [0, 2, "c", False], [1, 1, "a", False], [1, 2, "c", False]]
    assert tables.units["name"].tolist() == ["a", "no concept"]


def test_no_film_is_put_in_words(run):
    assert run.manifest["counts"]["encoded"] == 0
    assert not list((run.folder / "embeddings").glob("films-*"))


def test_the_same_call_ends_with_the_same_run(data, run, tmp_path):
    shutil.copytree(run.folder, tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(manifest | {"status": "encoding"}))
    (tmp_path / "run" / "annotations.parquet").unlink()
    again = call(data, tmp_path / "run")
    pd.testing.assert_frame_equal(again.annotations, run.annotations)
    pd.testing.assert_frame_equal(again.units, run.units)


def test_other_masks_are_another_run(data, run):
    lines = (data / "masks.csv").read_text().splitlines()
    (data / "fewer.csv").write_text("\n".join(lines[:-4]))
    with pytest.raises(StaleRunError, match="the masks changed"):
        call(data, run.folder, masks=mammi.MaskSet.read(data / "fewer.csv"))


def test_masks_of_other_films_and_concepts_change_nothing(data, run):
    more = (data / "masks.csv").read_text() + "elsewhere,nodule,gone.png\nfilm-00001,hippopotamus,gone.png\n"
    (data / "more.csv").write_text(more)
    assert call(data, run.folder, masks=mammi.MaskSet.read(data / "more.csv")).folder == run.folder


MODEL = """
import numpy as np, torch
from torch import nn
def preprocess(picture):
    return torch.from_numpy(np.asarray(picture.convert("L").resize((32, 32)), dtype=np.float32)[None] / 255)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.preprocess = preprocess
        self.conv = nn.Conv2d(1, 2, 3)
    def forward(self, x):
        return self.conv(x).mean((2, 3))
"""


def test_what_cannot_work_is_refused_before_anything_is_written(data, tmp_path):
    out = tmp_path / "run"
    places = tmp_path / "places.csv"

    def table(text):
        places.write_text("image,concept,x0,y0,x1,y1\n" + text)
        return mammi.MaskSet.read(places)

    (tmp_path / "model.py").write_text(MODEL)
    own = mammi.create_target(f"{tmp_path / 'model.py'}:Net")
    gone = tmp_path / "gone.csv"
    gone.write_text("image,concept,mask\nfilm-00001,nodule,gone.png\n")
    cases = [
        ({"masks": None}, InputError, r"method 'dissection' needs to know where concepts are: give masks="),
        ({"method": "mammi"}, InputError, "method 'mammi' does not look at masks: leave them out"),
        ({"layers": ["layer3", "head"]}, CaptureError, "'head' gives one number a unit and no map"),
        ({"masks": table("zebra,nodule,0,0,9,9")}, InputError, "none of the 1 films with masks is among the 60 films"),
        ({"masks": table("film-00001,zebra,0,0,9,9")}, InputError, r"no concept with masks \(zebra\) is among the"),
        ({"masks": table("film-00001,,,,,")}, InputError, r"no concept with masks \(none\) is among the"),
        ({"masks": mammi.MaskSet.read(gone)}, ImageError, "Mask 'gone.png' .* cannot be read"),
        ({"target": own, "layers": ["conv"]}, InputError, "does not tell where a film lies on the network's input"),
        ({"threshold": 2.0}, InputError, "'threshold' must be a number"),
    ]
    for change, error, match in cases:
        with pytest.raises(error, match=match):
            call(data, out, **change)
        assert not out.exists()


def test_from_the_command_line(data, tmp_path):
    (tmp_path / "concepts.txt").write_text("\n".join(OUTPUTS))
    words = [
        *("annotate", "--target", "phantom", "--layers", "layer3", "--images", str(data / "images")),
        *("--labels", str(data / "labels.csv"), "--concepts", str(tmp_path / "concepts.txt"), "--vlm", "phantom"),
        *("--method", "dissection", "-O", "threshold=0.05", "--out", str(tmp_path / "run")),
    ]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert "--masks TABLE" in result.stderr
    assert not (tmp_path / "run").exists()
    result = CliRunner().invoke(app, [*words, "--masks", str(data / "masks.csv")])
    assert result.exit_code == 0, result.output
    assert "MaskSet: 60 films, " in result.stderr
    run = mammi.open_run(tmp_path / "run")
    assert run.manifest["identity"]["method"]["options"] == {"threshold": 0.05}
    assert run.annotations.loc[run.annotations["kept"], "score"].min() > 0.05


def chestx_det(shared_data, path):
    """Write the polygons of ChestX-Det as a table of places; return the films."""
    notes = json.loads((shared_data / "nih" / "annotations.json").read_text())
    lines = ["image,concept,polygon,width,height"]
    for image, known in notes.items():
        if "chestx_det" not in known:
            continue
        for found in known["chestx_det"]["objects"]:
            corners = " ".join(f"{x} {y}" for x, y in found["polygon_1024"])
            lines.append(f"{image},{found['label']},{corners},1024,1024")
        if not known["chestx_det"]["objects"]:
            lines.append(f"{image},,,,")
    path.write_text("\n".join(lines))
    return mammi.MaskSet.read(path)


def test_a_real_network_on_real_masks(shared_data, tmp_path):
    masks = chestx_det(shared_data, tmp_path / "places.csv")
    assert len(masks) == 104
    images = mammi.ProbingSet.open(shared_data / "nih" / "images", shared_data / "nih" / "labels.csv")
    images = images.subset([row for row, name in enumerate(images.ids) if name in set(masks.films)])
    network = shared_data / "mobilenet_nih"
    target = mammi.create_target(f"{network / 'model.py'}:MNV3S", network / "weights.pt")
    plans = plan_maps(target, plan_layers(target, ["hs2"]))
    areas = measure_areas(target, plans, images, range(104), masks, batch_size=16, workers=2, progress=no_progress)[
        "hs2"
    ]
    scores = iou(areas)
    assert scores.shape == (576, 13)
    assert torch.isfinite(scores).all()
    assert ((scores.amax(dim=1) > 0.04).sum() - 129).abs() <= 3
    assert masks.concepts[int(scores[73].argmax())] == "cardiomegaly"
    # A few units by hand, film by film, with the masks as the data set's own pictures have them.
    units = [0, 73, 374, 439]
    with torch.no_grad():
        maps = [target.model.features(target.view(images.film(row))[None])[0, units] for row in range(104)]
    centres = (np.arange(56) + 0.5) / 56
    pixels = np.array([[by_hand(plane) for plane in film.double().numpy()] for film in maps])
    grids = np.array([masks.grid(name, (320, 320), centres, centres) for name in images.ids])
    for place, unit in enumerate(units):
        on = pixels[:, place] > np.quantile(pixels[:, place], 0.99)
        for concept in range(13):
            union = (on | grids[:, concept]).sum()
            assert abs((on & grids[:, concept]).sum() / union - scores[unit, concept]) < 2e-3


def by_hand(plane):
    """Bilinear from 7x7 to 56x56 between half-pixel centres, with a ring of zeros around the map."""
    ringed = np.pad(plane, 1)
    at = (np.arange(56) + 0.5) / 8 + 0.5
    low = at.astype(int)
    share = at - low
    rows = ringed[low] * (1 - share)[:, None] + ringed[low + 1] * share[:, None]
    return rows[:, low] * (1 - share) + rows[:, low + 1] * share


def test_polygons_agree_with_the_masks_of_the_data_set(shared_data, tmp_path):
    polygons = chestx_det(shared_data, tmp_path / "places.csv")
    lines = ["image,concept,mask"]
    for picture in sorted((shared_data / "nih" / "masks").glob("*.png")):
        film, numbered = picture.stem.split("__")
        lines.append(f"{film},{numbered[3:]},{picture}")
    (tmp_path / "masks.csv").write_text("\n".join(lines))
    pictures = mammi.MaskSet.read(tmp_path / "masks.csv")
    assert pictures.concepts == polygons.concepts
    centres = (np.arange(56) + 0.5) / 56
    both = union = 0
    for film in pictures.films:
        one, other = (masks.grid(film, (320, 320), centres, centres) for masks in (polygons, pictures))
        both += (one & other).sum()
        union += (one | other).sum()
    assert both / union > 0.95
