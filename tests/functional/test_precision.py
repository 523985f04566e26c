"""Networks cast in a copy: what is cast, what is not, and that the original is left alone."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mammi.errors import InputError
from mammi.functional.precision import PRECISIONS, as_input, check_precision, lowered, modules_of


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 5)
        self.tied = nn.Linear(8, 5)
        self.tied.weight = self.head.weight
        self.register_buffer("counts", torch.arange(3))
        self.register_buffer("phase", torch.ones(2, dtype=torch.complex64))
        self.register_buffer("scale", torch.full((1,), 1 / 3))

    def forward(self, x):
        return self.head(self.norm(self.conv(x)).mean((2, 3))) * self.scale


def net():
    torch.manual_seed(0)
    model = Net().eval()
    model.norm.running_mean.normal_()
    model.norm.running_var.uniform_(0.5, 2)
    return model


def test_weights_are_cast_and_running_statistics_and_integers_are_not():
    model = net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    copy = lowered(model, "bfloat16")
    assert {copy.conv.weight.dtype, copy.head.weight.dtype, copy.head.bias.dtype, copy.scale.dtype} == {torch.bfloat16}
    assert copy.conv.weight.is_contiguous(memory_format=torch.channels_last)
    for name in ("weight", "bias", "running_mean", "running_var"):
        torch.testing.assert_close(getattr(copy.norm, name), getattr(model.norm, name), atol=0, rtol=0)
    assert copy.counts.dtype == torch.int64
    assert copy.phase.dtype == torch.complex64
    assert copy.tied.weight is copy.head.weight
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert {value.dtype for value in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(("precision", "most"), [("float32", 0.0), ("float32-channels-last", 1e-5), ("bfloat16", 0.02)])
def test_the_copy_computes_nearly_the_same(precision, most):
    model, batch = net(), torch.randn(4, 3, 9, 7, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        exact = model(batch)
        rows = lowered(model, precision)(as_input(batch, precision, "cpu")).float()
    assert float((rows - exact).norm() / exact.norm()) <= most


def test_running_statistics_in_float32_err_less():
    model, batch = net(), torch.randn(64, 3, 9, 7, generator=torch.Generator().manual_seed(1))
    kept, rounded = lowered(model, "bfloat16"), lowered(model, "bfloat16")
    rounded.norm.to(torch.bfloat16)
    view = as_input(batch, "bfloat16", "cpu")
    with torch.no_grad():
        exact = model(batch)
        errors = [float((copy(view).float() - exact).norm()) for copy in (kept, rounded)]
    assert errors[0] < errors[1]


def test_an_object_that_holds_networks_is_copied_with_them():
    holder = SimpleNamespace(tower=net(), name="mine", words=["a"])
    copy = lowered(holder, "bfloat16")
    assert copy.tower.conv.weight.dtype == torch.bfloat16
    assert holder.tower.conv.weight.dtype == torch.float32
    assert copy.words is not holder.words
    assert modules_of(holder) == [holder.tower]
    assert modules_of(object()) == []


def test_only_pictures_are_laid_out_anew():
    vectors = torch.randn(4, 6)
    assert as_input(vectors, "float32-channels-last", "cpu") is vectors
    pictures = torch.randn(2, 3, 4, 5)
    assert as_input(pictures, "float32", "cpu") is pictures
    laid = as_input(pictures, "float32-channels-last", "cpu")
    assert laid.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(laid, pictures)


def test_an_unknown_precision_is_refused():
    assert [check_precision(name) for name in PRECISIONS] == list(PRECISIONS)
    with pytest.raises(InputError, match=r"one of float32, float32-channels-last, bfloat16, got 'float16'"):
        check_precision("float16")
