"""What the networks of the world learn from: images of the bank with what they show, or their latents.

A batch is a function of the seed and the step alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from rbctrl.autoencoder import ConvAutoencoder
from rbctrl.shapes.bank import GROUP, Bank, make_bank
from rbctrl.shapes.networks import SIDE, ShapesDescriptor
from rbctrl.shapes.words import scene_tokens
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
