"""Every linear operator against the shared suite and against its dense matrix, built column by column."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from rbctrl.operators import (
    BlockSensing,
    BoxMask,
    Downsample,
    DownsampleBicubic,
    FreeformMask,
    GaussianBlur,
    Grayscale,
    Hadamard,
    HalfMask,
    Identity,
    KernelBlur,
    LinearOperator,
    MaskFile,
    MotionBlur,
    RandomMask,
    UndersampledFourier,
)
from rbctrl.operators.common import CUTOFF
from rbctrl.rng import ImageRNG
from rbctrl.testing import check_operator

SHAPE = (2, 6, 8)
KERNEL = np.random.default_rng(0).random((3, 5)) + np.eye(3, 5, 1)
LINEAR = {
    "identity": Identity,
    "box": lambda: BoxMask(3, margin=1),
    "box_centre": lambda: BoxMask(3, "centre"),
    "random": lambda: RandomMask(0.7),
    "freeform": lambda: FreeformMask((0.1, 0.4)),
    "half_left": lambda: HalfMask("left"),
    "half_bottom": lambda: HalfMask("bottom"),
    "downsample": lambda: Downsample(2),
    "downsample_bicubic": lambda: DownsampleBicubic(2),
    "grayscale": Grayscale,
    "grayscale_luma": lambda: Grayscale("luma"),
    "hadamard": lambda: Hadamard(0.4),
    "hadamard_plain": lambda: Hadamard(0.4, "none"),
    "block_sensing": lambda: BlockSensing(0.6, 2),
    "fourier": lambda: UndersampledFourier(2, 0.25),
    "fourier_odd": lambda: UndersampledFourier(1.5, 0.2),
} | {
    f"{name}_{boundary}": (lambda make=make, boundary=boundary: make(boundary))
    for boundary in ("reflect", "circular", "zero")
    for name, make in {
        "gaussian": lambda boundary: GaussianBlur(0.7, boundary),
        "motion": lambda boundary: MotionBlur(5, 0.5, boundary),
        "kernel": lambda boundary: KernelBlur(KERNEL, boundary),
    }.items()
}
SHAPES = {
    "grayscale": (3, 4, 5),
    "grayscale_luma": (3, 4, 5),
    "hadamard": (2, 4, 8),
    "hadamard_plain": (2, 4, 8),
    "fourier_odd": (1, 5, 7),
}
every = pytest.mark.parametrize("name", LINEAR)


def shape_of(name: str) -> tuple[int, ...]:
    return SHAPES.get(name, SHAPE)


def dense(drawn: LinearOperator, row: int, shape: tuple[int, ...]) -> torch.Tensor:
    n = int(np.prod(shape))
    images = torch.eye(n, dtype=torch.float64).view(n, *shape)
    return drawn.take(torch.full((n,), row))(images).flatten(1).T


def problem(name: str, make_rng) -> tuple[LinearOperator, torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    rng: ImageRNG = make_rng(3)
    drawn = LINEAR[name]().double().draw(rng, shape_of(name))
    x = rng.normal("x", shape_of(name))
    v = rng.normal("v", tuple(drawn(x).shape[1:]))
    return drawn, x, v, [dense(drawn, row, shape_of(name)) for row in range(3)]


def rows_of(matrices: list[torch.Tensor], vectors: torch.Tensor) -> torch.Tensor:
    return torch.stack([a @ u for a, u in zip(matrices, vectors.flatten(1), strict=True)])


@every
def test_keeps_the_contract(name: str) -> None:
    report = check_operator(LINEAR[name](), shape_of(name))
    assert {"dot test", "vjp", "pinv", "prox 0.01", "rho per row", "fp32"} <= {check for check, _ in report}


def test_mask_file_keeps_the_contract(tmp_path) -> None:
    Image.fromarray((np.indices((6, 8)).sum(0) % 3 == 0).astype(np.uint8) * 255).save(tmp_path / "mask.png")
    check_operator(MaskFile(tmp_path / "mask.png"), SHAPE)


@every
def test_forward_and_adjoint_are_the_dense_matrix_and_its_transpose(name: str, make_rng) -> None:
    drawn, x, v, matrices = problem(name, make_rng)
    torch.testing.assert_close(drawn(x).flatten(1), rows_of(matrices, x), rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(drawn.adjoint(v).flatten(1), rows_of([a.T for a in matrices], v), rtol=1e-11, atol=1e-12)


@every
def test_pinv_is_the_dense_pseudo_inverse(name: str, make_rng) -> None:
    drawn, _, v, matrices = problem(name, make_rng)
    conditions = [s[0] / s[s > 1e-10 * s[0]].min() for s in map(torch.linalg.svdvals, matrices)]
    assert max(conditions) < 1 / CUTOFF  # so that no closed form cuts anything off
    expected = rows_of([torch.linalg.pinv(a) for a in matrices], v)
    gap = (drawn.pinv(v).flatten(1) - expected).norm() / expected.norm()
    assert gap < 1e-10


@every
@pytest.mark.parametrize("rho", [0.01, 1.0])
def test_prox_and_gram_solve_are_the_dense_solutions(name: str, rho: float, make_rng) -> None:
    drawn, x, v, matrices = problem(name, make_rng)
    inverses = [torch.linalg.inv(a @ a.T + rho * torch.eye(len(a), dtype=a.dtype)) for a in matrices]
    torch.testing.assert_close(drawn.gram_solve(v, rho).flatten(1), rows_of(inverses, v), rtol=1e-8, atol=1e-9)
    normal = [torch.linalg.inv(a.T @ a + rho * torch.eye(a.shape[1], dtype=a.dtype)) for a in matrices]
    right = rows_of([a.T for a in matrices], v) + rho * x.flatten(1)
    torch.testing.assert_close(drawn.prox(x, v, rho).flatten(1), rows_of(normal, right), rtol=1e-8, atol=1e-9)


@every
def test_a_batch_is_its_rows_in_any_order(name: str, make_rng) -> None:
    drawn, x, _, _ = problem(name, make_rng)
    order = torch.tensor([2, 0, 2])
    torch.testing.assert_close(drawn.take(order)(x[order]), drawn(x)[order], rtol=1e-12, atol=1e-13)


@every
def test_drawing_and_taking_leave_the_operator_alone(name: str, make_rng) -> None:
    drawn, x, _, _ = problem(name, make_rng)
    before = drawn(x)
    drawn.draw(make_rng(3, seed=1), shape_of(name))
    drawn.take(torch.tensor([1]))(x[:1])
    assert torch.equal(drawn(x), before)


@every
def test_all_samples_of_an_item_share_the_operator_and_items_do_not(name: str, make_rng) -> None:
    rng = make_rng(4, 2)
    shape = shape_of(name)
    drawn = LINEAR[name]().draw(rng, shape)
    x = make_rng(1).normal("x", shape).expand(8, *shape)
    y = drawn(x)
    assert torch.equal(y[::2], y[1::2])
    if name in ("box", "random", "freeform", "motion_reflect", "hadamard", "fourier_odd"):
        assert not torch.equal(y[0], y[2])


@every
def test_gradient_passes_through_the_adjoint(name: str, make_rng) -> None:
    drawn, _, v, _ = problem(name, make_rng)
    y = v.clone().requires_grad_()
    (grad,) = torch.autograd.grad(drawn.adjoint(y).square().sum(), y)
    torch.testing.assert_close(grad, 2 * drawn(drawn.adjoint(v)), rtol=1e-9, atol=1e-11)
