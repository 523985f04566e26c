import numpy as np
import torch
from torch import nn

from mammi.functional.fingerprint import (
    fingerprint_file,
    fingerprint_module,
    fingerprint_tensors,
    fingerprint_value,
)


class Printed(nn.Linear):
    def __init__(self, function):
        super().__init__(2, 2)
        self.function = function

    def extra_repr(self):
        return f"function={self.function}"


def seeded(make=lambda: nn.Linear(3, 2)):
    torch.manual_seed(0)
    return make()


def test_two_checkpoints_of_one_architecture_differ():
    first, second = seeded(), seeded()
    assert fingerprint_module(first) == fingerprint_module(second)
    second.weight.data[0, 0] = torch.nextafter(second.weight[0, 0].detach(), torch.tensor(9.0))
    assert fingerprint_module(first) != fingerprint_module(second)


def test_buffers_and_structure_count():
    norm, moved = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    moved.running_mean += 1
    assert fingerprint_module(norm) != fingerprint_module(moved)
    assert fingerprint_module(nn.Sequential(nn.ReLU())) != fingerprint_module(nn.Sequential(nn.GELU()))


def test_an_address_in_memory_does_not_count():
    one, two = seeded(lambda: Printed(lambda: 1)), seeded(lambda: Printed(lambda: 1))
    assert "0x" in repr(one)
    assert repr(one) != repr(two)
    assert fingerprint_module(one) == fingerprint_module(two)


def test_names_shapes_dtypes_and_bytes_count_and_order_does_not():
    a, b = torch.arange(6.0), torch.ones(2)
    base = fingerprint_tensors({"a": a, "b": b})
    assert fingerprint_tensors({"b": b, "a": a}) == base
    for other in ({"a": b, "b": a}, {"a": a.reshape(2, 3), "b": b}, {"a": a.double(), "b": b}, {"a": a + 1, "b": b}):
        assert fingerprint_tensors(other) != base
    assert fingerprint_tensors({"a": a.reshape(2, 3).T.contiguous().T.reshape(6), "b": b}) == base  # same bytes


def test_values_and_files(tmp_path):
    assert fingerprint_value({"a": 1, "b": [2]}) == fingerprint_value({"b": [2], "a": 1})
    assert fingerprint_value([1, 2]) != fingerprint_value([2, 1])
    (tmp_path / "x").write_bytes(np.arange(10).tobytes())
    assert len(fingerprint_file(tmp_path / "x")) == 64
