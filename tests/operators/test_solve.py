"""The iterative solvers against dense solutions, and what becomes of rows that cannot converge."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor

from rbctrl.operators import LinearOperator
from rbctrl.operators.solve import USEFUL, conjugate_gradient, conjugate_residual


def spectrum(condition: float, dtype: torch.dtype = torch.float64, n: int = 40) -> Tensor:
    """Eigenvalues [1, n] from 1 / condition to 1."""
    return torch.logspace(0, 1, n, 1 / condition, dtype=torch.float64).to(dtype)[None]


def residual(values: Tensor, b: Tensor, x: Tensor) -> Tensor:
    """Relative, [B]; K is diagonal."""
    return (b - values * x).norm(dim=1) / b.norm(dim=1)


@pytest.fixture
def b(make_rng) -> Tensor:
    return make_rng(3).normal("b", (40,))


def test_the_dense_solution_is_found_with_and_without_preconditioner(make_rng) -> None:
    a, b = make_rng(3).normal("a", (12, 12)), make_rng(3).normal("b", (12,))
    k = a @ a.mT + 0.1 * torch.eye(12, dtype=torch.float64)
    expected = torch.linalg.solve(k, b)
    diagonal = k.diagonal(dim1=1, dim2=2)

    def gap(precondition, max_steps: int) -> float:
        x = conjugate_residual(lambda v: (k @ v[..., None])[..., 0], b, precondition, max_steps=max_steps)
        return ((x - expected).norm() / expected.norm()).item()

    for precondition in (None, lambda r: r / diagonal):
        assert gap(precondition, 100) < 1e-9
        assert gap(precondition, 8) > 1e-5  # it takes 12


def test_a_good_preconditioner_needs_fewer_products(b: Tensor) -> None:
    values, count = spectrum(1e4), []

    def matvec(x: Tensor) -> Tensor:
        count.append(1)
        return values * x

    def products(precondition) -> int:
        count.clear()
        assert residual(values, b, conjugate_residual(matvec, b, precondition, tol=1e-10)).max() < 1e-10
        return len(count)

    assert products(lambda r: r / (values + 1e-3)) < products(None) / 2
    assert products(lambda r: r * values) > products(None)  # a wrong one


def test_k_steps_are_k_products_and_a_few(b: Tensor) -> None:
    count = []

    def matvec(x: Tensor) -> Tensor:
        count.append(1)
        return spectrum(1e6) * x

    conjugate_residual(matvec, b, tol=0.0, max_steps=20)
    assert len(count) == 1 + 20 + 2  # the first residual, the steps, the measured residuals
    count.clear()
    conjugate_gradient(matvec, b, tol=0.0, max_steps=20)
    assert len(count) == 20


def test_a_solve_cut_short_has_the_smaller_residual_the_longer_it_ran(b: Tensor) -> None:
    values = spectrum(1e5)

    def reached(solve) -> Tensor:
        return torch.stack([residual(values, b, solve(lambda x: values * x, b, max_steps=k)) for k in range(1, 25)])

    assert (reached(conjugate_residual).diff(dim=0) < 0).all()
    assert reached(conjugate_residual).max() < 1
    assert reached(conjugate_gradient).max() > 2  # worse than x = 0


def test_the_limit_for_a_singular_matrix_is_a_least_squares_solution(make_rng) -> None:
    a, b = make_rng(3).normal("a", (8, 5)), make_rng(3).normal("b", (8,))
    expected = (torch.linalg.pinv(a) @ b[..., None])[..., 0]

    def gap(solve) -> float:
        x = solve(lambda v: (a @ (a.mT @ v[..., None]))[..., 0], b)
        z = (a.mT @ x[..., None])[..., 0]
        return ((z - expected).norm() / expected.norm()).item()

    assert gap(lambda matvec, b: conjugate_residual(matvec, b, warn=lambda _: None)) < 1e-6
    assert gap(conjugate_gradient) > 1e-2


def test_going_on_after_rounding_stopped_the_descent_does_no_harm(b: Tensor) -> None:
    values = spectrum(1e3, torch.float32)

    def matvec(x: Tensor) -> Tensor:
        return (values * (x + 1e-6 * x.roll(1, 1))).float()  # not quite symmetric, as rounded transforms are

    error = residual(values, b.float(), conjugate_residual(matvec, b.float(), tol=0.0, max_steps=2000))
    assert error.max() < 1e-3
    worst = residual(values, b.float(), conjugate_gradient(matvec, b.float(), tol=0.0, max_steps=2000))
    assert not worst.max() < 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_row_does_not_depend_on_the_others(b: Tensor, dtype: torch.dtype) -> None:
    values = torch.cat([spectrum(10), spectrum(1e12), spectrum(300)]).to(dtype)
    b = torch.stack([b[0], 1e6 * b[1], b[2]]).to(dtype)

    def solve(rows: list[int], precondition=None) -> Tensor:
        return conjugate_residual(lambda x: values[rows] * x, b[rows], precondition, max_steps=97, warn=lambda _: None)

    together = solve([0, 1, 2])
    for k in range(3):
        assert torch.equal(solve([k])[0], together[k])
    mixed = solve([0, 1, 2], lambda r: r / values.mean())
    alone = solve([0], lambda r: r / values[[0]].mean())
    assert not torch.equal(mixed[0], alone[0])  # a preconditioner that reduces over the batch


def test_a_row_that_is_nan_stays_nan_and_a_zero_row_zero(b: Tensor) -> None:
    values = spectrum(10)
    broken = b.clone()
    broken[0, 3], broken[1] = torch.nan, 0.0
    x = conjugate_residual(lambda v: values * v, broken)
    assert x[0].isnan().any()
    assert (x[1] == 0).all()
    assert torch.equal(x[2], conjugate_residual(lambda v: values * v, b)[2])


def test_what_did_not_converge_is_told_and_what_did_is_not(b: Tensor, caplog: pytest.LogCaptureFixture) -> None:
    values = torch.cat([spectrum(10), spectrum(1e8), spectrum(10)])
    with caplog.at_level(logging.WARNING):
        x = conjugate_residual(lambda v: values * v, b, max_steps=30)
    (message,) = [record.getMessage() for record in caplog.records]
    worst = residual(values, b, x)
    assert worst[1] > USEFUL > worst[[0, 2]].max()
    assert "1 of 3 rows" in message
    assert "float64" in message
    assert f"after 30 steps the relative residual is {worst[1]:.1e}" in message
    caplog.clear()
    conjugate_residual(lambda v: values[[0]] * v, b, max_steps=30)
    conjugate_residual(lambda v: values * v, b, tol=1.0, max_steps=30)  # what was asked for
    assert not caplog.records


class Fog(LinearOperator):
    """A user's operator: forward and adjoint, and nothing else."""

    def __init__(self, condition: float) -> None:
        super().__init__()
        self.values = spectrum(condition).sqrt().view(1, 1, 5, 8)

    def forward(self, image: Tensor) -> Tensor:
        return self.values.to(image) * image

    def adjoint(self, y: Tensor) -> Tensor:
        return self.values.to(y) * y


def test_an_operator_tells_once_and_names_itself_and_a_way_out(make_rng, caplog: pytest.LogCaptureFixture) -> None:
    y = make_rng(2).normal("y", (3, 5, 8))
    fog = Fog(1e12)
    fog.draw(make_rng(2), (3, 5, 8)).prox(y, y, 1.0)
    assert not caplog.records
    for _ in range(2):
        fog.draw(make_rng(2), (3, 5, 8)).float().pinv(y.float())
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.name == "rbctrl.operators.base"
    assert "Fog" in record.getMessage()
    assert "larger noise" in record.getMessage()
    Fog(1e12).pinv(y.float())
    assert len(caplog.records) == 2
