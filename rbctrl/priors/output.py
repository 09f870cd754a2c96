"""What the output of a denoising network means.

With x = a x_0 + s eps the estimates of x_0 are

    x0     out                          v     (a x - s out) / (a^2 + s^2),  out = a eps - s x_0
    eps    (x - s out) / a              flow  (x - s out) / (a + s),        out = eps - x_0

and those of eps follow without the detour over x, which loses digits where s or a is small.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from rbctrl.priors.base import Estimate

Parameterization = Literal["x0", "eps", "v", "flow"]


def x0_of(kind: Parameterization, x: Tensor, out: Tensor, a: float, s: float) -> Tensor:
    """x0_hat, like x, of an output at the levels a and s."""
    if kind == "x0":
        return out
    if kind == "eps":
        return x.sub(out, alpha=s) / a
    if kind == "v":
        return (a * x).sub(out, alpha=s) / (a**2 + s**2)
    return x.sub(out, alpha=s) / (a + s)


def estimate_of(kind: Parameterization, x: Tensor, out: Tensor, a: float, s: float) -> Estimate:
    """x0_hat and eps_hat of an output at the levels a and s."""
    x0_hat = x0_of(kind, x, out, a, s)
    if kind == "eps":
        return Estimate(x0_hat, out)
    if kind == "v":
        return Estimate(x0_hat, (s * x).add(out, alpha=a) / (a**2 + s**2))
    if kind == "flow":
        return Estimate(x0_hat, x0_hat + out)
    return Estimate(x0_hat, x.sub(x0_hat, alpha=a).div_(s))
