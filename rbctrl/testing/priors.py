"""The suite of priors: does this network denoise photographs, under the conventions it was declared with?"""

from __future__ import annotations

import copy
from typing import get_args

import torch
from torch import Tensor

from rbctrl.data.sources import Photos
from rbctrl.grids import LogSNR
from rbctrl.priors.base import Estimate, Prior
from rbctrl.priors.network import NetworkPrior, Parameterization
from rbctrl.rng import ImageRNG
from rbctrl.testing.report import CheckError, Report, relative_error, require

LEVELS = (0.1, 0.3, 1.0)  # sigma / alpha, on [-1, 1]
_NAMES = ["china", "rocket", "camera"]


def check_prior(prior: Prior, shape: tuple[int, ...] | None = None) -> Report:
    """Checks a prior against the contract of `rbctrl.priors.base`, on training photographs of this package.

    Estimates are finite and add up to x_t; no row sees another; for a prior of RGB images, x0_hat is nearer to the
    image than x_t / alpha is, at three noise levels. If it is not, the parameterisations are tried and the fitting
    one is named.

    Args:
        prior: loaded here.
        shape: of one image, [3, S, S]; None is that of the prior, else (3, 64, 64). A prior of other states is
            checked on random ones of its own shape.

    Returns:
        (check, value): relative errors, and the gain in dB of x0_hat over x_t / alpha at each level.

    Raises:
        CheckError: the first check that fails.
    """
    prior.load()
    own = getattr(prior, "shape", None)
    shape = tuple(shape or own or (3, 64, 64))
    images = _images(shape) if len(shape) == 3 and shape[0] == 3 else None
    rng = ImageRNG(0, tuple((name, 0) for name in _NAMES))
    report: Report = []
    states = prior.state_shape(shape)
    for level in LEVELS:
        t = LogSNR(_log_snr(level), 9.0).times(prior.schedule, 1)[0]
        alpha, sigma = (float(v) for v in prior.schedule.levels(t))
        clean = rng.normal("x0", states) if images is None else prior.codec.encode(images)
        x_t = alpha * clean + sigma * rng.normal(f"level {level}", states)
        est = _predict(prior, x_t, t)
        _check_estimate(report, prior, est, x_t, t, alpha, sigma, level)
        if images is not None:
            gain = _gain(est, x_t, clean, alpha)
            if not gain > 0:
                raise CheckError(_diagnosis(prior, x_t, t, clean, alpha, level, gain))
            report.append((f"gain in dB at {level}", gain))
    return report


def _log_snr(level: float) -> float:
    return -2 * float(torch.tensor(level, dtype=torch.float64).log())


def _images(shape: tuple[int, ...]) -> Tensor:
    return torch.stack([item.image for item in Photos(_NAMES, shape[1]).items()])


@torch.no_grad()
def _predict(prior: Prior, x_t: Tensor, t: Tensor) -> Estimate:
    return prior.predict(x_t, t)


def _check_estimate(
    report: Report, prior: Prior, est: Estimate, x_t: Tensor, t: Tensor, alpha: float, sigma: float, level: float
) -> None:
    broken = float((~est.x0_hat.isfinite()).sum() + (~est.eps_hat.isfinite()).sum())
    require(report, f"finite at {level}", broken, 0, "the estimate has {} numbers that are not finite")
    total = alpha * est.x0_hat + sigma * est.eps_hat
    if getattr(prior, "clip", None) is None:
        require(
            report, f"sum at {level}", relative_error(total, x_t), 1e-3, "alpha x0_hat + sigma eps_hat misses x_t by {}"
        )
    for k in range(len(x_t)):
        alone = _predict(prior, x_t[k : k + 1], t).x0_hat
        gap = relative_error(alone, est.x0_hat[k : k + 1])
        require(
            report, f"rows at {level}", gap, 1e-3, f"image {k} alone is denoised otherwise, by {{}}: a batch statistic?"
        )


def _gain(est: Estimate, x_t: Tensor, clean: Tensor, alpha: float) -> float:
    """Mean over the images, in dB."""
    before, after = ((v - clean).flatten(1).square().mean(1) for v in (x_t / alpha, est.x0_hat))
    return float((10 * (before / after).log10()).mean())


def _diagnosis(prior: Prior, x_t: Tensor, t: Tensor, clean: Tensor, alpha: float, level: float, gain: float) -> str:
    said = f"at sigma/alpha = {level} x0_hat is {-gain:.1f} dB further from the image than x_t / alpha"
    if not isinstance(prior, NetworkPrior):
        return f"{said}: this prior does not denoise photographs"
    gains = {}
    for option in get_args(Parameterization):
        other = copy.copy(prior)
        other.parameterization = option
        gains[option] = _gain(_predict(other, x_t, t), x_t, clean, alpha)
    best = max(gains, key=gains.__getitem__)
    if gains[best] > 0:
        better = f"it looks like {best} and was declared {prior.parameterization}"
        return f"{said}; {better} (with {best}: +{gains[best]:.1f} dB)"
    return f"{said}, and no parameterisation mends it: check time_input, network_schedule and value_range"
