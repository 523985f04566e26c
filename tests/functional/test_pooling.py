import pytest
import torch

from mammi.errors import InputError
from mammi.functional.pooling import pool_map, pool_tokens


def test_maps_by_hand():
    maps = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]], [[-1.0, -1.0], [-5.0, -1.0]]]])
    assert pool_map(maps, "mean").tolist() == [[3.0, -2.0]]
    assert pool_map(maps, "max").tolist() == [[6.0, -1.0]]


def test_tokens_are_not_channels():
    tokens = torch.arange(24.0).reshape(2, 3, 4)  # 2 images, a class token and two patches, 4 features
    assert pool_tokens(tokens, "cls").tolist() == [[0, 1, 2, 3], [12, 13, 14, 15]]
    assert pool_tokens(tokens, "mean", n_prefix=1).tolist() == [[6, 7, 8, 9], [18, 19, 20, 21]]
    assert pool_tokens(tokens, "mean", n_prefix=0).tolist() == [[4, 5, 6, 7], [16, 17, 18, 19]]


def test_half_precision_is_averaged_in_float32():
    maps = torch.full((1, 1, 64, 64), 1.0, dtype=torch.bfloat16)
    maps[..., 0, 0] = 2.0
    assert pool_map(maps).dtype == torch.float32
    assert pool_map(maps).item() == pytest.approx(1 + 1 / 4096)


def test_bad_arguments_are_named():
    with pytest.raises(InputError, match=r"got \(2, 3\)"):
        pool_map(torch.zeros(2, 3))
    with pytest.raises(InputError, match="one of mean, max, got 'cls'"):
        pool_map(torch.zeros(1, 1, 2, 2), "cls")
    with pytest.raises(InputError, match="needs a class token"):
        pool_tokens(torch.zeros(1, 4, 2), "cls", n_prefix=0)
    with pytest.raises(InputError, match="leave no patch"):
        pool_tokens(torch.zeros(1, 1, 2), "mean", n_prefix=1)
    with pytest.raises(InputError, match="must be"):
        pool_tokens(torch.zeros(1, 4), "mean")
