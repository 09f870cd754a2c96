"""Noise as a pure function of (seed, item, sample, key).

Every random number of a run is drawn here, per row and by name, so a result never depends on the batch it ran in, on
the device, on the order of the calls or on which other images ran. torch's CPU generator keeps only the low 32 bits
of its seed; here the whole name is hashed to 128 bits, from which numpy's SFC64 is seeded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class ImageRNG:
    """One stream of random numbers per row and key.

    Args:
        seed: of the whole run; any integer, 0 included.
        rows: (item, sample) of each row; an item is a name (its relative file name), never a position.
        dtype: of the tensors returned. Numbers are drawn in fp64, so fp32 and fp64 runs see the same noise.
        device: of the tensors returned; they are always drawn on the host.
    """

    seed: int
    rows: tuple[tuple[str, int], ...]
    dtype: torch.dtype = torch.float32
    device: torch.device | str = "cpu"

    def __len__(self) -> int:
        return len(self.rows)

    def normal(self, key: str, shape: tuple[int, ...]) -> Tensor:
        """Standard normal numbers [B, *shape]."""
        return self._draw(key, lambda generator: generator.standard_normal(shape))

    def uniform(self, key: str, shape: tuple[int, ...] = ()) -> Tensor:
        """Uniform numbers in [0, 1), [B, *shape]."""
        return self._draw(key, lambda generator: generator.random(shape))

    def poisson(self, key: str, rate: Tensor) -> Tensor:
        """Poisson counts of the given rates [B, ...]."""
        rates = rate.detach().double().cpu().numpy()
        drawn = [generator.poisson(rates[k]) for k, generator in enumerate(self.generators(key))]
        return torch.from_numpy(np.stack(drawn)).to(self.device, self.dtype)

    def generators(self, key: str) -> list[np.random.Generator]:
        """One numpy generator per row, for draws that have no method of their own (a motion path, a brush stroke)."""
        return [self._generator(item, sample, key) for item, sample in self.rows]

    def of_items(self) -> ImageRNG:
        """The same rows as sample 0 of their items: what all samples of one image share (mask, kernel, measurement)."""
        return replace(self, rows=tuple((item, 0) for item, _ in self.rows))

    def take(self, rows: Tensor) -> ImageRNG:
        """The given rows only."""
        return replace(self, rows=tuple(self.rows[k] for k in rows.tolist()))

    def _draw(self, key: str, draw: Callable[[np.random.Generator], np.ndarray | float]) -> Tensor:
        drawn = [np.asarray(draw(generator)) for generator in self.generators(key)]
        stacked = drawn[0][None] if len(drawn) == 1 else np.stack(drawn)
        return torch.from_numpy(stacked).to(self.device, self.dtype)

    def _generator(self, item: str, sample: int, key: str) -> np.random.Generator:
        name = repr((self.seed, item, sample, key)).encode()
        digest = hashlib.blake2b(name, digest_size=16).digest()
        return np.random.Generator(np.random.SFC64(int.from_bytes(digest, "little")))
