"""The suite of priors: does this network denoise images, under the conventions it was declared with?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from rbctrl.codecs import Identity
from rbctrl.data.base import Item
from rbctrl.data.sources import Photos
from rbctrl.grids import LogSNR
from rbctrl.priors.base import Estimate, Prior
from rbctrl.priors.network import NetworkPrior
from rbctrl.rng import ImageRNG
from rbctrl.testing.diagnosis import Probe, diagnose, network_of
from rbctrl.testing.report import CheckError, Report, relative_error, require

LEVELS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0)  # sigma / alpha, on [-1, 1]; those that the prior reaches
_NAMES = ["china", "rocket", "camera"]


def check_prior(
    prior: Prior, shape: tuple[int, ...] | None = None, images: Tensor | Sequence[Item] | None = None
) -> Report:
    """Checks a prior against the contract of `rbctrl.priors.base`, on photographs, or on images that it says it knows.

    Estimates are finite and add up to x_t; no row sees another; x0_hat of a prior of RGB images is nearer to the image
    than x_t / alpha is, at every noise level. A network is also read under other conventions, and the likely mistake in
    its declaration is named.

    Args:
        prior: loaded here.
        shape: of one image, [3, S, S]; None is what the prior was trained at, else (3, 64, 64). A prior of other states
            is checked on random ones of its own shape.
        images: [B, 3, H, W] in [-1, 1], or items of one shape, under whose prompts it is checked if it listens to any;
            None takes its own examples or training photographs of this package, at `shape`.

    Returns:
        (check, value): relative errors, and in dB the PSNR of x_t / alpha ("noisy") and of x0_hat, and their difference
        ("gain"), for each level sigma / alpha.

    Raises:
        CheckError: the first check that fails; its `report` holds what was measured.
    """
    prior.load()
    report: Report = []
    try:
        items = _items(prior, shape, images)
        prompted = _listens(prior, items)
        alone = [_bound(prior, [item]) for item in items] if prompted else []
        _check(_bound(prior, items) if prompted else prior, alone, report, _probes(prior, shape, items))
    except CheckError as error:
        error.report = report
        raise
    return report


def _check(prior: Prior, alone: list[Prior], report: Report, probes: list[Probe]) -> None:
    """`alone`: under the prompt of each row; empty: there are no such prompts."""
    estimates = [_predict(prior, probe.x_t, probe.t) for probe in probes]
    photographs = all(probe.real for probe in probes)
    for probe, est in zip(probes, estimates):
        if photographs:
            report.append((f"noisy at {probe.level:g}", probe.psnr(probe.x_t / probe.alpha)))
            report.append((f"psnr at {probe.level:g}", probe.psnr(est.x0_hat)))
            report.append((f"gain at {probe.level:g}", probe.gain(est)))
    network = network_of(prior, len(probes[0].clean)) if photographs else None
    tried = probes[::2] if network is not prior else [probe.both_ways() for probe in probes[::2]]
    mistake = None if network is None else diagnose(network, tried)
    for probe, est in zip(probes, estimates):
        if mistake is None or math.isfinite(float(est.x0_hat.sum())):
            _check_estimate(report, prior, alone, probe, est)
    if photographs:
        _check_gains(probes, estimates, mistake)


def _items(prior: Prior, shape: tuple[int, ...] | None, images: Tensor | Sequence[Item] | None) -> Sequence[Item]:
    """What it is tested on; empty: random states."""
    if images is not None:
        return [Item(f"image {k}", image) for k, image in enumerate(images)] if isinstance(images, Tensor) else images
    shape = tuple(shape or _shape(prior))
    if len(shape) != 3 or shape[0] != 3:
        return []
    return list(Photos(_NAMES, shape[1]).items()) if prior.examples is None else prior.examples(shape[1])


def _listens(prior: Prior, items: Sequence[Item]) -> bool:
    return bool(items) and items[0].prompt is not None and prior.check_item(True, items[0].references) is None


def _bound(prior: Prior, items: Sequence[Item]) -> Prior:
    kinds = items[0].references
    references = {kind: torch.stack([item.references[kind] for item in items]) for kind in kinds}
    return prior.bind([item.prompt for item in items], references)


def _probes(prior: Prior, shape: tuple[int, ...] | None, items: Sequence[Item]) -> list[Probe]:
    images = torch.stack([item.image for item in items]) if items else None
    states = prior.state_shape(tuple(shape or _shape(prior)) if images is None else tuple(images.shape[1:]))
    rng = ImageRNG(0, tuple((f"image {k}", 0) for k in range(len(items) or 3)))
    with torch.no_grad():
        clean = rng.normal("x0", states) if images is None else prior.codec.encode(images)
    probes = []
    for level in LEVELS:
        t = LogSNR(-2 * math.log(level), 9.0).times(prior.schedule, 1)[0]
        if t > 1:
            continue
        alpha, sigma = (float(v) for v in prior.schedule.levels(t))
        x_t = alpha * clean + sigma * rng.normal(f"level {level}", states)
        if _reaches(prior, x_t, t):
            probes.append(Probe(level, t, alpha, sigma, clean, x_t, images is not None))
    if not probes:
        raise CheckError(f"this prior reaches none of the noise levels {LEVELS}, sigma / alpha on [-1, 1]")
    return probes


def _shape(prior: Prior) -> tuple[int, ...]:
    """Of an image that the prior should be good at."""
    side, own = getattr(prior, "trained_at", None), getattr(prior, "shape", None)
    if side is not None:
        return (3, side, side)
    return own if own is not None and isinstance(prior.codec, Identity) else (3, 64, 64)


def _reaches(prior: Prior, x_t: Tensor, t: Tensor) -> bool:
    """Whether the network, which may have a schedule of its own, was trained at so much noise."""
    if not isinstance(prior, NetworkPrior) or prior.native:
        return True
    try:
        prior._level(t)
    except ValueError:
        return False
    return True


@torch.no_grad()
def _predict(prior: Prior, x_t: Tensor, t: Tensor) -> Estimate:
    return prior.predict(x_t, t)


def _check_estimate(report: Report, prior: Prior, bound: list[Prior], probe: Probe, est: Estimate) -> None:
    x_t, at = probe.x_t, f"at {probe.level:g}"
    broken = float((~est.x0_hat.isfinite()).sum() + (~est.eps_hat.isfinite()).sum())
    require(report, f"finite {at}", broken, 0, "the estimate has {} numbers that are not finite")
    if getattr(prior, "clip", None) is None:
        gap = relative_error(probe.alpha * est.x0_hat + probe.sigma * est.eps_hat, x_t)
        require(report, f"sum {at}", gap, 1e-3, "alpha x0_hat + sigma eps_hat misses x_t by {}")
    each = bound or [prior] * len(x_t)
    alone = [_predict(each[k], x_t[k : k + 1], probe.t).x0_hat for k in range(len(x_t))]
    gap = max(relative_error(alone[k], est.x0_hat[k : k + 1]) for k in range(len(x_t)))
    require(report, f"rows {at}", gap, 1e-3, "an image alone is denoised otherwise, by {}: a batch statistic?")


def _check_gains(probes: list[Probe], estimates: list[Estimate], mistake: str | None) -> None:
    worst, level = min((probe.gain(est), probe.level) for probe, est in zip(probes, estimates))
    if worst <= 0:
        by = f"by {-worst:.1f} dB" if math.isfinite(worst) else "by any measure"
        said = f"at sigma/alpha = {level:g} x0_hat is further from the image than x_t / alpha is, {by}"
        hint = "no other parameterisation, sign, time input or range mends it: check network_schedule and the weights"
        raise CheckError(f"{said}; {mistake or hint}")
    if mistake is not None:
        raise CheckError(f"it denoises, but would do so better under other conventions: {mistake}")
