"""Noise as a pure function of (seed, item, sample, key).

Every random number of a run is drawn here, per row and by name, so a result never depends on the batch it ran in, on
the device, on the order of the calls or on which other images ran. torch's CPU generator keeps only the low 32 bits
of its seed; here the whole name is hashed to 192 bits, the seed of a numpy SFC64.

Normal numbers are Box and Muller's transform (Ann. Math. Stat. 29, 1958) of 32-bit words, in fp32: three times as fast
as numpy's own on an image, which at 128 px is 4 % of a step of the shipped network. Their tail ends at 6.7 standard
deviations. The words are the same everywhere; on another type of CPU the last digit of a logarithm may differ.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.random.bit_generator import ISeedSequence
from torch import Tensor


@dataclass(frozen=True)
class ImageRNG:
    """One stream of random numbers per row and key.

    Args:
        seed: of the whole run; any integer, 0 included.
        rows: (item, sample) of each row; an item is a name (its relative file name), never a position.
        dtype: of the tensors returned. Normal numbers are made in fp32 and uniform ones in fp64, whatever the dtype,
            so fp32 and fp64 runs see the same noise.
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
        count = math.prod(shape)
        half = (count + 1) // 2
        words = np.stack([bits.random_raw(half) for bits in self._bit_generators(key)]).view(np.uint32)
        noise = _box_muller(words[:, :half], words[:, half:])[:, :count].reshape(-1, *shape)
        return torch.from_numpy(noise).to(self.device, self.dtype)

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
        return [np.random.Generator(bits) for bits in self._bit_generators(key)]

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

    def _bit_generators(self, key: str) -> Iterator[np.random.SFC64]:
        for item, sample in self.rows:
            name = repr((self.seed, item, sample, key)).encode()
            yield np.random.SFC64(_Hashed(hashlib.blake2b(name, digest_size=24).digest()))


@dataclass(frozen=True)
class _Hashed(ISeedSequence):
    """A seed that is a hash already: numpy's SeedSequence would mix it again, at five times the price of SFC64."""

    digest: bytes

    def generate_state(self, n_words: int, dtype: type = np.uint64) -> np.ndarray:
        return np.frombuffer(self.digest, "<u8", n_words).astype(dtype, copy=False)


def _box_muller(radius: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Standard normal numbers [B, 2 n] in fp32 from random 32-bit words, [B, n] each."""
    r = (radius.astype(np.float32) + np.float32(0.5)) * np.float32(2**-32)  # in (0, 1]
    r = np.sqrt(-2 * np.log(r))
    phi = angle.astype(np.float32) * np.float32(2 * np.pi * 2**-32)
    return np.concatenate([r * np.cos(phi), r * np.sin(phi)], axis=1)
