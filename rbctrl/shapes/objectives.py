"""What the networks of the world minimise; `rbctrl.training` runs it on what `rbctrl.shapes.sources` gives.

descriptor   supervised contrastive losses (Khosla et al., NeurIPS 2020, eq. 2): one style among all others, one
             content among all others, an image and its words (Radford et al., ICML 2021)
classifier   cross-entropy of each factor, Huber losses of colours and of the outlines of blobs
denoiser     mean square error of v = alpha eps - sigma x_0 (Salimans and Ho, ICLR 2022), t stratified over a batch
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rbctrl.objectives import Source
from rbctrl.schedules import DiscreteVP
from rbctrl.shapes.bank import CONTENTS, GROUP
from rbctrl.shapes.networks import ShapesClassifier, ShapesDenoiser, ShapesDescriptor
from rbctrl.shapes.sources import Batch, generator
from rbctrl.shapes.words import forget
from rbctrl.shapes.world import BLOB


@dataclass(eq=False)
class Contrast:
    """Of a `ShapesDescriptor`; images are blurred and noisy at random, as the x0_hat of a run are.

    Args:
        noise: largest standard deviation.
    """

    noise: float = 0.3
    _network: ShapesDescriptor | None = field(init=False, default=None)

    def prepare(self, network: ShapesDescriptor, source: Source) -> None:
        self._network = network

    def loss(self, forward: Callable, batch: Batch, step: int, seed: int) -> Tensor:
        g = generator(seed, step, 1)
        found = forward(worn(batch["image"], self.noise, g))
        count = len(batch["image"])
        group = torch.arange(count) // GROUP
        style, content = torch.arange(count) // CONTENTS, group * CONTENTS + torch.arange(count) % CONTENTS
        scale = dict(zip(ShapesDescriptor.HEADS, self._network.temperature.exp().clamp(max=50)))
        words = self._network.of_words(forget(batch["words"], g, 0.3, 0.1, 0.0))
        match = scale["words"] * found["words"] @ words.T
        target = torch.arange(count)
        return (
            contrastive(found["style"], style, scale["style"])
            + contrastive(found["content"], content, scale["content"])
            + 0.25 * (F.cross_entropy(match, target) + F.cross_entropy(match.T, target))
        )

    def finish(self, network: nn.Module, source: Source) -> None:
        pass


def contrastive(vectors: Tensor, label: Tensor, scale: Tensor) -> Tensor:
    """Mean over i and over the j != i of i's label of -log softmax_j(scale <v_i, v_j>), the sum being over j != i."""
    itself = torch.eye(len(label), dtype=torch.bool)
    logits = (scale * vectors @ vectors.T).masked_fill(itself, -torch.inf)
    same = (label[:, None] == label) & ~itself
    return -logits.log_softmax(1).masked_fill(~same, 0).sum(1).div(same.sum(1)).mean()


def worn(image: Tensor, noise: float, g: torch.Generator) -> Tensor:
    """Images of which half are blurred, and all noisy by a level uniform in [0, noise] of which half is 0."""
    n = len(image)
    blurred = F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), 3, 1)
    image = torch.lerp(image, blurred, torch.randint(2, (n, 1, 1, 1), generator=g).float())
    level = noise * torch.rand(n, 1, 1, 1, generator=g) * torch.randint(2, (n, 1, 1, 1), generator=g)
    return image + level * torch.randn(image.shape, generator=g)


@dataclass(eq=False)
class Reading:
    """Of a `ShapesClassifier`, on blurred and noisy images, too.

    Args:
        noise: largest standard deviation.
    """

    noise: float = 0.15

    def prepare(self, network: ShapesClassifier, source: Source) -> None:
        pass

    def loss(self, forward: Callable, batch: Batch, step: int, seed: int) -> Tensor:
        n, blobs = len(batch["image"]), batch["shape"] == BLOB
        read = forward(worn(batch["image"], self.noise, generator(seed, step, 1)))
        total = 10 * F.smooth_l1_loss(read.pop("colors"), batch["colors"])
        total = total + 30 * F.smooth_l1_loss(read.pop("outline")[blobs], batch["outline"][blobs], reduction="sum") / n
        return total + sum(F.cross_entropy(logits, batch[name], label_smoothing=0.02) for name, logits in read.items())

    def finish(self, network: nn.Module, source: Source) -> None:
        pass


@dataclass(eq=False)
class TextDenoising:
    """Of a `ShapesDenoiser` on the schedule of Stable Diffusion, words and image dropped at random.

    Args:
        image_share: share of rows that see an embedding of their own image; the others see zeros.
        style_dropped: share of rows without any word of the style.
        all_dropped: share of rows without any word.
    """

    image_share: float = 0.3
    style_dropped: float = 0.35
    all_dropped: float = 0.08
    _network: ShapesDenoiser | None = field(init=False, default=None)
    _alpha_bar: Tensor | None = field(init=False, default=None)

    def prepare(self, network: ShapesDenoiser, source: Source) -> None:
        schedule = DiscreteVP.sqrt_linear()
        self._network = network
        self._alpha_bar = schedule.alpha_bar(torch.arange(1, len(schedule) + 1) / len(schedule)).float()

    def loss(self, forward: Callable, batch: Batch, step: int, seed: int) -> Tensor:
        x_0, g = batch["latent"], generator(seed, step, 1)
        n = len(x_0)
        words = forget(batch["words"], g, self.style_dropped, 0.08, self.all_dropped)
        shown = torch.rand(n, 1, generator=g) < self.image_share
        images = torch.where(shown, batch["embedded"], 0.0)[:, None]
        t = ((torch.arange(n) + torch.rand(n, generator=g)) / n * len(self._alpha_bar)).long()
        alpha, sigma = (level.sqrt().view(-1, 1, 1, 1) for level in (self._alpha_bar[t], 1 - self._alpha_bar[t]))
        eps = torch.randn(x_0.shape, generator=g)
        x_t = (alpha * x_0 + sigma * eps).contiguous(memory_format=torch.channels_last)
        v = forward(x_t, t, *self._network.text(words), images)
        return (v - (alpha * eps - sigma * x_0)).square().mean()

    def finish(self, network: nn.Module, source: Source) -> None:
        pass
