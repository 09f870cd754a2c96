"""Negative controls: each broken operator is refused, and the message names the fault."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import Tensor

from rbctrl.config import build
from rbctrl.operators import BoxMask, DownsampleBicubic, Identity, LinearOperator, Operator
from rbctrl.operators.common import with_buffers
from rbctrl.rng import ImageRNG
from rbctrl.testing import CheckError, check_operator

DEFAULT = inspect.signature(check_operator).parameters["shape"].default


class Wrapped(LinearOperator):
    """An exact operator whose methods are replaced one by one."""

    def __init__(self, inner: LinearOperator) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, image: Tensor) -> Tensor:
        return self.inner(image)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.inner.adjoint(y)

    def image_shape(self, y_shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.inner.image_shape(y_shape)


class NearestTranspose(Wrapped):
    """The released "transpose" of bicubic super-resolution."""

    def adjoint(self, y: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(y, scale_factor=2, mode="nearest")


class NearestInverse(Wrapped):
    def pinv(self, y: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(y, scale_factor=2, mode="nearest")


class Damped(Wrapped):
    def __init__(self, inner: LinearOperator, damping: float) -> None:
        super().__init__(inner)
        self.damping = damping

    def pinv(self, y: Tensor) -> Tensor:
        return (1 - self.damping) * self.inner.pinv(y)


class HalfProx(Wrapped):
    def prox(self, image: Tensor, y: Tensor, rho: float | Tensor) -> Tensor:
        return self.inner.prox(image, y, rho / 2)


class SlightProx(Wrapped):
    def prox(self, image: Tensor, y: Tensor, rho: float | Tensor) -> Tensor:
        return self.inner.prox(image, y, rho) + 1e-4 * image


class WrongSolve(Wrapped):
    def gram_solve(self, v: Tensor, rho: float | Tensor = 0.0) -> Tensor:
        return self.inner.gram_solve(v, rho * 2)

    def prox(self, image: Tensor, y: Tensor, rho: float | Tensor) -> Tensor:
        return self.inner.prox(image, y, rho)


class MeanRho(Wrapped):
    def prox(self, image: Tensor, y: Tensor, rho: float | Tensor) -> Tensor:
        return self.inner.prox(image, y, rho if isinstance(rho, float) else rho.mean().item())


class Offset(Wrapped):
    def forward(self, image: Tensor) -> Tensor:
        return self.inner(image) + 1e-3


class Mixing(Wrapped):
    def forward(self, image: Tensor) -> Tensor:
        return self.inner(image - image.mean(0, keepdim=True))


class Detached(Wrapped):
    def forward(self, image: Tensor) -> Tensor:
        return self.inner(image.detach()) + 0 * image

    def adjoint(self, y: Tensor) -> Tensor:
        return self.inner.adjoint(y)


class WrongShape(Wrapped):
    def image_shape(self, y_shape: tuple[int, ...]) -> tuple[int, ...]:
        return y_shape


class PerSample(LinearOperator):
    """A gain per row, drawn without of_items."""

    items = False
    indexes = True
    in_place = False

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("gain", torch.ones(1, 1, 1, 1))

    def draw(self, rng: ImageRNG, shape: tuple[int, ...]) -> PerSample:
        gain = 1 + (rng.of_items() if self.items else rng).uniform("gain", (1, 1, 1))
        if self.in_place:
            self.gain = gain
            return self
        return with_buffers(self, gain=gain)

    def take(self, rows: Tensor) -> PerSample:
        return with_buffers(self, gain=self.gain[rows]) if self.indexes else self

    def forward(self, image: Tensor) -> Tensor:
        return self.gain * image

    def adjoint(self, y: Tensor) -> Tensor:
        return self.gain * y


class NoTake(PerSample):
    items, indexes = True, False


class InPlace(PerSample):
    items, in_place = True, True


class Sound(PerSample):
    items = True


class Leaky(BoxMask):
    def forward(self, image: Tensor) -> Tensor:
        return image


class Root(Operator):
    """Gradient of |A|^2 is finite, of A itself not: |x|^(1/2) at 0."""

    def forward(self, image: Tensor) -> Tensor:
        return (image - image).sqrt() * image.relu()


class Nan(Operator):
    def forward(self, image: Tensor) -> Tensor:
        return image.log()


class Single(Operator):
    def forward(self, image: Tensor) -> Tensor:
        return image.double() ** 2


class Summed(Operator):
    def forward(self, image: Tensor) -> Tensor:
        return image.sum()


class Square(Operator):
    def forward(self, image: Tensor) -> Tensor:
        return image.square()


def bicubic() -> DownsampleBicubic:
    return DownsampleBicubic(2)


BROKEN = {
    "nearest transpose": (lambda: NearestTranspose(bicubic()), "dot test"),
    "nearest inverse": (lambda: NearestInverse(bicubic()), "pinv"),
    "half prox": (lambda: HalfProx(bicubic()), "prox 0.01"),
    "slight prox": (lambda: SlightProx(bicubic()), "prox 0.01"),
    "wrong solve": (lambda: WrongSolve(bicubic()), "gram_solve 0.01"),
    "mean rho": (lambda: MeanRho(bicubic()), "rho per row"),
    "offset": (lambda: Offset(bicubic()), "linear"),
    "mixing": (lambda: Mixing(bicubic()), "take"),
    "detached": (lambda: Detached(Identity()), "vjp"),
    "wrong shape": (lambda: WrongShape(bicubic()), "image_shape"),
    "per sample": (PerSample, "samples"),
    "no take": (NoTake, "take"),
    "in place": (InPlace, "again"),
    "leaky": (lambda: Leaky(2), "observed"),
    "infinite slope": (Root, "gradient"),
    "nan": (Nan, "finite"),
    "always fp64": (Single, "fp32"),
    "summed": (Summed, "one measurement per image"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_operator_is_refused_for_its_fault(name: str) -> None:
    make, fault = BROKEN[name]
    with pytest.raises(CheckError, match=fault):
        check_operator(make())


def test_the_same_classes_without_their_fault_pass() -> None:
    check_operator(Wrapped(bicubic()))
    check_operator(Sound())
    check_operator(Square())


@pytest.mark.parametrize("name", ["sr4", "inpaint_box", "deblur_motion"])
def test_the_default_shape_suits_the_options_that_ask_most_of_it(name: str, make_rng) -> None:
    """sr4 wants multiples of 4, inpaint_box room for a hole of 64 px, deblur_motion a mirrored margin of 30 px."""
    build("operator", name).draw(make_rng(1), DEFAULT)
    with pytest.raises(ValueError):
        build("operator", name).draw(make_rng(1), (3, 6, 6))  # an earlier default


def test_super_resolution_passes_without_a_shape() -> None:
    assert "dot test" in dict(check_operator(build("operator", "sr4")))


def test_the_message_says_by_how_much() -> None:
    with pytest.raises(CheckError, match=r"pinv: .* differs from A x by 0\.\d+.*allowed: 0\.001"):
        check_operator(NearestInverse(bicubic()))


def test_a_pseudo_inverse_may_damp_what_is_tiny() -> None:
    assert 1e-4 < dict(check_operator(Damped(bicubic(), 4e-4)))["pinv"] < 1e-3
    with pytest.raises(CheckError, match="pinv"):
        check_operator(Damped(bicubic(), 4e-3))


def test_a_nonlinear_operator_called_linear_is_refused() -> None:
    with pytest.raises(CheckError, match="LinearOperator"):
        check_operator(Square(), linear=True)


def test_linear_false_leaves_the_linear_checks_out() -> None:
    assert "dot test" not in dict(check_operator(NearestTranspose(bicubic()), linear=False))


def test_the_operator_is_not_changed() -> None:
    operator = BoxMask(2)
    check_operator(operator)
    assert operator.mask is None
