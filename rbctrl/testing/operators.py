"""The suite of operators."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from rbctrl.operators.base import LinearOperator, Operator, PseudoInvertible
from rbctrl.rng import ImageRNG
from rbctrl.testing.report import CheckError, Report, describe, relative_error, require

_ROWS = (("a", 0), ("a", 1), ("b", 0), ("c", 0))  # two samples of one item among three items


def check_operator(operator: Operator, shape: tuple[int, ...] = (3, 128, 128), linear: bool | None = None) -> Report:
    """Checks an operator against the contract of `rbctrl.operators.base`.

    For any operator: finite measurements, the same for any batch split, one measurement for all samples of an item,
    `draw` that leaves the original alone, `take`, `image_shape`, `observed`, `guess`, a finite gradient, fp32. With a
    pseudo-inverse A A^+ A = A (up to 1e-3, as it may cut tiny singular values off). For a linear one also linearity,
    the exact transpose, the optimality of `prox` and `gram_solve`.

    Args:
        operator: not drawn yet. It is copied, never changed.
        shape: of one image, [C, H, W]; the default suits all options of conf/operator that measure images.
        linear: whether to run the linear checks; None: if it is a LinearOperator.

    Returns:
        (check, largest relative error) of each check.

    Raises:
        CheckError: the first check that fails.
    """
    operator, rng = copy.deepcopy(operator), ImageRNG(0, _ROWS, torch.float64)
    operator.load()
    operator.double()
    if linear is None:
        linear = isinstance(operator, LinearOperator)
    if linear and not isinstance(operator, LinearOperator):
        raise CheckError(f"{type(operator).__name__} is called linear: derive it from LinearOperator and write adjoint")
    image = 2 * rng.uniform("image", shape) - 1
    report: Report = []
    with torch.no_grad():
        drawn = operator.draw(rng, shape)
        _check_rows(report, operator, drawn, image, rng)
        _check_y(report, drawn, image)
        if linear:
            _check_transpose(report, drawn, image, rng)
        if isinstance(drawn, PseudoInvertible):
            again = relative_error(drawn(drawn.pinv(drawn(image))), drawn(image))
            require(report, "pinv", again, 1e-3, "A A^+ A x differs from A x by {}: pinv is no pseudo-inverse")
        if linear:
            _check_solves(report, drawn, image, rng)
    _check_gradient(report, drawn, image, linear)
    _check_fp32(report, drawn, image, linear)
    return report


def _check_rows(report: Report, operator: Operator, drawn: Operator, image: Tensor, rng: ImageRNG) -> None:
    y, shape = drawn(image), tuple(image.shape[1:])
    if not isinstance(y, Tensor) or y.ndim == 0 or len(y) != len(image):
        raise CheckError(f"forward must give one measurement per image: {len(image)} images gave {describe(y)}")
    require(report, "finite", float((~y.isfinite()).sum()), 0, "forward gave {} numbers that are not finite")
    rows = [torch.tensor([k]) for k in range(len(image))]
    for k, row in enumerate(rows):
        gap = relative_error(drawn.take(row)(image[row]), y[row])
        require(report, "take", gap, 1e-10, f"row {k} alone differs from the batch by {{}}: take(rows) must index")
    for k, row in enumerate(rows):
        gap = relative_error(operator.draw(rng.take(row), shape)(image[row]), y[row])
        require(report, "draw", gap, 1e-10, f"drawn alone, row {k} differs from the batch by {{}}: use the rng's rows")
    samples = drawn(image[:1].expand_as(image))[:2]
    shared = relative_error(samples[1:], samples[:1])
    require(report, "samples", shared, 1e-10, "two samples of one item differ by {}: draw from rng.of_items()")
    again = relative_error(drawn(image), y)
    require(report, "again", again, 1e-10, "the same call later differs by {}: draw must return a new operator")


def _check_y(report: Report, drawn: Operator, image: Tensor) -> None:
    y = drawn(image)
    if drawn.image_shape(tuple(y.shape[1:])) != tuple(image.shape[1:]):
        raise CheckError(
            f"image_shape{tuple(y.shape[1:])} is {drawn.image_shape(tuple(y.shape[1:]))}, not {tuple(image.shape[1:])}"
        )
    guess = drawn.guess(y)
    if guess.shape != image.shape or not guess.isfinite().all():
        raise CheckError(f"guess gave {describe(guess)} for images {tuple(image.shape)}: it must be a finite image")
    if drawn.observed is None:
        return
    hidden = y.where(drawn.observed == 0, 0.0).abs().max().item()
    require(report, "observed", hidden, 0, "forward gives up to {} where `observed` is 0; it must give 0 there")


def _check_transpose(report: Report, drawn: LinearOperator, image: Tensor, rng: ImageRNG) -> None:
    other, y = 2 * rng.uniform("other", tuple(image.shape[1:])) - 1, drawn(image)
    mixed = relative_error(drawn(0.3 * image - 1.7 * other), 0.3 * y - 1.7 * drawn(other))
    require(report, "linear", mixed, 1e-10, "A(ax + bz) differs from a A(x) + b A(z) by {}: not linear (an offset?)")
    v = rng.normal("v", tuple(y.shape[1:]))
    back = drawn.adjoint(v)
    if back.shape != image.shape:
        raise CheckError(f"adjoint gave {describe(back)} for images {tuple(image.shape)}")
    dots = (y * v).flatten(1).sum(1), (image * back).flatten(1).sum(1)
    size = torch.linalg.vector_norm(y.flatten(1), dim=1) * torch.linalg.vector_norm(v.flatten(1), dim=1)
    gap = ((dots[0] - dots[1]).abs() / size).max().item()
    require(report, "dot test", gap, 1e-10, "<A x, v> and <x, A^T v> differ by {} of |A x||v|: adjoint is no transpose")
    with torch.enable_grad():
        x = image.clone().requires_grad_()
        (pulled,) = torch.autograd.grad(drawn(x), x, v)
    require(report, "vjp", relative_error(back, pulled), 1e-10, "adjoint differs from the gradient of <A x, v> by {}")


def _check_solves(report: Report, drawn: LinearOperator, image: Tensor, rng: ImageRNG) -> None:
    y = drawn(image)
    v = rng.normal("v", tuple(y.shape[1:]))
    for rho in (0.01, 1.0):
        z = drawn.prox(image, v, rho)
        pull, hold = drawn.adjoint(v - drawn(z)), rho * (z - image)
        slope = relative_error(pull, hold)
        require(report, f"prox {rho}", slope, 1e-6, "prox leaves A^T(A z - y) + rho (z - x) at {} of its terms")
        solved = drawn.gram_solve(v, rho)
        rest = relative_error(drawn(drawn.adjoint(solved)) + rho * solved, v)
        require(report, f"gram_solve {rho}", rest, 1e-6, "(A A^T + rho) gram_solve(v) differs from v by {}")
        both = relative_error(image + drawn.adjoint(drawn.gram_solve(v - drawn(image), rho)), z)
        require(report, f"prox = gram_solve {rho}", both, 1e-6, "prox and gram_solve disagree by {}")
    if y.ndim == image.ndim:
        _check_rho_per_row(report, drawn, image, v)


def _check_rho_per_row(report: Report, drawn: LinearOperator, image: Tensor, v: Tensor) -> None:
    rho = torch.linspace(0.1, 0.4, len(image), dtype=image.dtype).view(-1, *[1] * (image.ndim - 1))
    alone = [drawn.take(torch.tensor([k])).prox(image[[k]], v[[k]], r.item()) for k, r in enumerate(rho)]
    gap = relative_error(drawn.prox(image, v, rho), torch.cat(alone))
    require(report, "rho per row", gap, 1e-6, "prox with rho [B, 1, ...] differs from row by row by {}")


def _check_gradient(report: Report, drawn: Operator, image: Tensor, linear: bool) -> None:
    with torch.enable_grad():
        x = image.clone().requires_grad_()
        y = drawn(x)
        if not y.requires_grad:
            if linear:
                raise CheckError("forward has no gradient: it must be made of torch operations and not be detached")
            return
        (gradient,) = torch.autograd.grad(y.square().sum(), x)
    broken = float((~gradient.isfinite()).sum())
    require(report, "gradient", broken, 0, "the gradient of |A(x)|^2 has {} numbers that are not finite")


def _check_fp32(report: Report, drawn: Operator, image: Tensor, linear: bool) -> None:
    y = drawn(image).detach()
    single = copy.deepcopy(drawn).float()(image.float()).detach()
    if single.dtype != torch.float32:
        raise CheckError(
            f"fp32 images gave {single.dtype}: register tensors as buffers, or take the dtype of the image"
        )
    gap = relative_error(single.double(), y) if linear else float((~single.isfinite()).sum())
    message = "fp32 differs from fp64 by {}" if linear else "fp32 gave {} numbers that are not finite"
    require(report, "fp32", gap, 1e-4 if linear else 0, message)
