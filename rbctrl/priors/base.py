"""What a diffusion prior has to offer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from torch import Tensor, nn

from rbctrl.checkpoints import RequiredFile
from rbctrl.codecs import Codec, Identity
from rbctrl.noise import GaussianNoise, Noise
from rbctrl.observation import Observation
from rbctrl.offload import Budget, Part, Residency
from rbctrl.operators.base import LinearOperator, Operator
from rbctrl.rng import ImageRNG
from rbctrl.schedules import NoiseSchedule

if TYPE_CHECKING:
    from rbctrl.data.base import Item


@dataclass(frozen=True, eq=False)
class Estimate:
    """What a prior believes of x_t: x_t = alpha_t x0_hat + sigma_t eps_hat.

    Attributes:
        x0_hat: E[x_0 | x_t], [B, ...].
        eps_hat: the noise that goes with it, like x0_hat.
        variance_fraction: f of a network that learned its variance (Nichol and Dhariwal, ICML 2021, eq. 15): a DDPM
            step has log var = f log beta + (1 - f) log beta_tilde; f is in [0, 1] up to the error of the network.
    """

    x0_hat: Tensor
    eps_hat: Tensor
    variance_fraction: Tensor | None = None


class Prior(nn.Module, ABC):
    """A diffusion prior: x_t [B, *shape] and t to E[x_0 | x_t].

    Attributes:
        schedule: levels (alpha_t, sigma_t).
        codec: between images and states.
        evaluations: of the network in one `predict`; 2 under classifier-free guidance.
        budget: of the GPU that its parts take turns on; None: they are there together.
        residency: which of them is, during a run on a budget.
        examples: side to images of that side that it knows, with their prompts, for `rbctrl.testing.check_prior`; None:
            photographs.
    """

    schedule: NoiseSchedule
    codec: Codec
    evaluations: int = 1
    budget: Budget | None = None
    residency: Residency | None = None
    examples: Callable[[int], Sequence[Item]] | None = None

    def __init__(self, schedule: NoiseSchedule, codec: Codec | None = None) -> None:
        super().__init__()
        self.schedule, self.codec = schedule, Identity() if codec is None else codec

    @abstractmethod
    def predict(self, x_t: Tensor, t: Tensor) -> Estimate:
        """The estimate at x_t [B, ...] and one time t (a scalar fp64 tensor on the host) for the whole batch."""

    def load(self) -> None:
        """Reads the weights, once, after everything that can be checked without them has been checked."""
        self.codec.load()

    def parts(self) -> tuple[Part, ...]:
        """What can be moved to and from a GPU on its own, when the weights are there."""
        return self.codec.parts()

    def check_item(self, prompted: bool, references: Collection[str]) -> str | None:
        """Why it cannot restore an item, in one sentence; None if it can. Asked before weights are loaded.

        Args:
            prompted: whether the item has a prompt.
            references: the kinds of pictures that it brings along.
        """
        if not prompted:
            return None
        return (
            f"the items of this data have a prompt each, and {type(self).__name__} takes none of them: "
            "use prior=shapes or a text-to-image model"
        )

    def bind(self, prompts: Sequence[str], references: Mapping[str, Tensor]) -> Prior:
        """This prior, loaded, under a prompt of each row.

        Args:
            prompts: of the B rows of a batch.
            references: images [B, 3, H, W] in [-1, 1] by kind ("style", "content"), for attention to them.

        Raises:
            ValueError: it takes no prompt, or one for all rows.
        """
        raise ValueError(self.check_item(True, references))

    def scope(self) -> AbstractContextManager[object]:
        """Entered around a run, backward passes included; what it changes in a network is undone at its end."""
        return nullcontext()

    def state_shape(self, image_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of one x_t for an image shape [C, H, W].

        Raises:
            ValueError: the prior does not run at this size.
        """
        return self.codec.state_shape(image_shape)

    def fingerprint(self) -> str:
        """Identifies the weights, for the key of a result; empty where the configuration says it all."""
        return ""

    def files(self) -> tuple[RequiredFile, ...]:
        """What `load` reads and does not come with the package."""
        return self.codec.files()


@runtime_checkable
class ExactPrior(Protocol):
    """What a prior with a closed-form posterior knows besides `predict`; h_t(x_t) = p(y | x_t)."""

    def check(self, operator: Operator, noise: Noise) -> str | None:
        """Why the posterior of such a measurement is not known, in one sentence; None if it is."""

    def predict_given(self, x_t: Tensor, t: Tensor, obs: Observation) -> Estimate:
        """E[x_0 | x_t, y]."""

    def variance_given(self, x_t: Tensor, t: Tensor, obs: Observation) -> Tensor:
        """Var[x_0 | x_t, y] of each coordinate, like x_t."""

    def log_likelihood(self, x_t: Tensor, t: Tensor, obs: Observation) -> Tensor:
        """log h_t(x_t), [B]."""

    def log_evidence(self, obs: Observation) -> Tensor:
        """log p(y), [B]."""

    def moments_given(self, obs: Observation) -> tuple[Tensor, Tensor]:
        """E[x_0 | y] and Var[x_0 | y] of each coordinate, both [B, *shape]."""

    def sample_given(self, obs: Observation, rng: ImageRNG, key: str) -> Tensor:
        """x_0 ~ p(x_0 | y), one for each row of the observation, [B, *shape]."""

    def sample_marginal(self, t: Tensor, rng: ImageRNG, shape: tuple[int, ...]) -> Tensor:
        """x_t ~ p_t, [B, *shape]."""


@runtime_checkable
class TextPrior(Protocol):
    """What a prior that listens to a prompt offers to controllers that tune it; prompts are embeddings [B, L, D]."""

    def prompt_embedding(self) -> Tensor:
        """[L, D], or [B, L, D] of rows with prompts of their own: the embedding that `predict` uses; needs `load`."""

    def predict_prompted(self, x_t: Tensor, t: Tensor, prompt: Tensor) -> Estimate:
        """As `predict`, under a prompt [B, L, D] of each row; differentiable in it. No guidance."""


def needs_linear_gaussian(operator: Operator, noise: Noise) -> str | None:
    """The reason if the posterior of a Gaussian mixture is no Gaussian mixture."""
    if not isinstance(noise, GaussianNoise):
        return (
            f"the posterior of a mixture is known for Gaussian noise, not {type(noise).__name__}: "
            "use noise=gaussian, or prior=empirical"
        )
    if not isinstance(operator, LinearOperator):
        return (
            f"the posterior of a mixture is known for linear operators, and {type(operator).__name__} is not one: "
            "derive it from LinearOperator, or use prior=empirical"
        )
    return None
