"""What the networks of the world learn from the bank, and what they minimise; `rbctrl.training` runs it.

descriptor   supervised contrastive losses (Khosla et al., NeurIPS 2020, eq. 2): one style among all others, one
             content among all others, an image and its words (Radford et al., ICML 2021)
classifier   cross-entropy of each factor, Huber losses of colours and of the outlines of blobs
denoiser     mean square error of v = alpha eps - sigma x_0 (Salimans and Ho, ICLR 2022), t stratified over a batch
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rbctrl.autoencoder import ConvAutoencoder
from rbctrl.objectives import Source
from rbctrl.schedules import DiscreteVP
from rbctrl.shapes.bank import CONTENTS, GROUP, Bank, make_bank
from rbctrl.shapes.networks import SIDE, ShapesClassifier, ShapesDenoiser, ShapesDescriptor
from rbctrl.shapes.words import forget, scene_tokens
from rbctrl.shapes.world import BLOB
from rbctrl.shipped import digest, load_shipped

Batch = dict[str, Tensor]


def generator(seed: int, step: int, purpose: int) -> torch.Generator:
    """Random numbers of one step for one purpose."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step) * 7 + purpose)


@dataclass(eq=False)
class Drawings:
    """Images of the bank, a `Source`; `batch` gives images alone, or with what they show.

    Args:
        groups: of the bank, 16 drawings each.
        count: images of a batch; with labels a multiple of 16, whole groups.
        labels: whether a batch holds "words", the factors, "colors" and "outline" besides "image".
        bank: folder of the bank, which trainings share.
    """

    groups: int
    count: int
    labels: bool = False
    bank: str = "outputs/train/shapes"
    _bank: Bank | None = field(init=False, default=None)
    _seed: int = field(init=False, default=0)

    def prepare(self, folder: Path, seed: int) -> None:
        self._bank, self._seed = make_bank(self.groups, SIDE, 0, Path(self.bank)), seed

    def batch(self, step: int) -> Tensor | Batch:
        if not self.labels:
            return self.images(step, self.count, SIDE)
        chosen = torch.randint(self.groups, (self.count // GROUP, 1), generator=generator(self._seed, step, 0))
        rows = (GROUP * chosen + torch.arange(GROUP)).flatten()
        scenes = self._bank.scenes.take(rows)
        names = ("count", "shape", "position", "texture", "background", "colors", "outline")
        labels = {name: getattr(scenes, name) for name in names}
        return {"image": self._bank.images(rows), "words": scene_tokens(scenes)} | labels

    def images(self, number: int, count: int, size: int) -> Tensor:
        rows = torch.randint(len(self._bank.scenes), (count,), generator=generator(self._seed, number, 0))
        return self._bank.images(rows)


@dataclass(eq=False)
class Latents(Drawings):
    """Latents of the bank with words and embeddings of the images, all computed once.

    Args:
        codec: weights of the autoencoder.
        descriptor: weights of the descriptor, whose "words" vectors are the embeddings.
    """

    codec: str = ""
    descriptor: str = ""
    _latents: Tensor | None = field(init=False, default=None)
    _embedded: Tensor | None = field(init=False, default=None)

    def prepare(self, folder: Path, seed: int) -> None:
        super().prepare(folder, seed)
        paths = Path(self.codec), Path(self.descriptor)
        file = folder / f"latents_{self.groups}_{digest(paths[0])[:8]}_{digest(paths[1])[:8]}.pt"
        if not file.is_file():
            codec = load_shipped(paths[0], ConvAutoencoder).eval()
            descriptor = load_shipped(paths[1], ShapesDescriptor).eval()
            latents, embedded = [], []
            with torch.no_grad():
                for rows in torch.arange(len(self._bank.scenes)).split(256):
                    image = self._bank.images(rows)
                    latents.append(codec.encode(image).half())
                    embedded.append(descriptor(image)["words"])
            folder.mkdir(parents=True, exist_ok=True)
            torch.save({"latents": torch.cat(latents), "embedded": torch.cat(embedded)}, file)
        state = torch.load(file, weights_only=True)
        self._latents, self._embedded = state["latents"], state["embedded"]

    def batch(self, step: int) -> Batch:
        rows = torch.randint(len(self._latents), (self.count,), generator=generator(self._seed, step, 0))
        words = scene_tokens(self._bank.scenes.take(rows))
        return {"latent": self._latents[rows].float(), "words": words, "embedded": self._embedded[rows]}


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
