"""The suite of costs."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from rbctrl.costs import Cost
from rbctrl.noise import GaussianNoise
from rbctrl.observation import Observation, observe
from rbctrl.operators.base import Operator
from rbctrl.operators.identity import Identity
from rbctrl.rng import ImageRNG
from rbctrl.testing.report import CheckError, Report, describe, relative_error, require

_ROWS = (("a", 0), ("b", 0), ("c", 0))


def check_cost(cost: Cost, shape: tuple[int, ...] = (3, 16, 16), operator: Operator | None = None) -> Report:
    """Checks a cost against the contract of `rbctrl.costs.base`.

    One finite number per image; no row that sees another; a finite gradient that finite differences agree with; the
    same value when asked again; fp32 close to fp64.

    Args:
        cost: copied, never changed.
        shape: of one image, [C, H, W].
        operator: what the observation is made with; None is the identity.

    Returns:
        (check, largest relative error) of each check.

    Raises:
        CheckError: the first check that fails.
    """
    cost, rng = copy.deepcopy(cost).double(), ImageRNG(0, _ROWS, torch.float64)
    drawn = copy.deepcopy(operator or Identity()).double().draw(rng, shape)
    obs = observe(drawn, GaussianNoise(0.1), 1.6 * rng.uniform("truth", shape) - 0.8, rng)
    image = 1.6 * rng.uniform("image", shape) - 0.8
    report: Report = []
    values = _values(cost, image, obs)
    require(report, "finite", float((~values.isfinite()).sum()), 0, "the cost gave {} numbers that are not finite")
    for k in range(len(image)):
        row = torch.tensor([k])
        gap = relative_error(_values(cost, image[row], obs.take(row)), values[row])
        require(
            report, "rows", gap, 1e-9, f"image {k} alone costs another value, by {{}}: reduce with .flatten(1), dim=1"
        )
    require(
        report, "again", relative_error(_values(cost, image, obs), values), 1e-12, "the same call later differs by {}"
    )
    _check_gradient(report, cost, image, obs, rng.normal("direction", shape))
    single = copy.deepcopy(cost).float()
    obs32 = Observation(obs.y.float(), copy.deepcopy(drawn).float(), obs.noise)
    gap = relative_error(_values(single, image.float(), obs32).double(), values)
    require(report, "fp32", gap, 1e-3, "fp32 differs from fp64 by {}")
    return report


def _values(cost: Cost, image: Tensor, obs: Observation) -> Tensor:
    values = cost(image, obs).detach()
    if values.shape != (len(image),):
        raise CheckError(f"a cost gives one number per image, [{len(image)}]; this one gave {describe(values)}")
    return values


def _check_gradient(report: Report, cost: Cost, image: Tensor, obs: Observation, direction: Tensor) -> None:
    with torch.enable_grad():
        x = image.clone().requires_grad_()
        values = cost(x, obs)
        if not values.requires_grad:
            raise CheckError("the cost has no gradient: it must be made of torch operations and not be detached")
        (gradient,) = torch.autograd.grad(values.sum(), x)
    broken = float((~gradient.isfinite()).sum())
    require(report, "gradient", broken, 0, "the gradient of the cost has {} numbers that are not finite")
    step = 1e-6
    slope = (_values(cost, image + step * direction, obs) - _values(cost, image - step * direction, obs)) / (2 * step)
    along = (gradient * direction).flatten(1).sum(1)
    require(report, "slope", relative_error(along, slope), 1e-4, "the gradient differs from finite differences by {}")
