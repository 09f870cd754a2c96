"""The solves of motion blur where no closed form exists: accuracy in fp32, the preconditioner, and what is said."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor

from rbctrl.operators import Blur, KernelBlur, MotionBlur
from rbctrl.operators.solve import USEFUL, conjugate_gradient, conjugate_residual
from rbctrl.testing.report import relative_error

iterated = pytest.mark.parametrize("boundary", ["reflect", "zero"])


def problem(boundary: str, make_rng, side: int) -> tuple[Blur, Tensor, Tensor]:
    """A 61 pixel kernel, an estimate and the noisy measurement of a smooth image, as in the middle of a run; fp64."""
    rng, shape = make_rng(1), (1, side, side)
    drawn = MotionBlur(61, 0.5, boundary).draw(rng, shape)
    truth = rng.normal("truth", shape).cumsum(-1).cumsum(-2) / side
    return drawn, truth + 0.3 * rng.normal("off", shape), drawn(truth) + 0.05 * rng.normal("noise", shape)


def gram(drawn: Blur, rho: float):
    return lambda w: drawn(drawn.adjoint(w)) + rho * w


def exact_prox(drawn: Blur, image: Tensor, y: Tensor, rho: float) -> Tensor:
    """In fp64; the gradient of the objective bounds its error by |gradient| / rho."""
    w = conjugate_gradient(gram(drawn, rho), y - drawn(image), 1e-13, 3000)
    z = image + drawn.adjoint(w)
    gradient = drawn.adjoint(drawn(z) - y) + rho * (z - image)
    assert gradient.norm() / rho < 1e-5 * (z - image).norm()
    return z


@iterated
def test_fp32_prox_at_small_rho_is_the_fp64_one(boundary: str, make_rng, caplog: pytest.LogCaptureFixture) -> None:
    (drawn, image, y), rho = problem(boundary, make_rng, 64), 1e-4
    z = exact_prox(drawn, image, y, rho)

    def gap(prox: Tensor) -> float:
        return ((prox.double() - z).norm() / (z - image).norm()).item()

    x, y = image.float(), y.float()
    assert gap(drawn.prox(x, y, rho)) < 3e-4
    assert not caplog.records
    old = conjugate_gradient(gram(drawn, rho), y - drawn(x), max_steps=200)
    assert gap(x + drawn.adjoint(old)) > 3e-3  # 200 steps of what this replaced


def reached(drawn: Blur, b: Tensor, rho: float, precondition, steps: int) -> float:
    """The relative residual after so many steps."""
    w = conjugate_residual(gram(drawn, rho), b, precondition, max_steps=steps, warn=lambda _: None)
    return relative_error(gram(drawn, rho)(w), b)


@iterated
@pytest.mark.parametrize(("rho", "steps"), [(1e-1, 10), (1e-2, 30), (1e-4, 250)])
def test_the_preconditioner_gets_further_in_as_many_steps(boundary: str, rho: float, steps: int, make_rng) -> None:
    drawn, image, y = problem(boundary, make_rng, 48)
    b = y - drawn(image)
    plain = reached(drawn, b, rho, None, steps)
    assert reached(drawn, b, rho, drawn.preconditioner(b, rho), steps) < plain / 3


@iterated
def test_rho_alone_in_the_preconditioner_would_be_worse_than_none(boundary: str, make_rng) -> None:
    (drawn, image, y), rho = problem(boundary, make_rng, 48), 1e-4
    b = y - drawn(image)

    def naive(r: Tensor) -> Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(r) / (drawn._gram((48, 48), r) + rho), s=(48, 48))

    plain = reached(drawn, b, rho, None, 250)
    assert reached(drawn, b, rho, naive, 250) > 3 * plain
    assert reached(drawn, b, rho, drawn.preconditioner(b, rho), 250) < plain / 3


@iterated
def test_rho_per_row_may_contain_zero(boundary: str, make_rng) -> None:
    rng = make_rng(3)
    drawn, v = MotionBlur(7, 0.5, boundary).draw(rng, (1, 16, 16)), rng.normal("v", (1, 16, 16))
    rho = torch.tensor([0.1, 0.0, 0.3], dtype=torch.float64).view(3, 1, 1, 1)
    together = drawn.gram_solve(v, rho)
    for k, r in enumerate([0.1, 0.0, 0.3]):
        alone = drawn.take(torch.tensor([k])).gram_solve(v[[k]], torch.full((1, 1, 1, 1), r, dtype=torch.float64))
        assert relative_error(together[[k]], alone) < (1e-9 if r > 0 else 1e-2)  # 500 steps amplify how an FFT rounds


def test_a_kernel_of_zeros_is_solved(make_rng) -> None:
    v = make_rng(2).normal("v", (1, 8, 8))
    black = KernelBlur(torch.zeros(3, 3), "reflect", "as_is")
    torch.testing.assert_close(black.gram_solve(v, 0.1), v / 0.1)
    assert (black.pinv(v) == 0).all()


@iterated
def test_fp32_pinv_of_noise_is_regularised_and_said_to_be(boundary: str, make_rng, caplog) -> None:
    drawn, _, y = problem(boundary, make_rng, 48)
    drawn, y = drawn.float(), y.float()

    def rest(z: Tensor) -> float:
        return ((drawn(z) - y).norm() / y.norm()).item()

    with caplog.at_level(logging.WARNING):
        z = drawn.pinv(y)
    (record,) = caplog.records
    assert f"relative residual is {rest(z):.1e}" in record.getMessage()
    assert "boundary=circular" in record.getMessage()
    assert USEFUL < rest(z) < 0.1
    assert rest(drawn.adjoint(conjugate_gradient(gram(drawn, 0.0), y))) > 0.2


@iterated
def test_an_operator_tells_once_over_all_its_batches(boundary: str, make_rng, caplog) -> None:
    operator, rng = MotionBlur(9, 0.5, boundary), make_rng(2, dtype=torch.float32)
    v = rng.normal("v", (1, 16, 16))
    operator.draw(rng, (1, 16, 16)).gram_solve(v, 0.1)
    assert not caplog.records
    for seed in range(3):
        operator.draw(make_rng(2, seed=seed, dtype=torch.float32), (1, 16, 16)).gram_solve(v, 1e-9)
    assert len(caplog.records) == 1


@iterated
def test_the_solve_of_a_row_ignores_the_other_rows_up_to_the_rounding_of_transforms(boundary: str, make_rng) -> None:
    drawn, v = MotionBlur(7, 0.5, boundary).draw(make_rng(3), (1, 16, 16)), make_rng(3).normal("v", (1, 16, 16))
    v[1] *= 1e6
    together = drawn.gram_solve(v, 1e-2)
    for k in range(3):
        one = drawn.take(torch.tensor([k]))
        assert relative_error(one.gram_solve(v[[k]], 1e-2), together[[k]]) < 1e-10
        assert relative_error(one.gram_solve(v[[k]], 1.01e-2), together[[k]]) > 1e-3
