"""From a batch of images or measurements to restored images: the part the command line and `restore` share."""

from __future__ import annotations

import logging
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rbctrl.controllers.base import Controller, Run, Setup
from rbctrl.costs import Cost
from rbctrl.data.base import Batch
from rbctrl.noise import Noise
from rbctrl.observation import Evaluations, Objective, Observation, given, observe
from rbctrl.operators.base import Operator
from rbctrl.priors.base import Prior
from rbctrl.process import ReverseProcess
from rbctrl.rng import ImageRNG
from rbctrl.sampling import OnStep, Result, sample

log = logging.getLogger(__name__)

Sampler = Callable[..., ReverseProcess]  # (prior, shape=...) -> process: a partial of rbctrl.process.ddim and its like
DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True, eq=False)
class Solution:
    """What one batch gave; every tensor has a leading B.

    Attributes:
        image: restored images [B, C, H, W]; not clamped.
        obs: their measurements.
        result: energies and final states.
        final_cost: the controller's cost at the image.
        evaluations: of the networks, per image.
        seconds: per image, batch time over B.
        peak_memory: MiB; of the device on a GPU, else the high-water mark of the process.
    """

    image: Tensor
    obs: Observation
    result: Result
    final_cost: Tensor
    evaluations: Evaluations
    seconds: float
    peak_memory: float

    def spent(self) -> dict[str, float]:
        """The columns of a row that say what it cost."""
        e = self.evaluations
        return {
            "nfe": e.nfe,
            "vjp": e.vjp,
            "decoder_vjp": e.decoder_vjp,
            "seconds_per_image": self.seconds,
            "peak_memory": self.peak_memory,
        }


@dataclass(frozen=True, eq=False)
class Solver:
    """A prior, a measurement model and a controller, ready to restore."""

    prior: Prior
    operator: Operator
    noise: Noise
    cost: Cost
    sampler: Sampler
    controller: Controller
    device: torch.device
    dtype: torch.dtype

    def check(self, n_samples: int = 1, batch_size: int = 1) -> None:
        """Refuses what cannot work, before weights are loaded.

        Raises:
            ValueError: the controller's reason, a sampler that cannot run (eta, grid, start), or numbers that would
                tear a cloud of the controller's paths apart.
        """
        cloud = self.controller.population
        for name, number in (("n_samples", n_samples), ("batch_size", batch_size)):
            if number % cloud:
                raise ValueError(
                    f"this controller's paths live in clouds of {cloud} samples of one image: "
                    f"{name}={number} is no multiple of {cloud}"
                )
        process = self.sampler(self.prior, shape=(1,))
        reason = self.controller.check(Setup(process, self.operator, self.noise, self.cost))
        if reason is not None:
            raise ValueError(f"this combination cannot work: {reason}")

    def load(self) -> None:
        """Reads the weights and moves everything to the device."""
        self.prior.load()
        self.prior.to(self.device).requires_grad_(False)
        self.cost.to(self.device, self.dtype)
        self.operator.to(self.device, self.dtype)

    def solve(self, batch: Batch, seed: int, on_step: OnStep | None = None) -> Solution:
        """Restores one batch. The result of a row depends on its (item, sample) and the seed, not on the batch."""
        rng = ImageRNG(seed, batch.rows, self.dtype, self.device)
        obs, image_shape = self._observe(batch, rng)
        process = self.sampler(self.prior, shape=self.prior.state_shape(image_shape))
        objective = Objective(self.cost, obs, self.prior.codec, process.evaluations)
        self._reset_peak()
        begin = self._now()
        result = sample(Run(process, objective, rng), self.controller, on_step)
        with torch.no_grad():
            image = self.prior.codec.render(result.x0_hat)
        seconds = (self._now() - begin) / len(batch.rows)
        with torch.no_grad():
            final_cost = self.cost(image, obs)
        return Solution(image, obs, result, final_cost, process.evaluations, seconds, self._peak_memory())

    def _observe(self, batch: Batch, rng: ImageRNG) -> tuple[Observation, tuple[int, ...]]:
        if batch.y is not None:
            shape = tuple(self.operator.image_shape(tuple(batch.y.shape[1:])))
            operator = self.operator.draw(rng, shape)
            return given(operator, self.noise, batch.y.to(self.device, self.dtype)), shape
        image = batch.image.to(self.device, self.dtype)
        operator = self.operator.draw(rng, tuple(image.shape[1:]))
        return observe(operator, self.noise, image, rng), tuple(image.shape[1:])

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def _reset_peak(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def _peak_memory(self) -> float:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if sys.platform == "darwin" else 2**10)


def pick_device(name: str) -> torch.device:
    """The device of a name; auto is the GPU where there is one.

    Raises:
        ValueError: torch knows no such device, or it is not there.
    """
    if name == "auto":
        return _numbered(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device={name} is no device torch knows: use auto, cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={name} was asked for and torch sees no GPU here: use device=cpu")
    return _numbered(device)


def _numbered(device: torch.device) -> torch.device:
    """cuda as cuda:0, since torch holds the two for different devices."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def pick_dtype(name: str) -> torch.dtype:
    """float32 or float64.

    Raises:
        ValueError: any other name.
    """
    if name not in DTYPES:
        raise ValueError(f"dtype is one of {', '.join(DTYPES)}; got {name!r}")
    return DTYPES[name]
