"""The contract of a controller, and the few tools most of them are made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from rbctrl.codecs import Identity
from rbctrl.costs import Cost
from rbctrl.noise import Noise
from rbctrl.observation import Objective, Observation
from rbctrl.operators.base import LinearOperator, Operator, PseudoInvertible
from rbctrl.priors.base import Estimate, Prior
from rbctrl.process import ReverseProcess, Step
from rbctrl.rng import ImageRNG

State = dict[str, Tensor]  # what changes during a run; every tensor is [B, ...]
Eps = Literal["frozen", "recomputed"]


@dataclass(frozen=True, eq=False)
class Run:
    """All that a controller sees of one batch."""

    process: ReverseProcess
    objective: Objective
    rng: ImageRNG

    @property
    def obs(self) -> Observation:
        """The measurement."""
        return self.objective.obs

    @property
    def setup(self) -> Setup:
        """What `Controller.check` is asked about."""
        return Setup(self.process, self.obs.operator, self.obs.noise, self.objective.cost)

    def push(self, est: Estimate, i: int, u: Tensor | float = 0.0) -> Step:
        """The free step, displaced by u. Where it lands on sigma = 0 its mean is the image."""
        free = self.process.mean(est, i)
        mean = free + u
        belief = est if self.process.sigma[i + 1] > 0 else Estimate(mean, est.eps_hat)
        return Step(belief, mean, self.process.noise(i), free)

    def replace_x0(self, est: Estimate, i: int, x0: Tensor, eps: Eps) -> Step:
        """The step of an estimate whose x0_hat became x0, while eps_hat stays or follows from x_t."""
        free = self.process.mean(est, i)
        moved = x0 - est.x0_hat
        mean = free.add(moved, alpha=self.process.gain(i, eps))
        eps_hat = est.eps_hat
        if eps == "recomputed":
            eps_hat = eps_hat.add(moved, alpha=-self.process.alpha[i] / self.process.sigma[i])
        return Step(Estimate(x0, eps_hat), mean, self.process.noise(i), free)

    def running_cost(self, i: int, x_t: Tensor, est: Estimate | None = None) -> Tensor:
        """f(x_t) |t_i - t_{i+1}|: what x_t [B, ...] before step i adds to J, [B]; 0 without a running cost.

        `est` is the prior's estimate at x_t; None asks the prior, and that counts as no evaluation of the method.
        """
        process = self.process
        if self.objective.running is None:
            return x_t.new_zeros(len(x_t))
        if est is None:
            est = process.prior.predict(x_t, process.times[i])
        passed = float((process.times[i] - process.times[i + 1]).abs())
        return passed * self.objective.running_cost(x_t, est.x0_hat, process.times[i])

    def take(self, rows: Tensor) -> Run:
        """The given rows only."""
        return replace(self, objective=self.objective.take(rows), rng=self.rng.take(rows))


@dataclass(frozen=True, eq=False)
class Setup:
    """What a controller is asked to work with, before a weight is read or an image is seen.

    Attributes:
        process: its schedule, grid and integrator; its shape is not known yet.
        operator: not drawn yet.
        noise: of the measurement.
        cost: what the controller would descend.
    """

    process: ReverseProcess
    operator: Operator
    noise: Noise
    cost: Cost

    @property
    def prior(self) -> Prior:
        """The prior of the process."""
        return self.process.prior


@dataclass(frozen=True)
class Knob:
    """The main setting of a method: what decides how hard it pulls towards the measurement.

    Attributes:
        name: of the field.
        low: end of the range worth searching, on a logarithmic scale.
        high: its other end.
        pulls: "more" if a larger value pulls harder, "less" if it holds back.
    """

    name: str
    low: float
    high: float
    pulls: Literal["more", "less"] = "more"


class Controller(ABC):
    """Frozen configuration of a method; whatever changes during a run is `State`.

    The control energy of a method is exact where every step has noise: eta > 0 and a grid that ends at sigma > 0
    (sampler/grid=log_snr). On a grid that ends on the image, the default, it is inf for every control of the last step.

    A method whose paths depend on each other is a population: samples k P to (k + 1) P - 1 of one image are one cloud
    of P paths, always in one batch, and `Step.rows` says which path goes on as which.

    Attributes:
        knob: the main setting; None: the method has none.
        uses_cost: whether steps ask `run.objective`; a cost that is undefined for the measurement is then refused.
        uses_running_cost: whether steps ask `run.running_cost`; of others a running cost is said to be ignored.
    """

    knob: ClassVar[Knob | None] = None
    uses_cost: ClassVar[bool] = False
    uses_running_cost: ClassVar[bool] = False

    def check(self, setup: Setup) -> str | None:
        """Why this combination cannot work, in one sentence; None if it can. Asked before weights are loaded."""
        return None

    def start(self, run: Run) -> tuple[Tensor, State]:
        """x_T and the first state."""
        return run.process.init(run.rng), {}

    @abstractmethod
    def __call__(self, run: Run, x_t: Tensor, i: int, state: State) -> tuple[Step, State]:
        """Step i of the process from x_t, and the state for step i + 1."""

    def with_strength(self, strength: float) -> Controller:
        """This method, pulling `strength` times as hard: its knob times that number, or divided by it.

        1 is the method as it was configured. So one axis, strength=0.5,1,2, sweeps methods whose settings have other
        names.

        Raises:
            ValueError: the method has no knob, the knob is 0, or the number is not positive.
        """
        name = type(self).__name__
        if not strength > 0:
            raise ValueError(
                f"strength multiplies the main setting of a controller and must be positive, got {strength}"
            )
        if self.knob is None:
            raise ValueError(f"{name} has no setting that makes it stronger or weaker: leave strength out for it")
        value = getattr(self, self.knob.name)
        if not value:
            raise ValueError(f"{name} has {self.knob.name}={value}, which no strength can scale: set it")
        return replace(self, **{self.knob.name: value * strength if self.knob.pulls == "more" else value / strength})  # type: ignore[type-var]

    @property
    def population(self) -> int:
        """P, how many samples of one image make one cloud; 1: every path is on its own."""
        return 1

    def finish(self, run: Run, x: Tensor, state: State) -> tuple[Tensor | None, dict[str, Tensor]]:
        """After the last step: which row each row ends as (None: itself), and columns [B] for the table of results."""
        return None, {}

    def render(self, run: Run, x0_hat: Tensor) -> Tensor:
        """The finished images of the last estimates."""
        return run.objective.codec.render(x0_hat, run.rng)


def linearize(
    process: ReverseProcess, x_t: Tensor, i: int, prompt: Tensor | None = None
) -> tuple[Estimate, Callable[..., Tensor]]:
    """The estimate at x_t and v -> (d x0_hat / d x_t)^T v: one forward, as many pullbacks as are kept.

    With an embedded prompt [B, L, D] of each row it is the estimate under that, of a `TextPrior`.
    """
    with torch.enable_grad():
        x = x_t.detach().requires_grad_()
        est = process.estimate(x, i) if prompt is None else process.estimate_prompted(x, i, prompt)

    def pull(v: Tensor, keep: bool = False) -> Tensor:
        return torch.autograd.grad(est.x0_hat, x, v, retain_graph=keep)[0]

    fraction = None if est.variance_fraction is None else est.variance_fraction.detach()
    return Estimate(est.x0_hat.detach(), est.eps_hat.detach(), fraction), pull


def gradient(value: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Of value(x) [B] with respect to x [B, ...], row by row."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(value(x).sum(), x)[0]


def adam_step(
    x: Tensor,
    grad: Tensor,
    m: Tensor,
    v: Tensor,
    k: int,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
) -> tuple[Tensor, Tensor, Tensor]:
    """Step k = 1, 2, ... of Adam (eps 1e-8); without hidden state, rows can be taken and frozen."""
    b1, b2 = betas
    m = (b1 * m).add_(grad, alpha=1 - b1)
    v = (b2 * v).addcmul_(grad, grad, value=1 - b2)
    scale = (v / (1 - b2**k)).sqrt_().add_(1e-8)
    return torch.addcdiv(x, m, scale, value=-lr / (1 - b1**k)), m, v


def adam(value: Callable[[Tensor], Tensor], x: Tensor, n_steps: int, lr: float) -> Tensor:
    """n_steps of Adam on value [B] from x, each row on its own."""
    m = v = torch.zeros_like(x)
    for k in range(1, n_steps + 1):
        x, m, v = adam_step(x, gradient(value, x), m, v, k, lr)
    return x


def descend(value: Callable[[Tensor], Tensor], x: Tensor, n_steps: int, lr: float) -> Tensor:
    """n_steps of plain gradient descent on value [B] from x, each row on its own."""
    for _ in range(n_steps):
        x = x - lr * gradient(value, x)
    return x


def check_eps(eps: str) -> None:
    """Raises ValueError unless eps is an `Eps`."""
    if eps not in get_args(Eps):
        raise ValueError(f"eps is 'frozen' or 'recomputed', got {eps!r}")


def needs_pixels(setup: Setup, name: str) -> str | None:
    """The reason if the prior is latent."""
    if isinstance(setup.prior.codec, Identity):
        return None
    return (
        f"{name} solves for an image, so it needs a pixel-space prior; "
        "use rb_modulation_latent, rb_modulation_encode, psld or dps on a latent one"
    )


ANY_OPERATOR = "dps, rb_modulation, daps and red_diff take any differentiable operator"


def needs_linear(setup: Setup, name: str) -> str | None:
    """The reason if the operator has no adjoint and pseudo-inverse."""
    if isinstance(setup.operator, LinearOperator):
        return None
    return (
        f"{name} needs a linear operator with a pseudo-inverse, and {type(setup.operator).__name__} is not one; "
        f"{ANY_OPERATOR}"
    )


def needs_pinv(setup: Setup, name: str) -> str | None:
    """The reason if the operator has no pseudo-inverse, linear or not."""
    if isinstance(setup.operator, PseudoInvertible):
        return None
    return (
        f"{name} needs an operator with a pseudo-inverse, and {type(setup.operator).__name__} has none; {ANY_OPERATOR}"
    )
