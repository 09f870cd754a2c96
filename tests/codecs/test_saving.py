"""Gradients of frozen networks that keep less: the same numbers from less memory."""

import copy

import pytest
import torch
from torch import nn

from rbctrl.codecs.saving import forget_inputs


def network():
    layers = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, stride=2, groups=2), nn.Conv2d(8, 4, 1, bias=False)
    net, generator = nn.Sequential(*layers).requires_grad_(False), torch.Generator().manual_seed(0)
    for weight in net.parameters():
        weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    return net


@pytest.fixture
def x():
    return torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(1))


def gradient(net, x, create_graph=False):
    with torch.enable_grad():
        x = x.clone().requires_grad_()
        out = net(x).sin()
        (grad,) = torch.autograd.grad(out.square().sum(), x, create_graph=create_graph)
        return torch.autograd.grad(grad.square().sum(), x)[0] if create_graph else grad


def saved(net, x):
    """Names of shapes that the backward pass keeps."""
    shapes = []
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(lambda t: shapes.append(tuple(t.shape)), id):
        net(x.clone().requires_grad_())
    return shapes


@pytest.mark.parametrize("second", [False, True])
def test_gradients_are_those_of_plain_convolutions(second, x):
    plain, saving = network(), network()
    forget_inputs(saving)
    assert torch.equal(saving(x), plain(x))
    torch.testing.assert_close(gradient(saving, x, second), gradient(plain, x, second))
    half = copy.deepcopy(saving)
    half[0].weight.mul_(0.5)
    assert not torch.allclose(gradient(half, x), gradient(saving, x)) and torch.equal(saving(x), plain(x))


def test_convolutions_keep_no_input(x):
    plain, saving = network(), network()
    forget_inputs(saving)
    assert len(saved(plain, x)) > 3 and saved(saving, x) == []


def test_weights_that_are_trained_keep_their_gradient(x):
    net = network()
    forget_inputs(net)
    net.requires_grad_(True)
    with torch.enable_grad():
        net(x.requires_grad_()).square().sum().backward()
    assert all(weight.grad is not None for weight in net.parameters())
