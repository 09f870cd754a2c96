"""rbctrl.restore: one measurement, three lines, the same code path and the same bits as the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rbctrl.config import build, default_option
from rbctrl.controllers.base import Controller
from rbctrl.costs import Cost
from rbctrl.data.base import Item
from rbctrl.data.files import Unreadable, read_image, square
from rbctrl.data.sources import Memory
from rbctrl.devices import pick_device, pick_dtype
from rbctrl.metrics import AnyMetric, Metric, PathMetric, SampleMetric, of_kind
from rbctrl.noise import GaussianNoise, Noise, NoNoise
from rbctrl.operators.base import Operator
from rbctrl.posterior_mean import ItemSamples
from rbctrl.priors.base import Prior
from rbctrl.solver import Sampler, Solver


@dataclass(frozen=True, eq=False)
class Restored:
    """What `restore` returns.

    Attributes:
        samples: [n_samples, C, H, W] in [-1, 1]; not clamped.
        mean: [C, H, W] over the samples that stayed finite.
        sd: [C, H, W], their standard deviation; 0 for one sample.
        rows: one dict per sample: item, sample, seed, alive, final_cost, control_energy, nfe, vjp, decoder_vjp,
            encoder_vjp, seconds_per_image, peak_memory, batch_size, the metrics that were asked for, and the
            controller's columns.
        scores: the metrics that look at all samples together (`SampleMetric`), by name.
    """

    samples: Tensor
    mean: Tensor
    sd: Tensor
    rows: list[dict[str, object]]
    scores: dict[str, float]


def load(path: str | Path, size: int | None = None) -> Tensor:
    """An image file as [C, H, W] in [-1, 1]: RGB, centre-cropped and resized to size x size where a size is given.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no image, or smaller than `size`.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"there is no image file {path}")
    try:
        image = read_image(path)
    except Unreadable as error:
        raise ValueError(f"{path} {error}") from error
    if size is None:
        return image
    if size < 1 or min(image.shape[1:]) < size:
        raise ValueError(f"{path} is {image.shape[2]}x{image.shape[1]} px and cannot be cropped to {size}x{size} px")
    return square(image, size)


def restore(
    y: Tensor,
    operator: Operator | str,
    *,
    prior: Prior | str | None = None,
    controller: Controller | str | None = None,
    sigma_y: float | None = None,
    noise: Noise | None = None,
    cost: Cost | str | None = None,
    sampler: Sampler | str | None = None,
    metrics: Mapping[str, AnyMetric] | None = None,
    n_samples: int = 1,
    seed: int = 0,
    item: str = "image",
    batch_size: int = 8,
    device: str = "auto",
    dtype: str = "float32",
) -> Restored:
    """Restores an image from its measurement; no truth is needed.

    Whatever is None is what `conf/config.yaml` takes; a string is an option of the group of that name.

    Args:
        y: the measurement, without batch dimension, in [-1, 1]; image-like ones are [C, h, w].
        operator: A. Random masks are drawn for (seed, item), so name the item as the measurement's maker did.
        prior: of the image.
        controller: the method.
        sigma_y: standard deviation of Gaussian noise on [-1, 1]; 0 is none. A short form of `noise`.
        noise: how y came about.
        cost: what the controller descends.
        sampler: (prior, shape=...) to a reverse process.
        metrics: extra columns of the rows, by name; called with truth None. Those of all samples go to `scores`.
        n_samples: posterior samples.
        seed: of all noise.
        item: name of the image in the random streams.
        batch_size: samples at a time; changes no result.
        device: auto, cpu, cuda ...
        dtype: float32 or float64.

    Raises:
        TypeError: a metric that is none.
        ValueError: both sigma_y and noise are given, y holds a number that is not finite, or the combination cannot
            work.
    """
    if not torch.isfinite(y).all():
        raise ValueError(
            "y holds a number that is not finite: mark what was not measured by the operator's mask instead"
        )
    metrics = metrics or {}
    solver = Solver(
        prior=_option("prior", prior),
        operator=_option("operator", operator),
        noise=_noise(noise, sigma_y),
        cost=_option("cost", cost),
        sampler=_option("sampler", sampler),
        controller=_option("controller", controller),
        device=pick_device(device),
        dtype=pick_dtype(dtype),
    )
    solver.check(n_samples, batch_size, metrics)
    solver.check_item(Item(item, None, y), seed)
    solver.load()
    samples, rows, images = ItemSamples(item, solver.controller.population), [], []
    for batch in Memory([Item(item, None, y)]).batches(batch_size, n_samples):
        solution = solver.solve(batch, seed, of_kind(metrics, PathMetric))
        scores = {name: metric(solution.image, None, solution.obs) for name, metric in of_kind(metrics, Metric).items()}
        new = solution.rows(batch.rows, seed, scores)
        images.append(solution.image)
        samples.obs = solution.obs.take(torch.tensor([0]))
        for row, image in zip(new, solution.image):
            samples.add(row, image)
        rows += new
    mean, sd = samples.mean_sd()
    draws = samples.draws(solver.prior, seed)
    together = {name: metric(draws) for name, metric in of_kind(metrics, SampleMetric).items()}
    return Restored(torch.cat(images), mean, sd, rows, together)


def _option(group: str, value: object) -> object:
    if value is None:
        value = default_option(group)
    return build(group, value) if isinstance(value, str) else value


def _noise(noise: Noise | None, sigma_y: float | None) -> Noise:
    if noise is not None and sigma_y is not None:
        raise ValueError("give sigma_y or noise, not both")
    if sigma_y is not None:
        return NoNoise() if sigma_y == 0 else GaussianNoise(sigma_y)
    return noise if noise is not None else build("noise", default_option("noise"))
