import itertools

import pytest
import torch
from torch import nn

from mammi.capture import LayerPlan, Recorder, plan_layers
from mammi.errors import CaptureError, InputError, UnknownNameError
from mammi.targets import create_target


class Small(nn.Module):
    """A network with the traps of real ones: in-place ReLU, batch norm, dropout, a shared and an unused module."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.act = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.fc1 = nn.Linear(3, 5)
        self.shared = nn.ReLU()
        self.fc2 = nn.Linear(5, 4)
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        x = self.act(self.norm(self.conv(x)))
        x = self.drop(self.shared(self.fc1(x.mean((2, 3)))))
        return self.shared(self.fc2(x))


class Pair(nn.Module):
    def forward(self, x):
        return x, x


class WithPair(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1)
        self.pair = Pair()

    def forward(self, x):
        return self.pair(self.conv(x))[0].mean((2, 3))


def seeded(kind=Small):
    torch.manual_seed(0)
    model = kind()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
    return model


def target(model, size=16):
    return create_target(model, channels=1, size=size, mean=0.5, std=0.25)


def n_hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.fixture
def films():
    return torch.randn(6, 1, 16, 16, generator=torch.Generator().manual_seed(1))


def record(model, names, films, pooling=None):
    plans = plan_layers(target(model), names, pooling)
    with Recorder(model, plans) as recorder:
        return recorder.record(films)


def test_every_layer_equals_a_forward_by_hand(films):
    model = seeded().eval()
    recorded = record(model, ["norm", "conv", "fc1", "fc2", "fc1@in", "act"], films)
    with torch.no_grad():
        conv = model.conv(films)
        norm = model.norm(conv)
        pooled = norm.relu().mean((2, 3))
        fc1 = model.fc1(pooled)
        fc2 = model.fc2(fc1.relu())
    expected = {"norm": norm.mean((2, 3)), "conv": conv.mean((2, 3)), "fc1": fc1, "fc2": fc2, "fc1@in": pooled}
    assert list(recorded) == ["norm", "conv", "fc1", "fc2", "fc1@in", "act"]  # the order asked for
    for name, values in expected.items():
        torch.testing.assert_close(recorded[name], values)
    assert recorded["norm"].min() < 0 <= recorded["act"].min()  # before the in-place ReLU overwrote it


def test_vectors_are_copies_that_in_place_changes_cannot_reach():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            return self.fc(x.mean((1, 2, 3), keepdim=True).flatten(1).expand(-1, 4)).mul_(0)

    model = seeded(InPlace)
    recorded = record(model, ["fc"], torch.ones(2, 1, 16, 16))
    assert recorded["fc"].abs().max() > 0


def test_max_pooling(films):
    model = seeded().eval()
    with torch.no_grad():
        expected = model.conv(films).amax((2, 3))
    torch.testing.assert_close(record(model, ["conv"], films, "max")["conv"], expected)


def test_the_network_is_left_as_it_was(films):
    model = seeded()
    plans = plan_layers(target(model), ["conv", "fc2@in"])
    model.train()
    model.norm.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with Recorder(model, plans) as recorder:
        assert not model.training
        recorder.record(films)
    assert n_hooks(model) == 0
    assert model.training
    assert not model.norm.training
    assert model.drop.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name  # batch-norm statistics did not move


def test_batches_of_any_size_agree(films):
    model = seeded()
    whole = record(model, ["conv", "fc2"], films)
    parts = [record(model, ["conv", "fc2"], films[a:b]) for a, b in ((0, 1), (1, 4), (4, 6))]
    for name in ("conv", "fc2"):
        torch.testing.assert_close(torch.cat([part[name] for part in parts]), whole[name])


@pytest.mark.parametrize("at", ["conv", "fc2", "fc1@in"])
def test_no_hook_is_left_behind_when_the_network_raises(films, at):
    model = seeded()
    plans = plan_layers(target(model), [at])
    model.fc2.weight.data = torch.zeros(4, 9)  # no longer fits
    with pytest.raises(RuntimeError), Recorder(model, plans) as recorder:  # noqa: PT012
        assert n_hooks(model) == 1
        recorder.record(films)
    assert n_hooks(model) == 0


def test_no_hook_is_left_behind_when_a_layer_is_missing():
    model = seeded()
    plans = [LayerPlan("conv", "map", "mean", 3), LayerPlan("gone", "map", "mean", 3)]
    with pytest.raises(CaptureError, match="'gone' is not in the network"), Recorder(model, plans):
        pass
    assert n_hooks(model) == 0


def test_a_layer_called_twice_is_refused_by_name():
    for name in ("shared", "shared@in"):
        with pytest.raises(CaptureError, match=f"'{name}' .*called 2 times"):
            plan_layers(target(seeded()), [name])


def test_a_layer_called_twice_later_is_refused_too(films):
    model = seeded()
    plans = [LayerPlan("shared", "vector", "none", 5)]
    with pytest.raises(CaptureError, match="'shared' is called more than once"), Recorder(model, plans) as recorder:
        recorder.record(films)


def test_layers_without_units_are_refused_by_name():
    with pytest.raises(CaptureError, match="'unused' .*not called"):
        plan_layers(target(seeded()), ["unused"])
    with pytest.raises(CaptureError, match="'unused@in' .*not called"):
        plan_layers(target(seeded()), ["unused@in"])
    with pytest.raises(CaptureError, match="'pair' .*returns a tuple"):
        plan_layers(target(seeded(WithPair)), ["pair"])


def test_wrong_names_get_a_suggestion():
    with pytest.raises(UnknownNameError, match=r"'fcc1' is not known\. Did you mean 'fc1'\?.*mammi layers"):
        plan_layers(target(seeded()), ["fcc1"])
    with pytest.raises(UnknownNameError, match=r"Did you mean 'conv'"):
        plan_layers(target(seeded()), ["conf@in"])
    with pytest.raises(InputError, match="name at least one layer"):
        plan_layers(target(seeded()), [])
    with pytest.raises(InputError, match="'conv' is named twice"):
        plan_layers(target(seeded()), ["conv", "fc1", "conv"])
    with pytest.raises(InputError, match="mean, max or cls, got 'avg'"):
        plan_layers(target(seeded()), ["conv"], "avg")
    with pytest.raises(InputError, match="applies to none of fc1"):
        plan_layers(target(seeded()), ["fc1"], "max")


class TinyVit(nn.Module):
    """As many tokens as features, so that only a second look at another size can tell them apart."""

    def __init__(self, with_class=True, d=17):
        super().__init__()
        self.patch = nn.Conv2d(1, d, 4, stride=4)
        if with_class:
            self.cls_token = nn.Parameter(torch.randn(1, 1, d))
        self.norm = nn.LayerNorm(d)
        self.mlp = nn.Linear(d, d)
        self.head = nn.Linear(d, 3)

    def forward(self, x):
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        if hasattr(self, "cls_token"):
            tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), tokens], 1)
        tokens = self.mlp(self.norm(tokens))
        return self.head(tokens[:, 0])


def test_tokens_are_never_taken_for_channels(films):
    model = seeded(TinyVit).eval()  # 16 patches and a class token: 17 tokens of 17 features
    recorded = record(model, ["norm", "mlp", "mlp@in"], films)
    with torch.no_grad():
        patches = model.patch(films).flatten(2).transpose(1, 2)
        norm = model.norm(torch.cat([model.cls_token.expand(6, -1, -1), patches], 1))
    torch.testing.assert_close(recorded["norm"], norm[:, 0])
    torch.testing.assert_close(recorded["mlp"], model.mlp(norm)[:, 0].detach())
    torch.testing.assert_close(recorded["mlp@in"], norm[:, 0])
    patch_mean = record(model, ["norm"], films, "mean")["norm"]
    torch.testing.assert_close(patch_mean, norm[:, 1:].mean(1))  # the class token is no patch


def test_the_input_of_a_layer_of_a_network_of_fixed_size(films):
    class Fixed(TinyVit):
        def forward(self, x):
            torch._assert(x.shape[-1] == 16, "wrong size")  # what timm does: an AssertionError
            return super().forward(x)

    model = seeded(Fixed)
    assert record(model, ["mlp@in"], films)["mlp@in"].shape == (6, 17)
    assert n_hooks(model) == 0


def test_tokens_without_a_class_token_are_averaged(films):
    model = seeded(lambda: TinyVit(with_class=False, d=16)).eval()
    with torch.no_grad():
        expected = model.norm(model.patch(films).flatten(2).transpose(1, 2)).mean(1)
    torch.testing.assert_close(record(model, ["norm"], films)["norm"], expected)


def test_channels_last_maps(films):
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 8, 2, stride=2)
            self.norm = nn.LayerNorm(8)

        def forward(self, x):
            return self.norm(self.conv(x).permute(0, 2, 3, 1)).mean((1, 2))

    model = seeded(Last).eval()  # 8 x 8 places of 8 channels
    with torch.no_grad():
        maps = model.norm(model.conv(films).permute(0, 2, 3, 1))
    torch.testing.assert_close(record(model, ["norm"], films)["norm"], maps.mean((1, 2)))


def test_many_combinations_leave_no_trace(films):
    model = seeded()
    for names in itertools.permutations(["conv", "norm", "fc1@in", "fc2"], 3):
        record(model, list(names), films)
        assert n_hooks(model) == 0
