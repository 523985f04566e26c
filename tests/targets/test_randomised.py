import pytest
import torch
from torch import nn

from mammi.errors import InputError, TargetError
from mammi.functional.fingerprint import fingerprint_module
from mammi.phantoms import Cohort
from mammi.targets import create_target, randomised
from mammi.types import Film


@pytest.fixture(scope="module")
def films():
    cohort = Cohort(16, seed=5)
    return [Film(cohort.film(i).pixels) for i in range(16)]


def trace(model, views):
    """Every layer's output, by name, of the modules that have no children."""
    seen = {}
    hooks = [
        module.register_forward_hook(lambda _, __, out, name=name: seen.__setitem__(name, out.detach().clone()))
        for name, module in model.named_modules()
        if not list(module.children())
    ]
    with torch.no_grad():
        out = model(views)
    for hook in hooks:
        hook.remove()
    return out, seen


def check(target, films):
    before = fingerprint_module(target.model)
    generator = torch.random.get_rng_state()
    control = randomised(target, films, seed=1)
    assert torch.equal(torch.random.get_rng_state(), generator), "the global generator is left alone"
    assert fingerprint_module(target.model) == before, "the target is left as it is"
    assert control.fingerprint != target.fingerprint
    assert randomised(target, films, seed=1).fingerprint == control.fingerprint
    assert randomised(target, films, seed=2).fingerprint != control.fingerprint
    assert "RANDOM WEIGHTS (seed 1)" in control.notes[-1]
    assert (control.n_outputs, control.output_names) == (target.n_outputs, target.output_names)
    assert not any(module.training for module in control.model.modules())
    trained, drawn = target.model.state_dict(), control.model.state_dict()
    for name, value in trained.items():
        if name.endswith("weight") and value.ndim > 1:
            cosine = torch.cosine_similarity(value.flatten(), drawn[name].flatten(), dim=0)
            assert abs(cosine) < 0.25, f"{name} has kept what was learned"
    return control


def test_the_phantom_forgets_everything_and_still_works(films):
    target = create_target("phantom")
    control = check(target, films)
    views = torch.stack([target.view(film) for film in films])
    out, seen = trace(control.model, views)
    for name, module in control.model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            values = seen[name]
            torch.testing.assert_close(values.mean((0, 2, 3)), module.bias, atol=0.05, rtol=0)
            assert 0.9 < values.std((0, 2, 3)).min() <= values.std((0, 2, 3)).max() < 1.1, name
    units = control.model.features(views).mean((2, 3))
    assert (units.std(0) > 0.01).float().mean() > 0.95, "hidden units still tell films apart"
    assert torch.isfinite(out).all()
    assert out.std(0).min() > 0


def test_a_resnet_of_torchvision(films):
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    model = models.resnet18(num_classes=5)
    target = create_target(model, size=64)
    control = check(target, films)
    views = torch.stack([target.view(film) for film in films])
    pooled = trace(control.model, views)[1]["avgpool"].flatten(1)
    assert 0.1 < pooled.mean() < 10
    assert (pooled.std(0) > 0.01).float().mean() > 0.95


class Forgetful(nn.Linear):
    """Resets its bias alone."""

    def reset_parameters(self):
        nn.init.zeros_(self.bias)


class Odd(nn.Module):
    """Parameters of its own, weight norm, attention, a layer scale, a tied weight, and a half-hearted reset."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 16, 16)
        self.token = nn.Parameter(torch.randn(1, 1, 8) * 0.02 + 3)
        self.scale = nn.Parameter(torch.full((8,), 1e-5))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.fc = nn.utils.parametrizations.weight_norm(nn.Linear(8, 4))
        self.twin = nn.Linear(8, 8, bias=False)
        self.other = nn.Linear(8, 8, bias=False)
        self.other.weight = self.twin.weight
        self.last = Forgetful(4, 4)
        nn.init.normal_(self.last.weight)

    def forward(self, x):
        x = self.conv(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        x = x + self.scale * self.attention(self.norm(x), x, x)[0]
        return self.last(self.fc(self.other(self.twin(x[:, 0]))))


def test_parameters_that_no_module_resets_are_drawn_alike(films):
    torch.manual_seed(0)
    model = Odd()
    target = create_target(model, size=32, channels=1)
    control = randomised(target, ())
    before, after = model.state_dict(), control.model.state_dict()
    for name in (
        "token",
        "attention.in_proj_weight",
        "fc.parametrizations.weight.original1",
        "twin.weight",
        "last.weight",
    ):
        assert not torch.equal(before[name], after[name]), name
    assert after["token"].mean().item() == pytest.approx(3, abs=0.05)
    assert after["token"].std() < 0.06
    torch.testing.assert_close(after["scale"], before["scale"])
    assert control.model.other.weight is control.model.twin.weight
    assert torch.equal(control.model.norm.weight, torch.ones(8))


def test_running_statistics_left_alone_would_not_fit(films):
    """Why films are needed: with reset statistics alone, the phantom's signal leaves its range."""
    target = create_target("phantom")
    control = randomised(target, films, seed=1)
    views = torch.stack([target.view(film) for film in films])
    fitted = control.model.features(views).std()
    for module in control.model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    assert control.model.features(views).std() < 0.2 * fitted


def test_what_cannot_be_done_is_said(small, films):
    target = create_target(small, size=16)
    with pytest.raises(InputError, match="module has batch normalisation: give 2 films or more to fit it, got 1"):
        randomised(target, films[:1])
    small.lock = (i for i in range(3))  # a generator cannot be copied
    with pytest.raises(TargetError, match="module cannot be copied.*TypeError"):
        randomised(target, films)
