"""A = U S V^T of every operator that offers it, against its dense matrix, built column by column."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from rbctrl.operators import (
    SVD,
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
from rbctrl.operators.matrix import Matrix

SHAPE = (2, 6, 8)
WIDE = [[2.0, 1.0, 0.0], [0.5, -1.0, 1.0]]
FEW = [[math.sin(k * j) for k in range(1, 13)] for j in (1, 2)]  # no matrix of 12 x 12 numbers is made
IMAGES = {
    "identity": Identity,
    "box": lambda: BoxMask(3, margin=1),
    "random": lambda: RandomMask(0.7),
    "freeform": lambda: FreeformMask((0.1, 0.4)),
    "half": lambda: HalfMask("bottom"),
    "downsample": lambda: Downsample(2),
    "downsample_bicubic": lambda: DownsampleBicubic(2),
    "gaussian_reflect": lambda: GaussianBlur(0.7, "reflect"),
    "gaussian_circular": lambda: GaussianBlur(0.7, "circular"),
    "gaussian_zero": lambda: GaussianBlur(0.7, "zero"),
    "grayscale": lambda: Grayscale("luma"),
    "hadamard": lambda: Hadamard(0.4),
    "block_sensing": lambda: BlockSensing(0.6, 2),
    "fourier": lambda: UndersampledFourier(2, 0.25),
    "fourier_odd": lambda: UndersampledFourier(1.5, 0.2),
}
SHAPES = {"grayscale": (3, 4, 5), "hadamard": (2, 4, 8), "fourier_odd": (1, 5, 7)}
VECTORS = {
    "wide": lambda: Matrix(WIDE),
    "tall": lambda: Matrix(torch.tensor(WIDE).T),
    "rank_one": lambda: Matrix([[1.0, 2.0], [2.0, 4.0], [0.0, 0.0]]),
    "few_rows": lambda: Matrix(FEW),
    "few_rows_of_rank_one": lambda: Matrix([FEW[0], FEW[0]]),
    "few_entries": lambda: Matrix([[3.0, *[0.0] * 11], [0.0, 0.0, 2.0, *[0.0] * 9]]),
}
every = pytest.mark.parametrize("name", [*IMAGES, *VECTORS])


def problem(name: str, make_rng, n: int = 3) -> tuple[LinearOperator, torch.Tensor]:
    """The drawn operator and n images."""
    rng = make_rng(n)
    if name in IMAGES:
        shape = SHAPES.get(name, SHAPE)
        return IMAGES[name]().double().draw(rng, shape), rng.normal("x", shape)
    operator = VECTORS[name]()
    return operator, rng.normal("x", (operator.matrix.shape[1],))


def units(shape: tuple[int, ...]) -> torch.Tensor:
    n = int(np.prod(shape))
    return torch.eye(n, dtype=torch.float64).view(n, *shape)


def gaps(operator: LinearOperator, x: torch.Tensor, row: int = 0, change=lambda svd: svd) -> dict[str, float]:
    """How far `change(svd)` of one row is from a decomposition of the dense matrix; all 0 for one."""
    e = units(tuple(x.shape[1:]))
    one = operator.take(torch.full((len(e),), row))
    a = one(e).flatten(1).T
    svd: SVD = change(one.svd(e))
    v_t, v = svd.to_v(e).flatten(1).T, svd.from_v(e).flatten(1).T
    y = units(tuple(one(e).shape[1:]))
    measured = operator.take(torch.full((len(y),), row))
    u_t = change(measured.svd(x.new_zeros(len(y), *x.shape[1:]))).to_u(y).flatten(1).T
    s = svd.s.expand_as(e)[0].flatten()
    return {
        "A": float((u_t.T @ (s[:, None] * v_t) - a).abs().max()),
        "V": float((v_t @ v_t.T - torch.eye(len(e), dtype=torch.float64)).abs().max()),
        "inverse": float((v - v_t.T).abs().max()),
        "U": float((u_t @ u_t.T - torch.diag((s > 0).to(s))).abs().max()),
        "sign": float((-s).clamp(min=0).max()),
    }


@every
def test_svd_is_that_of_the_dense_matrix(name: str, make_rng) -> None:
    operator, x = problem(name, make_rng)
    for row in range(len(x)):
        assert max(gaps(operator, x, row).values()) < 1e-12


def turned(svd: SVD) -> SVD:
    return replace(svd, to_v=lambda x: svd.to_v(x).flip(-1), from_v=lambda c: svd.from_v(c.flip(-1)))


WRONG = {
    "A": lambda svd: replace(svd, s=2 * svd.s),
    "V": lambda svd: replace(svd, to_v=lambda x: 1.01 * svd.to_v(x)),
    "inverse": lambda svd: replace(svd, from_v=svd.to_v),
    "U": lambda svd: replace(svd, to_u=lambda y: -1.01 * svd.to_u(y)),
    "sign": lambda svd: replace(svd, s=-svd.s, to_u=lambda y: -svd.to_u(y)),
}


@pytest.mark.parametrize("claim", WRONG)
def test_a_wrong_svd_is_rejected(claim: str, make_rng) -> None:
    operator, x = problem("downsample_bicubic", make_rng)
    assert gaps(operator, x, change=WRONG[claim])[claim] > 1e-2
    assert gaps(operator, x, change=turned)["A"] > 1e-2  # an orthonormal V, but another one


@every
def test_a_times_x_is_s_times_xbar(name: str, make_rng) -> None:
    operator, x = problem(name, make_rng)
    svd = operator.svd(x)
    torch.testing.assert_close(svd.to_u(operator(x)), svd.s * svd.to_v(x), rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(operator(x).flatten(1).norm(dim=1), (svd.s * svd.to_v(x)).flatten(1).norm(dim=1))


@every
def test_solve_is_the_pseudo_inverse(name: str, make_rng) -> None:
    operator, x = problem(name, make_rng)
    y = make_rng(len(x)).normal("y", tuple(operator(x).shape[1:]))
    svd = operator.svd(x)
    torch.testing.assert_close(svd.from_v(svd.solve(y)), operator.pinv(y), rtol=1e-10, atol=1e-12)


@every
def test_rows_are_decomposed_one_by_one_and_v_is_shared(name: str, make_rng) -> None:
    operator, x = problem(name, make_rng)
    whole = operator.svd(x)
    for k in range(len(x)):
        row = torch.tensor([k])
        one = operator.take(row).svd(x[row])
        torch.testing.assert_close(one.s.expand_as(x[row]), whole.s.expand_as(x)[row], rtol=0, atol=0)
        torch.testing.assert_close(whole.to_v(x[row]), one.to_v(x[row]), rtol=0, atol=0)


def test_masks_differ_from_row_to_row(make_rng) -> None:
    operator, x = problem("random", make_rng)
    assert not torch.equal(operator.svd(x).s[0], operator.svd(x).s[1])


def test_mask_file_has_an_svd(tmp_path, make_rng) -> None:
    Image.fromarray((np.indices((6, 8)).sum(0) % 3 == 0).astype(np.uint8) * 255).save(tmp_path / "mask.png")
    operator = MaskFile(tmp_path / "mask.png").draw(make_rng(2), SHAPE)
    assert max(gaps(operator, make_rng(2).normal("x", SHAPE)).values()) < 1e-12


@every
def test_v_is_the_identity_where_it_says_so(name: str, make_rng) -> None:
    operator, x = problem(name, make_rng)
    svd = operator.svd(x)
    assert svd.is_diagonal == torch.equal(svd.to_v(x), x)


def test_what_the_pseudo_inverse_cuts_off_is_unseen(make_rng) -> None:
    blur, x = GaussianBlur(3.0, "zero"), make_rng(1).normal("x", (1, 12, 12))
    svd, y = blur.svd(x), make_rng(1).normal("y", (1, 12, 12))
    values = np.linalg.svd(np.kron(blur.matrix(12), blur.matrix(12)), compute_uv=False)
    assert int((svd.s > 0).sum()) == int((values > CUTOFF * values.max()).sum()) < 144
    torch.testing.assert_close(svd.from_v(svd.solve(y)), blur.pinv(y), rtol=1e-8, atol=1e-8)
    assert not svd.to_u(y)[0][:, svd.s == 0].any()


def test_factors_are_made_once_per_shape_and_dtype(make_rng) -> None:
    blur, x = GaussianBlur(1.0), make_rng(2).normal("x", SHAPE)
    assert blur.svd(x).s is blur.svd(x[:1]).s
    single = blur.svd(x.float())
    assert single.s.dtype == single.to_v(x.float()).dtype == torch.float32
    assert len(blur._kept_svd) == 2


def test_fp32_keeps_the_norm_at_128_pixels(make_rng) -> None:
    x = make_rng(1, dtype=torch.float32).normal("x", (3, 128, 128))
    svd = DownsampleBicubic(4).svd(x)
    assert (svd.from_v(svd.to_v(x)) - x).norm() < 1e-5 * x.norm()


@pytest.mark.parametrize("operator", [MotionBlur(5, 0.5), KernelBlur(np.eye(3), "circular")])
def test_other_blurs_offer_none(operator: LinearOperator, make_rng) -> None:
    rng = make_rng(1)
    assert operator.draw(rng, SHAPE).svd(rng.normal("x", SHAPE)) is None


@pytest.mark.parametrize("name", ["wide", "few_rows", "few_rows_of_rank_one", "few_entries"])
def test_the_coordinates_that_a_sees_come_alone_where_they_are_few(name: str, make_rng) -> None:
    operator, x = problem(name, make_rng)
    whole, y = operator.svd(x), operator(x)
    seen, k = whole.seen, len(operator.matrix)
    assert torch.equal(seen.s, whole.s[:k]) and (whole.s[k:] == 0).all()
    for found, right in ((seen.to_v(x), whole.to_v(x)), (seen.to_u(y), whole.to_u(y)), (seen.solve(y), whole.solve(y))):
        assert torch.allclose(found, right[:, :k], rtol=0, atol=1e-12)
    padded = torch.nn.functional.pad(y, (0, x.shape[1] - k))
    assert torch.allclose(seen.from_v(y), whole.from_v(padded), rtol=0, atol=1e-12)
    assert not torch.allclose(seen.from_v(y), whole.from_v(padded.flip(1)))
