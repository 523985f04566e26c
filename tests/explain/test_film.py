"""One film explained: every number against a slow count of its own, and all of them add up to the logit."""

import json
import math
import re
import shutil

import numpy as np
import pytest
import torch
from torch import nn

import mammi
from mammi.capture import plan_maps
from mammi.errors import InputError, StaleRunError, UnknownNameError
from mammi.explain.account import open_account
from mammi.explain.classes import explain_class
from mammi.explain.film import explain_film
from mammi.explain.models import load_target
from mammi.explain.receptive import cell_offset
from mammi.explain.where import cell_maps, lay_on_film
from mammi.phantoms import write_cohort
from mammi.types import Film


@pytest.fixture(scope="session")
def new_films(tmp_path_factory):
    """Drawn films that the run does not hold, from memory."""
    folder = tmp_path_factory.mktemp("new")
    write_cohort(folder, 4, seed=99)
    return [mammi.read_film(path) for path in sorted((folder / "images").iterdir())]


@pytest.fixture(scope="session")
def deep_account(phantom_run, phantom_account):
    """layer2: behind it two blocks with kinks, so that contributions are integrated gradients."""
    return open_account(phantom_run, phantom_account.target, "layer2", sampled=False)


@pytest.fixture(scope="session")
def explained(phantom_account, new_films):
    return explain_film(phantom_account, new_films[2])


def small_run(target, films, out, layers, **settings):
    return mammi.annotate(
        target,
        films,
        mammi.ConceptSet.from_terms(["effusion", "mass", "pacemaker"]),
        mammi.create_vlm("phantom"),
        layers=layers,
        out=out,
        **settings,
    )


def adds_up(output):
    """Add the rows of the JSON twin, as a reader with a pencil would."""
    said = json.loads(json.dumps(output.to_dict(), allow_nan=False))
    rows = [said["base"], *(unit["contribution"] for unit in said["units"]), said["others"], said["told_gap"]]
    assert math.fsum(rows) == pytest.approx(said["logit"], abs=1e-4)
    assert math.fsum(rows) == pytest.approx(said["summed"], abs=1e-12)
    names = [said["base"], *(share["contribution"] for share in said["concepts"]), said["gap"]]
    assert math.fsum(names) == pytest.approx(said["logit"], abs=1e-9)
    everything = math.fsum([said["base"], *said["contributions"], said["gap"]])
    assert everything == pytest.approx(said["logit"], abs=1e-9)
    assert sum(share["units"] for share in said["concepts"]) == len(said["contributions"])
    # The sentence rounds to four places.
    shown, *rest, total, logit = [float(x) for x in re.findall(r"[+-]?\d+\.\d{4}", said["sentence"])]
    assert shown + sum(rest) == pytest.approx(total, abs=3e-4)
    assert total == pytest.approx(logit, abs=2e-4)
    return said


@pytest.mark.parametrize("which", [0, 1, 2, 3])
def test_exact_layers_add_up(phantom_account, new_films, which):
    found = explain_film(phantom_account, new_films[which])
    assert found.exact
    for output in found.outputs:
        said = adds_up(output)
        assert abs(said["gap"]) < 1e-5
        assert said["told_gap"] == 0
        assert "accounted" not in said["sentence"]


def test_integrated_gradients_add_up_and_tell_what_they_leave(deep_account, new_films):
    found = explain_film(deep_account, new_films[2], outputs=["edema", "mass", "hernia"])
    assert not found.exact
    assert "integrated gradients" in found.how
    assert "grey level 0.45" in found.how
    gaps = [adds_up(output)["told_gap"] for output in found.outputs]
    assert any(gaps)
    for output in found.outputs:
        assert ("is not accounted for" in output.sentence()) == bool(output.told_gap)
        assert abs(output.gap) < 0.05
        assert all(unit.usual is None for unit in output.units)
        assert output.agreement is None


def test_contributions_are_activation_times_weight_and_usual_is_their_mean(phantom_account, explained, new_films):
    net = phantom_account.target.model
    with torch.no_grad():
        maps = net.features(phantom_account.target.view(new_films[2])[None])
        logits = net(phantom_account.target.view(new_films[2])[None])[0]
    units = maps.mean((2, 3))[0]
    assert [p.output for p in explained.predictions] == list(net.output_names)
    for p in explained.predictions:
        assert p.logit == pytest.approx(logits[p.number].item(), abs=1e-6)
        assert p.probability is None  # the phantom gives logits
    for output in explained.outputs:
        c = output.prediction.number
        assert output.base == pytest.approx(net.head.bias[c].item(), abs=1e-7)
        by_hand = [units[i].item() * net.head.weight[c, i].item() for i in range(128)]
        np.testing.assert_allclose(output.contributions, by_hand, atol=1e-6)
        order = sorted(range(128), key=lambda i: -abs(output.contributions[i]))[:12]
        assert [unit.unit for unit in output.units] == order
        for unit in output.units:
            recorded = [float(value) for value in phantom_account.activations[unit.unit]]
            mean = sum(recorded) / 60
            sd = math.sqrt(sum((value - mean) ** 2 for value in recorded) / 60)
            assert unit.activation == pytest.approx(units[unit.unit].item(), abs=1e-6)
            assert unit.usual == pytest.approx(mean * net.head.weight[c, unit.unit].item(), abs=1e-5)
            assert unit.deviation == pytest.approx((unit.activation - mean) / sd, rel=1e-4)
            below = sum(value < unit.activation for value in recorded) + sum(v == unit.activation for v in recorded) / 2
            assert unit.percentile == pytest.approx(100 * below / 60)


def test_names_are_those_of_the_run(phantom_run, explained):
    for output in explained.outputs:
        for unit in output.units:
            page = phantom_run.unit("layer3", unit.unit)
            assert unit.name == page.annotation.name
            assert unit.reason == page.annotation.reason
        sums = {}
        names = phantom_run.units[phantom_run.units["layer"] == "layer3"].set_index("unit")["name"]
        for unit, contribution in enumerate(output.contributions):
            sums[names[unit]] = sums.get(names[unit], 0.0) + contribution
        assert {share.concept: pytest.approx(share.contribution) for share in output.concepts} == sums
        sizes = [abs(share.contribution) for share in output.concepts]
        assert sizes == sorted(sizes, reverse=True)


def test_called_by_the_runs_thresholds_and_ranked_among_its_films(phantom_account, explained):
    thresholds = phantom_account.thresholds
    for p in explained.predictions:
        among = phantom_account.logits[:, p.number]
        assert p.threshold == thresholds[p.output]
        assert p.called == (p.logit >= thresholds[p.output])
        assert p.percentile == pytest.approx(100 * (among < p.logit).mean())
    called = [p for p in explained.predictions if p.called]
    expected = sorted(called, key=lambda p: (-p.percentile, p.number))
    assert [output.prediction for output in explained.outputs] == expected
    assert explained.notes == ()


def test_similar_films_by_slow_cosine(phantom_account, phantom_run, explained):
    images = phantom_run.images
    for output in explained.outputs:
        units = [unit.unit for unit in output.units]
        deviations = np.array([unit.deviation for unit in output.units])
        rated = []
        for row in range(60):
            z = []
            for unit in units:
                values = np.asarray(phantom_account.activations[unit], dtype=float)
                z.append((values[row] - values.mean()) / values.std())
            rated.append((float(np.dot(z, deviations) / np.linalg.norm(z) / np.linalg.norm(deviations)), row))
        best, seen = [], set()
        for cosine, row in sorted(rated, key=lambda pair: (-pair[0], pair[1])):
            if images["patient"][row] not in seen and len(best) < 6:
                seen.add(images["patient"][row])
                best.append((images["id"][row], pytest.approx(cosine, abs=1e-5)))
        assert [(film.film, film.similarity) for film in output.similar] == best
        for film in output.similar:
            row = phantom_run.labels.iloc[film.row]
            assert film.labels == tuple(name for name in phantom_run.labels.columns if row[name] == 1)
            assert film.logit == phantom_account.logits[film.row, output.prediction.number]


def test_a_film_of_the_run_is_not_compared_with_itself(phantom_account, phantom_run, drawn):
    path = sorted((drawn / "images").iterdir())[5]
    row = mammi.ProbingSet.open(drawn / "images", drawn / "labels.csv").paths.index(path)
    pixels = mammi.read_film(path).pixels.copy()
    found = explain_film(phantom_account, Film(pixels, bits=16), outputs=["mass", 3])
    itself = phantom_run.images["id"][row]
    assert found.twins == (itself,)
    assert found.n_films == 59
    assert found.n_patients == phantom_run.images["patient"].drop(row).nunique()
    for output in found.outputs:
        assert itself not in {film.film for film in output.similar}
        among = np.delete(phantom_account.logits[:, output.prediction.number], row)
        assert output.prediction.percentile == pytest.approx(100 * (among < output.prediction.logit).mean())
    pixels[0, 0] = 1 - pixels[0, 0]
    assert explain_film(phantom_account, Film(pixels), outputs=[0]).twins == ()


def test_outputs_by_name_in_any_case_or_by_number(phantom_account, new_films):
    found = explain_film(phantom_account, new_films[0], outputs=["Mass", 7, "mass"], top=3)
    assert [output.prediction.output for output in found.outputs] == ["mass", "pneumothorax"]
    assert all(len(output.units) == 3 and output.n_others == 125 for output in found.outputs)
    with pytest.raises(UnknownNameError, match="Did you mean 'effusion'"):
        explain_film(phantom_account, new_films[0], outputs=["effusions"])
    with pytest.raises(InputError, match="'top' must be at least 1, got 0"):
        explain_film(phantom_account, new_films[0], top=0)
    whole = explain_film(phantom_account, new_films[0], outputs=[0], top=500)
    assert whole.outputs[0].n_others == 0
    assert "the other" not in whole.outputs[0].sentence()
    adds_up(whole.outputs[0])


def test_maps_lie_on_the_film(phantom_account, new_films):
    film = Film(np.ascontiguousarray(new_films[1].pixels[: new_films[1].pixels.shape[0] // 2]))
    found = explain_film(phantom_account, film, outputs=[0, 4], top=5)
    height, width = film.pixels.shape
    assert found.where.kind == "map"
    assert set(found.where.units) == {unit.unit for output in found.outputs for unit in output.units}
    scale = min(1, 400 / max(height, width))
    size = (round(height * scale), round(width * scale))
    assert found.where.maps.shape[1:] == size
    target = phantom_account.target
    units = list(found.where.units)
    cells = cell_maps(target, phantom_account.plan, target.view(film)[None], units)[0]
    offset = cell_offset(target, plan_maps(target, [phantom_account.plan])[0])
    assert offset == pytest.approx([-7.5, -7.5], abs=0.3)  # four strides of two, each padded on both sides alike
    expected = lay_on_film(cells, target.preprocessing, (height, width), size, offset=offset)
    np.testing.assert_array_equal(found.where.maps, expected)
    for unit in found.outputs[0].units:
        values = found.where.maps[units.index(unit.unit)]
        down, across = (int(share * n) for share, n in zip(unit.peak, size, strict=True))
        assert values[down, across] == values.max()


class Bars(nn.Module):
    """Maps, a bend, a vector of which one unit is dead, outputs."""

    def __init__(self):
        super().__init__()
        self.maps = nn.Conv2d(1, 3, 8, 8)
        self.flat = nn.Linear(3, 5)
        self.act = nn.ReLU()
        self.last = nn.Linear(5, 4)
        generator = torch.Generator().manual_seed(1)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)
        self.flat.weight.data[0], self.flat.bias.data[0] = 0, -1  # behind the ReLU it is dead

    def forward(self, x):
        units = self.act(self.flat(torch.tanh(self.maps(x)).mean((2, 3))))
        return torch.sigmoid(self.last(units))


@pytest.fixture(scope="module")
def bars(drawn, tmp_path_factory):
    target = mammi.create_target(Bars(), channels=1, size=32, mean=0.5, std=0.3)
    films = mammi.ProbingSet.open(drawn / "images")  # no labels, no patients
    run = small_run(target, films, tmp_path_factory.mktemp("bars") / "run", ["act", "maps"])
    return open_account(run, target)


def test_a_run_without_labels_and_a_layer_without_maps(bars, new_films):
    assert bars.layer == "act"
    found = explain_film(bars, new_films[0])
    assert "no labels" in found.notes[0]
    assert "none is called present" in found.notes[0]
    ranked = sorted(found.predictions, key=lambda p: (-p.percentile, p.number))
    assert [output.prediction for output in found.outputs] == ranked[:3]
    assert found.n_patients is None
    assert all(p.threshold is None and p.called is None for p in found.predictions)
    for p in found.predictions:
        assert p.probability == pytest.approx(1 / (1 + math.exp(-p.logit)), rel=1e-6)
    assert found.where.kind == "gradient x activation at maps"
    for output in found.outputs:
        adds_up(output)
        dead = next(unit for unit in output.units if unit.unit == 0)
        assert dead.deviation is None
        assert dead.peak is None
        assert dead.contribution == 0


def test_maps_of_the_network_serve_where_the_run_has_none(bars, drawn, new_films, tmp_path):
    run = small_run(bars.target, mammi.ProbingSet.open(drawn / "images"), tmp_path / "run", ["act"])
    assert explain_film(open_account(run, bars.target), new_films[0]).where.kind == "gradient x activation at maps"


def test_a_film_without_a_finite_output_is_refused(bars, phantom_account):
    for account in (bars, phantom_account):
        with pytest.raises(InputError, match="no finite number for this film"):
            explain_film(account, Film(np.full((20, 30), np.nan, np.float32)))


def test_softmax_has_its_probability(drawn, new_films, tmp_path):
    class Soft(Bars):
        def forward(self, x):
            return self.last(self.act(self.flat(torch.tanh(self.maps(x)).mean((2, 3))))).softmax(1)

    target = mammi.create_target(Soft(), channels=1, size=32, mean=0.5, std=0.3)
    run = small_run(target, mammi.ProbingSet.open(drawn / "images"), tmp_path / "run", ["act"])
    found = explain_film(open_account(run, target), new_films[0])
    with torch.no_grad():
        given = target.model(target.view(new_films[0])[None])[0]
    np.testing.assert_allclose([p.probability for p in found.predictions], given, rtol=1e-5)


def test_tokens(drawn, new_films, tmp_path):
    from explain.test_attribution import Tokens

    target = mammi.create_target(Tokens(n_outputs=3), channels=1, size=(16, 16), mean=0.5, std=0.3)
    films = mammi.ProbingSet.open(drawn / "images").subset(range(20))
    run = small_run(target, films, tmp_path / "run", ["first", "norm"])
    exact = open_account(run, target)
    assert exact.layer == "norm"
    for account in (exact, open_account(run, target, "first", sampled=False)):
        found = explain_film(account, new_films[0])
        assert found.exact == (account is exact)
        assert found.where.kind == "map"
        for output in found.outputs:
            adds_up(output)
            assert abs(output.gap) < 5e-3


def test_films_of_one_patient_are_not_held_up_as_similar(bars, drawn, new_films, tmp_path):
    films = mammi.ProbingSet.open(drawn / "images")
    alone = mammi.ProbingSet(films.paths[:6], patients=["one"] * 6)
    run = small_run(bars.target, alone, tmp_path / "run", ["act"])
    found = explain_film(open_account(run, bars.target), new_films[0])
    assert found.n_patients == 1
    assert all(output.similar == () for output in found.outputs)


def test_a_run_of_one_film(bars, drawn, new_films, tmp_path):
    films = mammi.ProbingSet.open(drawn / "images").subset([3])
    run = small_run(bars.target, films, tmp_path / "run", ["act"])
    account = open_account(run, bars.target)
    for film in (new_films[0], films.film(0)):
        found = explain_film(account, film)
        for output in found.outputs:
            adds_up(output)
            assert output.similar == ()
            assert all(unit.deviation is None for unit in output.units)
    assert found.n_films == 0
    assert all(p.percentile is None for p in found.predictions)
    assert all(unit.usual is None and unit.percentile is None for output in found.outputs for unit in output.units)


def test_a_run_passed_on_without_its_private_part(phantom_run, phantom_account, drawn, tmp_path):
    shutil.copytree(phantom_run.folder, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "private")
    account = open_account(mammi.open_run(tmp_path / "run"), phantom_account.target)
    found = explain_film(account, mammi.read_film(sorted((drawn / "images").iterdir())[5]), outputs=[1])
    assert found.twins == ()
    assert "does not tell whether it holds this very film" in found.notes[0]


def test_a_preprocess_of_the_networks_own_hides_where(drawn, new_films, tmp_path):
    code = (
        "import numpy as np, torch\nfrom torch import nn\n"
        "def make():\n    torch.manual_seed(0)\n"
        "    return nn.Sequential(nn.Conv2d(1, 3, 8, 8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))\n"
        "def preprocess(picture):\n"
        "    return torch.from_numpy(np.asarray(picture.convert('L').resize((32, 32))) / 255.0).float()[None]\n"
    )
    (tmp_path / "secret-ward.py").write_text(code)
    target = mammi.create_target(f"{tmp_path / 'secret-ward.py'}:make")
    run = small_run(target, mammi.ProbingSet.open(drawn / "images").subset(range(12)), tmp_path / "run", ["1"])
    found = explain_film(open_account(run, load_target(run)), new_films[0])
    assert found.where is None
    assert any("hides where a film comes to lie" in note for note in found.notes)
    assert str(tmp_path) not in json.dumps(found.to_dict())
    for output in found.outputs:
        adds_up(output)
        assert all(unit.peak is None for unit in output.units)


def test_a_decision_on_unusual_units_is_told(phantom_account, new_films):
    plain = explain_film(phantom_account, new_films[2], outputs=["pleural thickening"]).outputs[0]
    assert plain.prediction.called
    number = plain.prediction.number
    known = explain_class(phantom_account, number, n_resamples=2)
    assert plain.agreement.n_films == known.n_in >= 10
    by_hand = np.dot(known.mean, plain.contributions) / np.linalg.norm(known.mean) / np.linalg.norm(plain.contributions)
    assert plain.agreement.cosine == pytest.approx(by_hand)
    assert plain.remarks == ()
    turned = np.roll(known.mean, 40)  # as if the class rested on other units
    stub = type(known)(**{**vars(known), "mean": turned})
    warned = explain_film(phantom_account, new_films[2], outputs=[number], classes={number: stub}).outputs[0]
    assert "rests on unusual units: 100% of the run's" in warned.remarks[0]
    absent = next(p.number for p in explain_film(phantom_account, new_films[2]).predictions if not p.called)
    assert explain_film(phantom_account, new_films[2], outputs=[absent]).outputs[0].agreement is None


def test_many_outputs_called_are_told_not_hidden(phantom_account, new_films, monkeypatch):
    monkeypatch.setitem(vars(phantom_account), "thresholds", dict.fromkeys(phantom_account.outputs, -100.0))
    found = explain_film(phantom_account, new_films[2])
    assert len(found.outputs) == 6
    assert "13 more outputs are called present" in found.notes[0]
    monkeypatch.setitem(vars(phantom_account), "thresholds", dict.fromkeys(phantom_account.outputs, 100.0))
    none = explain_film(phantom_account, new_films[2])
    assert len(none.outputs) == 3
    assert "No output is called present" in none.notes[0]


def test_other_weights_are_refused(phantom_run, tmp_path):
    net = mammi.create_target("phantom").model
    with torch.no_grad():
        net.head.weight[0, 0] += 1
    with pytest.raises(StaleRunError, match="is not the one of"):
        load_target(phantom_run, net)


def test_it_says_no_path_no_name_no_patient(explained, phantom_run, drawn):
    text = json.dumps(explained.to_dict(), allow_nan=False)
    films = json.loads((phantom_run.folder / "private" / "films.json").read_text())
    for film in films:
        for secret in (film["path"], film["id"], f'"{film["patient"]}"'):
            assert secret not in text
    assert str(phantom_run.folder) not in text


def test_the_same_film_is_explained_the_same_twice_and_from_any_frame_of_mind(phantom_account, new_films):
    phantom_account.target.model.train()
    try:
        first = explain_film(phantom_account, new_films[3], outputs=[0, 5])
    finally:
        phantom_account.target.model.eval()
    second = explain_film(phantom_account, new_films[3], outputs=[5, 0])
    assert first.outputs[0].to_dict() == second.outputs[1].to_dict()


# Real films, a real network: measured sums.


@pytest.fixture(scope="session")
def real(shared_data, tmp_path_factory):
    folder = shared_data / "mobilenet_nih"
    films = mammi.ProbingSet.open(shared_data / "nih" / "images", shared_data / "nih" / "labels.csv")
    target = mammi.create_target(f"{folder / 'model.py'}:MNV3S", folder / "weights.pt")
    return small_run(target, films.subset(range(0, 1080, 18)), tmp_path_factory.mktemp("real") / "run", ["hs3", "hs2"])


@pytest.mark.parametrize("source", ["nih/images", "dicom/good/RG1_J2KI.dcm"])
@pytest.mark.parametrize("layer", ["hs3", "hs2"])
def test_real_films_add_up(real, shared_data, layer, source):
    path = shared_data / source
    film = mammi.read_film(sorted(path.iterdir())[7] if path.is_dir() else path)
    account = open_account(real, load_target(real), layer, sampled=False)
    found = explain_film(account, film, outputs=["pneumothorax", "effusion"])
    assert found.exact == (layer == "hs3")
    assert found.where.kind == ("map" if layer == "hs2" else "gradient x activation at hs2")
    scale = 400 / max(film.pixels.shape)
    assert found.where.maps.shape[1:] == tuple(round(side * min(1, scale)) for side in film.pixels.shape[:2])
    for output in found.outputs:
        adds_up(output)
        assert abs(output.gap) < (1e-4 if found.exact else 0.05)


def test_where_a_class_token_looks_is_not_sought_in_patches_it_never_reads(drawn, new_films, tmp_path):
    class Classed(nn.Module):
        """A convolution, a class token that reads its patches, and a norm behind which patches lead nowhere."""

        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.patches, self.read, self.norm = nn.Conv2d(1, 6, 4, 4), nn.Linear(6, 6), nn.LayerNorm(6)
            self.cls_token = nn.Parameter(torch.randn(1, 1, 6))
            self.out = nn.Linear(6, 2)

        def forward(self, x):
            patches = self.patches(x).flatten(2).mT
            token = self.cls_token + torch.tanh(self.read(patches)).mean(dim=1, keepdim=True)
            return self.out(self.norm(torch.cat([token, patches], dim=1))[:, 0])

    target = mammi.create_target(Classed(), channels=1, size=16, mean=0.5, std=0.3)
    run = small_run(target, mammi.ProbingSet.open(drawn / "images"), tmp_path / "run", ["norm", "out@in"])
    found = explain_film(open_account(run, target, "out@in"), new_films[0], outputs=[0])
    assert found.where.kind == "gradient x activation at patches"
    assert np.abs(found.where.maps).max() > 0
    assert found.outputs[0].units[0].peak is not None
