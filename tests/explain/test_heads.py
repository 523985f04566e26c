"""Whether the outputs are a weighted sum of a layer's units is found out by looking."""

import numpy as np
import pytest
import torch
from torch import nn

from mammi.capture import plan_layers
from mammi.explain.heads import linear_head, output_head
from mammi.targets import create_target


class Net(nn.Module):
    """A network that ends in one of the ways networks end in."""

    def __init__(self, end="linear", between=None, pool="mean"):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 5, 3, padding=1)
        self.relu = nn.ReLU()
        self.between = between or nn.Identity()
        self.fc = nn.Linear(5, 3, bias=end != "no bias")
        self.end = {"sigmoid": nn.Sigmoid(), "softmax": nn.Softmax(dim=1)}.get(end, nn.Identity())
        self.pool = pool

    def forward(self, x):
        maps = self.relu(self.conv(x))
        pooled = maps.mean((2, 3)) if self.pool == "mean" else maps.amax((2, 3))
        return self.end(self.fc(self.between(pooled)))


def target(net):
    return create_target(net, channels=1, size=16, mean=0.5, std=0.25)


@pytest.mark.parametrize(("end", "link"), [("linear", "none"), ("sigmoid", "sigmoid"), ("softmax", "softmax")])
def test_the_head_is_found_behind_its_link(end, link):
    net = Net(end)
    head = output_head(target(net))
    assert (head.module, head.link) == ("fc", link)
    assert np.array_equal(head.weight, net.fc.weight.detach().double().numpy())
    assert np.array_equal(head.bias, net.fc.bias.detach().double().numpy())


def test_a_head_without_bias_has_a_bias_of_zero():
    assert np.array_equal(output_head(target(Net("no bias"))).bias, np.zeros(3))


def plan(subject, layer, pooling=None):
    return plan_layers(subject, [layer], pooling)[0]


def test_units_that_feed_the_head_directly_have_a_linear_head():
    subject = target(Net())
    assert linear_head(subject, plan(subject, "relu")) is not None
    assert linear_head(subject, plan(subject, "fc@in")) is not None


def test_units_before_a_relu_do_not():
    subject = target(Net())
    assert linear_head(subject, plan(subject, "conv")) is None


def test_another_pooling_than_the_networks_own_is_not_linear():
    subject = target(Net(pool="max"))
    assert linear_head(subject, plan(subject, "relu")) is None
    assert linear_head(subject, plan(subject, "relu", "max")) is not None


def test_what_stands_between_units_and_head_is_seen():
    subject = target(Net(between=nn.Hardswish()))
    assert linear_head(subject, plan(subject, "relu")) is None
    assert linear_head(subject, plan(subject, "between")) is not None


def test_the_outputs_do_not_feed_themselves():
    square = nn.Sequential(nn.Flatten(), nn.Linear(256, 4), nn.Linear(4, 4))
    subject = target(square)
    assert linear_head(subject, plan(subject, "2")) is None
    assert linear_head(subject, plan(subject, "1")).module == "2"


def test_a_network_that_ends_in_a_convolution_has_no_head():
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert output_head(target(net)) is None


def test_nothing_is_left_in_the_network():
    net = Net()
    net.train()
    subject = target(net)
    net.train()
    output_head(subject)
    assert net.training
    assert not any(module._forward_hooks for module in net.modules())


def test_a_relu_that_cuts_on_dark_films_only_is_seen():
    # The units are the mean grey of the film and a little more: positive on noise, negative on what is dark.
    net = nn.Sequential(nn.Flatten(), nn.Linear(256, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        net[1].weight.fill_(1 / 256)
        net[1].bias.fill_(1.0)
    made = target(net)
    before, after = plan_layers(made, ["1", "2"])
    assert linear_head(made, before) is None
    assert linear_head(made, after) is not None
