"""Modules with the methods of deepinv's Physics as operators; the package itself is tested where it is installed."""

import pytest
import torch
from torch import nn

from rbctrl.operators.deepinv import DeepinvLinear, DeepinvPhysics
from rbctrl.testing import CheckError, check_operator


class Columns(nn.Module):
    """A linear physics: every second column, weighted."""

    def __init__(self, weight=0.5):
        super().__init__()
        self.register_buffer("weight", torch.tensor(weight))

    def A(self, x):
        return self.weight * x[..., ::2]

    def A_adjoint(self, y):
        return torch.stack([self.weight * y, torch.zeros_like(y)], dim=-1).flatten(-2)

    def A_dagger(self, y):
        return self.A_adjoint(y) / self.weight**2


class NoTranspose(Columns):
    def A_adjoint(self, y):
        return torch.stack([y, y], dim=-1).flatten(-2)


class Saturation(nn.Module):
    """A physics that is not linear, on [0, 1]."""

    def A(self, x):
        return x.clamp(0, 0.5)


def test_linear_physics_passes_the_suite_and_a_wrong_transpose_does_not():
    assert check_operator(DeepinvLinear(Columns(), image_shape=(3, 8, 8)), shape=(3, 8, 8))
    with pytest.raises(CheckError, match="no transpose"):
        check_operator(DeepinvLinear(NoTranspose(), image_shape=(3, 8, 8)), shape=(3, 8, 8))


def test_measurements_of_deepinv_are_translated_as_documented():
    """y' = 2 y - A(1) of y = A(u), u = (x + 1) / 2."""
    x, physics = torch.linspace(-1, 1, 192).view(1, 3, 8, 8), Columns()
    y = physics.A((x + 1) / 2)
    torch.testing.assert_close(DeepinvLinear(physics)(x), 2 * y - physics.A(torch.ones_like(x)))


def test_other_physics_sees_its_own_range():
    x = torch.tensor([-1.0, 0.0, 1.0]).view(1, 1, 1, 3)
    assert DeepinvPhysics(Saturation())(x).flatten().tolist() == [0.0, 0.5, 0.5]
    assert DeepinvPhysics(Saturation(), value_range="signed")(x).flatten().tolist() == [0.0, 0.0, 0.5]
    assert check_operator(DeepinvPhysics(Saturation()), shape=(3, 8, 8))


def test_what_is_no_physics_is_refused():
    with pytest.raises(ValueError, match="no A_adjoint and no A_dagger: operator=deepinv_physics"):
        DeepinvLinear(Saturation())
    with pytest.raises(ValueError, match="Identity has no A: it is no physics"):
        DeepinvPhysics(nn.Identity())
    with pytest.raises(ValueError, match="'unit' or 'signed'"):
        DeepinvPhysics(Saturation(), value_range="bytes")


def test_a_physics_of_the_package():
    physics = pytest.importorskip("deepinv.physics", exc_type=ImportError)
    operator = DeepinvLinear(physics.BlurFFT((3, 8, 8), filter=torch.ones(1, 1, 3, 3) / 9))
    assert check_operator(operator, shape=(3, 8, 8))
