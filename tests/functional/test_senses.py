import pytest
import torch

from mammi.errors import InputError
from mammi.functional.senses import two_groups


def clouds(n_first=12, n_second=7, d=5, seed=0, apart=9.0):
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(n_first + n_second, d, generator=generator, dtype=torch.float64)
    points[n_first:] += apart * torch.ones(d, dtype=torch.float64) / d**0.5
    return points, torch.arange(n_first + n_second) >= n_first


def mean_of(points, chosen):
    own = [point for point, one in zip(points, chosen, strict=True) if one]
    return [sum(point[axis] for point in own) / len(own) for axis in range(len(points[0]))]


def distance(a, b):
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_clouds_apart_are_told_apart(seed):
    points, truth = clouds(seed=seed)
    assert torch.equal(two_groups(points), truth)
    assert torch.equal(two_groups(points.flip(0)), ~truth.flip(0))


@pytest.mark.parametrize("d", [5, 40])
@pytest.mark.parametrize("seed", range(6))
def test_the_answer_is_at_rest_and_starts_from_the_longest_axis(seed, d):
    """Plain 2-means from the sign along the longest axis, in loops; of 19 points in fewer and in more dimensions."""
    points, _ = clouds(seed=seed, apart=1.5 if d == 5 else 4.0, d=d)
    centred = points - points.mean(dim=0)
    axis = torch.linalg.eigh(centred.T @ centred)[1][:, -1].tolist()
    table = centred.tolist()
    group = [sum(x * a for x, a in zip(row, axis, strict=True)) > 0 for row in table]
    for _ in range(50):
        far, near = mean_of(table, group), mean_of(table, [not one for one in group])
        moved = [distance(row, far) < distance(row, near) for row in table]
        if moved == group:
            break
        group = moved
    expected = [one != group[0] for one in group]
    assert two_groups(points).tolist() == expected
    assert two_groups(points, max_rounds=0).tolist()[0] is False


@pytest.mark.parametrize("apart", [0.0, 1.0, 4.0])
def test_one_answer_whatever_the_order_place_and_turn(apart):
    points, _ = clouds(seed=3, apart=apart)
    found = two_groups(points)
    assert torch.equal(found, two_groups(points.clone()))
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(0))
    moved = two_groups(points[order])
    back = torch.empty_like(moved).scatter_(0, order, moved)
    assert torch.equal(back ^ back[0], found)
    turn = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64))[0]
    assert torch.equal(two_groups(3 * points @ turn - 7), found)


def test_two_points_and_points_alike():
    assert two_groups(torch.tensor([[0.0, 1.0], [1.0, 0.0]])).tolist() == [False, True]
    assert two_groups(torch.tensor([[2.0], [2.0], [5.0]])).tolist() == [False, False, True]
    assert not two_groups(torch.full((6, 3), 0.1, dtype=torch.float64)).any()
    with pytest.raises(InputError, match="two groups need at least 2 points, got 1"):
        two_groups(torch.zeros(1, 3))
