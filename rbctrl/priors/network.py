"""Any denoising network as a prior: parameterisation, time input, schedule and value range are named, never guessed.

The network lives at its own levels (a, s) and on its own value range. With r = (high - low) / 2 and c = (high + low)
/ 2, an image x_0 in [-1, 1] is r x_0 + c for the network, and

    x_t / alpha_t = x_0 + (sigma_t / alpha_t) eps   gives   a (r x_t / alpha_t + c) = a (r x_0 + c) + s eps
    where s / a = r sigma_t / alpha_t.

So a network of one schedule runs in a process of any other: its time is the one at which it saw the same
signal-to-noise ratio. What its output means stands in `rbctrl.priors.output`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from rbctrl.checkpoints import RequiredFile
from rbctrl.codecs import Codec
from rbctrl.priors.base import Estimate, Prior
from rbctrl.priors.compiled import compiled
from rbctrl.priors.output import Parameterization, estimate_of, x0_of
from rbctrl.schedules import DiscreteVP, NoiseSchedule

TimeInput = Literal["t", "index", "sigma", "log_sigma", "log_snr"]
_Level = tuple[float, float, float, float, float]  # alpha, sigma, and the network's alpha, sigma and time input


class NetworkPrior(Prior):
    """A prior made of network(x [B, ...], time [B]) -> Tensor (or an object with `.sample`, as in diffusers).

    Args:
        network: the module, or a function that builds and fills it; the function is called by `load`.
        parameterization: what the network puts out; see `rbctrl.priors.output` for signs.
        time_input: what it is told, in fp32 at least (bf16 knows no index 981): t in [0, 1] of its schedule; the index
            0..T-1 of its beta table, rounded; sigma / alpha; log(sigma / alpha) / 4, as EDM's raw networks; log-SNR.
        network_schedule: the schedule the network was trained with.
        value_range: (low, high) of the images it was trained on.
        schedule: the schedule of the process; None is the network's own.
        codec: None for pixel space.
        shape: of one state, where only one is possible; None for any.
        channels: of one state [C, H, W], where only one number is possible; None for any.
        stride: sides must be multiples of it.
        learned_variance: the output has twice the channels, and the second half v in [-1, 1] says where the variance of
            a step lies between its bounds (`Estimate.variance_fraction` is (v + 1) / 2).
        sign: -1 if the network puts out the negative of what the parameterisation says.
        clip: (low, high) that x0_hat is clipped to; eps_hat follows. DPS as released clips to (-1, 1).
        memory_format: of the network's weights; its convolutions turn their input to it by themselves.
        compile: torch.compile for the network (`rbctrl.priors.compiled`); on a CPU it needs a C++ compiler.
        fingerprint: identifies the weights.
        files: what the function that builds the network reads.
        trained_at: side in pixels of the images it was trained on; `rbctrl check` tests it there. None: any.
    """

    def __init__(
        self,
        network: nn.Module | Callable[[], nn.Module],
        *,
        parameterization: Parameterization,
        time_input: TimeInput,
        network_schedule: NoiseSchedule,
        value_range: tuple[float, float],
        schedule: NoiseSchedule | None = None,
        codec: Codec | None = None,
        shape: tuple[int, ...] | None = None,
        channels: int | None = None,
        stride: int = 1,
        learned_variance: bool = False,
        sign: Literal[1, -1] = 1,
        clip: tuple[float, float] | None = None,
        memory_format: Literal["contiguous", "channels_last"] = "contiguous",
        compile: bool = False,
        fingerprint: Callable[[], str] | str = "",
        files: Sequence[RequiredFile] = (),
        trained_at: int | None = None,
    ) -> None:
        super().__init__(network_schedule if schedule is None else schedule, codec)
        _one_of("parameterization", parameterization, get_args(Parameterization))
        _one_of("time_input", time_input, get_args(TimeInput))
        _one_of("memory_format", memory_format, ("contiguous", "channels_last"))
        _one_of("sign", sign, (1, -1))
        _one_of("compile", compile, (True, False))
        if time_input == "index" and not isinstance(network_schedule, DiscreteVP):
            raise ValueError("time_input='index' needs a DiscreteVP network_schedule: the index is that of its table")
        low, high = value_range
        if not low < high:
            raise ValueError(f"value_range is (low, high) with low < high, got {tuple(value_range)}")
        self.parameterization, self.time_input, self.network_schedule = parameterization, time_input, network_schedule
        self.radius, self.center = (high - low) / 2, (high + low) / 2
        self.native = schedule in (None, network_schedule) and (self.radius, self.center) == (1.0, 0.0)
        self.shape = None if shape is None else tuple(shape)
        self.channels, self.stride, self.learned_variance, self.sign = channels, stride, learned_variance, sign
        self.trained_at, self._files = trained_at, tuple(files)
        self.clip = None if clip is None else tuple(clip)
        self.memory_format = torch.channels_last if memory_format == "channels_last" else torch.contiguous_format
        self.is_compiled = compile
        self._fingerprint, self._build = fingerprint, None if isinstance(network, nn.Module) else network
        self.network: nn.Module | None = network if isinstance(network, nn.Module) else None
        self._levels: dict[float, _Level] = {}  # a run comes back to the same few times in every batch
        self._prepare()

    def load(self) -> None:
        super().load()
        if self.network is None:
            self.network = self._build()
            self._prepare()

    def _prepare(self) -> None:
        if self.network is not None:
            self.network.eval().requires_grad_(False).to(memory_format=self.memory_format)
            if self.is_compiled:
                compiled(self.network)

    def fingerprint(self) -> str:
        own = self._fingerprint if isinstance(self._fingerprint, str) else self._fingerprint()
        codec = self.codec.fingerprint()
        return f"{own}+{codec}" if codec else own

    def files(self) -> tuple[RequiredFile, ...]:
        return (*self._files, *super().files())

    def state_shape(self, image_shape: tuple[int, ...]) -> tuple[int, ...]:
        shape = super().state_shape(image_shape)
        if self.shape is not None and tuple(shape) != self.shape:
            raise ValueError(
                f"this prior runs at {self.shape} only, got {tuple(shape)}: "
                "crop to fit (data.size=..., or load(path, size=...))"
            )
        if self.channels is not None and (len(shape) != 3 or shape[0] != self.channels):
            raise ValueError(
                f"this prior runs on states of {self.channels} channels, [{self.channels}, H, W], got {tuple(shape)}: "
                "convert the images, or take a prior that was trained on such ones"
            )
        if any(side % self.stride for side in shape[1:]):
            stride = self.stride * image_shape[-1] // shape[-1]
            raise ValueError(
                f"this prior runs at multiples of {stride} px, got {'x'.join(map(str, image_shape[1:]))}: "
                f"crop to such a number (data.size=..., or load(path, size=...))"
            )
        return shape

    def predict(self, x_t: Tensor, t: Tensor, *condition: Tensor) -> Estimate:
        """The estimate; `condition`, [B, ...] each, is what the network is told besides x and time."""
        level = self._at(t)
        x = self._scaled(x_t, level)
        out, fraction = self._evaluate(x, level, condition)
        return replace(self._estimate(x_t, x, out, level), variance_fraction=fraction)

    def output(self, x_t: Tensor, t: Tensor, *condition: Tensor) -> Tensor:
        """What the network puts out, like x_t: for those who change it before it becomes an `estimate`."""
        level = self._at(t)
        return self._evaluate(self._scaled(x_t, level), level, condition)[0]

    def estimate(self, x_t: Tensor, t: Tensor, output: Tensor) -> Estimate:
        """The estimate that an output of the network means."""
        level = self._at(t)
        return self._estimate(x_t, self._scaled(x_t, level), output, level)

    def _at(self, t: Tensor) -> _Level:
        key = float(t)
        if key not in self._levels:
            self._levels[key] = self._level(t)
        return self._levels[key]

    def _scaled(self, x_t: Tensor, level: _Level) -> Tensor:
        """x_t as the network saw it in its training."""
        alpha, _, a, _, _ = level
        x = x_t if self.native else x_t * (a * self.radius / alpha)
        return x if self.center == 0 else x + a * self.center

    def _estimate(self, x_t: Tensor, x: Tensor, out: Tensor, level: _Level) -> Estimate:
        alpha, sigma, a, s, _ = level
        if self.native and self.clip is None:
            return estimate_of(self.parameterization, x, out, alpha, sigma)
        x0_hat = x0_of(self.parameterization, x, out, a, s)
        if (self.radius, self.center) != (1.0, 0.0):
            x0_hat = (x0_hat - self.center) / self.radius
        if self.clip is not None:
            x0_hat = x0_hat.clamp(*self.clip)
        return Estimate(x0_hat, x_t.sub(x0_hat, alpha=alpha).div_(sigma))

    def _level(self, t: Tensor) -> _Level:
        """alpha_t, sigma_t; the network's own alpha, sigma and time input where it saw this signal-to-noise ratio."""
        alpha, sigma = (float(level) for level in self.schedule.levels(t))
        if alpha == 0 and self.parameterization == "eps":
            raise ValueError("alpha = 0 at this time, where eps says nothing about the image: start the grid at t < 1")
        if self.native:
            return alpha, sigma, alpha, sigma, self._time(t, alpha, sigma)
        if alpha == 0:
            raise ValueError("alpha = 0 at this time, and the network runs on another schedule: start at t < 1")
        ratio = torch.tensor(self.radius * sigma / alpha, dtype=torch.float64)
        net_t = self.network_schedule.time(-2 * ratio.log())
        if float(net_t) > 1 + 1e-6:
            raise ValueError(
                f"the grid starts at sigma / alpha = {sigma / alpha:.4g}, above all that this network was trained for: "
                "lower sampler.grid.sigma_max or sampler.grid.t_start"
            )
        net_t = net_t.clamp(max=1.0)
        a, s = (float(level) for level in self.network_schedule.levels(net_t))
        return alpha, sigma, a, s, self._time(net_t, a, s)

    def _evaluate(self, x: Tensor, level: _Level, condition: tuple[Tensor, ...]) -> tuple[Tensor, Tensor | None]:
        """The output, and where it learned the variance its fraction."""
        if self.network is None:
            raise RuntimeError("the weights are not there yet: call load() before the first use of the prior")
        dtype = next(self.network.parameters(), x).dtype  # reduced precision, or fp32 in an fp64 run, stays inside
        time = torch.full((len(x),), level[4], dtype=torch.promote_types(dtype, torch.float32), device=x.device)
        out = self.network(x.to(dtype), time, *condition)
        out = getattr(out, "sample", out).to(x.dtype)
        fraction = None
        if self.learned_variance:
            out, v = out.chunk(2, dim=1)
            fraction = (v + 1) / 2
        return (out if self.sign == 1 else -out).contiguous(), fraction

    def _time(self, net_t: Tensor, a: float, s: float) -> float:
        if self.time_input == "t":
            return float(net_t)
        if self.time_input == "index":
            return max(round(float(net_t) * len(self.network_schedule)) - 1, 0)
        if self.time_input == "sigma":
            return s / a
        log_sigma = float(torch.tensor(s / a, dtype=torch.float64).log())
        return log_sigma / 4 if self.time_input == "log_sigma" else -2 * log_sigma


def _one_of(name: str, value: object, options: tuple[object, ...]) -> None:
    if value not in options:
        raise ValueError(f"{name} is one of {', '.join(map(str, options))}; got {value!r}")
