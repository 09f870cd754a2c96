"""A prior without its networks: the same levels and shapes, so that a controller does in a run on it what it will do.

The denoiser is the exact one of white noise, E[x_0 | x_t] of x_0 ~ N(0, I). In place of an autoencoder a state is a
small gray picture: the mean over channels, at the size of a state, an image or a preview. Both are differentiable
everywhere, and what a controller evaluates and differentiates, it evaluates and differentiates here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from rbctrl.codecs import Codec, Identity
from rbctrl.priors.base import Estimate, Prior
from rbctrl.rng import ImageRNG

Shape = tuple[int, ...]


def can_rehearse(prior: Prior, image_shape: Shape) -> bool:
    """Whether there is a stand-in: for priors of pixels, and for latent ones whose states are [C, h, w]."""
    return isinstance(prior.codec, Identity) or len(prior.state_shape(image_shape)) == 3


class Rehearsal(Prior):
    """The stand-in for a prior at one size.

    Args:
        prior: what it stands for; its weights are not needed.
        image_shape: of the images, [C, H, W].

    Attributes:
        evaluations: of the network in one `predict`; who knows of guidance sets it.
    """

    def __init__(self, prior: Prior, image_shape: Shape) -> None:
        codec, self._state = prior.codec, tuple(prior.state_shape(image_shape))
        decoded = tuple(codec.decoded_shape(image_shape))
        same = isinstance(codec, Identity)
        super().__init__(prior.schedule, codec if same else Pictures(self._state, decoded, image_shape))
        self.evaluations = 1

    @property
    def calls(self) -> Counter[str]:
        """How often "encode", "decode" and "render" ran, with or without a gradient; empty in pixel space."""
        return self.codec.calls if isinstance(self.codec, Pictures) else Counter()

    def state_shape(self, image_shape: Shape) -> Shape:
        return self._state

    def predict(self, x_t: Tensor, t: Tensor) -> Estimate:
        """The fraction of a learned variance is 1 / 2, as if the network had learned one."""
        alpha, sigma = (level.to(x_t) for level in self.schedule.levels(t))
        total = alpha.square() + sigma.square()
        return Estimate(alpha / total * x_t, sigma / total * x_t, torch.full_like(x_t, 0.5))

    def check_item(self, prompted: bool, references: Collection[str]) -> str | None:
        return None  # the prior was asked

    def bind(self, prompts: Sequence[str], references: Mapping[str, Tensor]) -> Prior:
        return self

    def prompt_embedding(self) -> Tensor:
        """[1, 1], of a prompt that nobody reads (`rbctrl.priors.base.TextPrior`)."""
        return torch.zeros(1, 1)

    def predict_prompted(self, x_t: Tensor, t: Tensor, prompt: Tensor) -> Estimate:
        """The estimate, a little brighter for a larger prompt [B, L, D]."""
        est = self.predict(x_t, t)
        bright = 1e-3 * prompt.flatten(1).mean(1).view(-1, *[1] * (x_t.ndim - 1))
        return Estimate(est.x0_hat + bright, est.eps_hat, est.variance_fraction)


class Pictures(Codec):
    """The stand-in for an autoencoder.

    Args:
        state: shape [C, h, w] of one state.
        decoded: of what costs see.
        image: of the final image.

    Attributes:
        calls: how often "encode", "decode" and "render" ran, whatever was differentiated.
    """

    def __init__(self, state: Shape, decoded: Shape, image: Shape) -> None:
        super().__init__()
        self._state, self._decoded, self._image = state, decoded, image
        self.calls: Counter[str] = Counter()

    def encode(self, image: Tensor) -> Tensor:
        self.calls["encode"] += 1
        return _resized(image, self._state)

    def decode(self, x0: Tensor) -> Tensor:
        self.calls["decode"] += 1
        return _resized(x0, self._decoded)

    def render(self, x0: Tensor, rng: ImageRNG | None = None) -> Tensor:
        self.calls["render"] += 1
        return _resized(x0, self._image)

    def state_shape(self, image_shape: Shape) -> Shape:
        return self._state

    def decoded_shape(self, image_shape: Shape) -> Shape:
        return self._decoded


def _resized(x: Tensor, shape: Shape) -> Tensor:
    gray = F.interpolate(x.mean(1, keepdim=True), shape[1:], mode="bilinear", align_corners=False)
    return gray.repeat(1, shape[0], 1, 1)
