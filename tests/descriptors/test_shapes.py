"""The shipped descriptor: style apart from content, in unit vectors, row by row."""

import pytest
import torch

from rbctrl.descriptors.shapes import Shapes
from rbctrl.shapes.bank import draw_groups
from rbctrl.shapes.render import render


@pytest.fixture(scope="module")
def drawings():
    g = torch.Generator().manual_seed(0)
    return render(draw_groups(8, g), 64, g)  # [group, style, content] of 8 x 4 x 4


def described(head, drawings):
    descriptor = Shapes(head)
    descriptor.load()
    return descriptor(drawings).unflatten(0, (8, 4, 4))


def test_style_and_content_are_told_apart(drawings):
    style, content = (described(head, drawings) for head in ("style", "content"))
    assert (
        (style[:, 0, 0] * style[:, 0, 1]).sum(-1).mean() > 0.9 > 0.3 > (style[:, 0, 0] * style[:, 3, 0]).sum(-1).mean()
    )
    assert (content[:, 0, 0] * content[:, 3, 0]).sum(-1).mean() > 0.8
    assert (content[:, 0, 0] * content[:, 0, 1]).sum(-1).mean() < 0.3
    assert (style.norm(dim=-1) - 1).abs().max() < 1e-5


def test_rows_are_independent_and_gradients_reach_the_image(drawings):
    descriptor = Shapes()
    descriptor.load()
    image = drawings[:4].clone().requires_grad_()
    out = descriptor(image)
    assert (out[:1] - descriptor(drawings[:1])).abs().max() < 1e-5
    (grad,) = torch.autograd.grad(out[0, 0], image)
    assert grad[0].abs().max() > 0 and (grad[1:] == 0).all()
    assert not any(p.requires_grad for p in descriptor.parameters())


def test_there_are_three_heads():
    with pytest.raises(ValueError, match=r"descriptor\.head"):
        Shapes("color")
