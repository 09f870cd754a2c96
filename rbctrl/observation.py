"""The measurement of a batch, and the objective a controller descends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from rbctrl.codecs import Codec, Identity
from rbctrl.noise import Noise
from rbctrl.operators.base import Operator
from rbctrl.rng import ImageRNG


@dataclass(frozen=True, eq=False)
class Observation:
    """y = A(x) + noise for one batch; entries that `operator.observed` leaves out are 0 in y and count nowhere.

    Args:
        y: [B, ...] in [-1, 1].
        operator: drawn for this batch.
        noise: how y came about.
        prompts: what the image of each row is said to show; None: nothing is said.
        references: pictures [B, 3, H, W] in [-1, 1] by kind that come with the prompts.
    """

    y: Tensor
    operator: Operator
    noise: Noise
    prompts: tuple[str, ...] | None = None
    references: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def sigma_y(self) -> float:
        """Standard deviation of the noise on [-1, 1]."""
        return self.noise.sigma_y

    @property
    def n_measured(self) -> Tensor:
        """Number of measured entries of each row, [B]."""
        count = self._masked(torch.ones_like(self.y))
        return count.flatten(1).sum(1)

    def residual(self, image: Tensor) -> Tensor:
        """y - A(image), [B, ...]; 0 where nothing was measured."""
        return self.y - self.operator(image)

    def nll(self, image: Tensor) -> Tensor:
        """-log p(y | image), normalised, [B]: what the price J scores, whatever cost the controller descends."""
        return self._masked(self.noise.nll(self.y, self.operator(image))).flatten(1).sum(1)

    def take(self, rows: Tensor) -> Observation:
        """The given rows only."""
        prompts = None if self.prompts is None else tuple(self.prompts[k] for k in rows.tolist())
        references = {kind: pictures[rows] for kind, pictures in self.references.items()}
        operator = self.operator.take(rows)
        return replace(self, y=self.y[rows], operator=operator, prompts=prompts, references=references)

    def _masked(self, entries: Tensor) -> Tensor:
        observed = self.operator.observed
        return entries if observed is None else torch.where(observed > 0, entries, 0.0)


def observe(operator: Operator, noise: Noise, image: Tensor, rng: ImageRNG) -> Observation:
    """Measures images [B, C, H, W] in [-1, 1] with a drawn operator. All samples of one item share one measurement."""
    return given(operator, noise, noise.add(operator.measure(image), rng.of_items()))


def given(operator: Operator, noise: Noise, y: Tensor) -> Observation:
    """The observation of a y that exists; what the operator does not observe is set to 0."""
    observed = operator.observed
    return Observation(y if observed is None else torch.where(observed > 0, y, 0.0), operator, noise)


@dataclass(eq=False)
class Evaluations:
    """How often the networks ran on a batch; every row takes part in every evaluation.

    Attributes:
        nfe: evaluations of the denoiser.
        vjp: pullbacks through it.
        decoder_vjp: pullbacks through the decoder of its codec.
        encoder_vjp: and through the encoder.
    """

    nfe: int = 0
    vjp: int = 0
    decoder_vjp: int = 0
    encoder_vjp: int = 0


@dataclass(frozen=True, eq=False)
class Objective:
    """x0_hat -> cost(decode(x0_hat), observation), [B]. Only here latents become images.

    Args:
        cost: of the image.
        obs: the measurement.
        codec: of the prior.
        evaluations: where gradients of the codec are counted.
        running: what a path costs on its way, per unit of time (`rbctrl.costs.RunningCost`); None: nothing.
    """

    cost: Callable[[Tensor, Observation], Tensor]
    obs: Observation
    codec: Codec = field(default_factory=Identity)
    evaluations: Evaluations = field(default_factory=Evaluations)
    running: Callable[[Tensor, Tensor, Tensor, Observation], Tensor] | None = None

    def __call__(self, x0_hat: Tensor) -> Tensor:
        return self.cost(self.decode(x0_hat), self.obs)

    def running_cost(self, x_t: Tensor, x0_hat: Tensor, t: Tensor) -> Tensor:
        """Per unit of time at x_t [B, ...], where the prior estimates x0_hat, [B]; 0 without a running cost."""
        if self.running is None:
            return x_t.new_zeros(len(x_t))
        return self.running(x_t, self.decode(x0_hat), t, self.obs)

    def decode(self, x0_hat: Tensor) -> Tensor:
        """The image of a state; its gradients are counted."""
        return self.codec.decode(self._counted(x0_hat, "decoder_vjp"))

    def encode(self, image: Tensor) -> Tensor:
        """The state of an image; its gradients are counted."""
        return self.codec.encode(self._counted(image, "encoder_vjp"))

    def _counted(self, x: Tensor, what: Literal["decoder_vjp", "encoder_vjp"]) -> Tensor:
        """The input of a part of the codec: a gradient that comes back to it went through that part."""
        if x.requires_grad and not isinstance(self.codec, Identity):
            x = x.view_as(x)
            x.register_hook(partial(self._count, what))
        return x

    def _count(self, what: str, _: Tensor) -> None:
        setattr(self.evaluations, what, getattr(self.evaluations, what) + 1)

    def take(self, rows: Tensor) -> Objective:
        """The given rows only."""
        return replace(self, obs=self.obs.take(rows))
