"""Noise as a pure function of (seed, item, sample, key).

Every random number of a run is drawn here, per row and by name, so a result never depends on the batch it ran in, on
the device, on the order of the calls or on which other images ran. torch's CPU generator keeps only the low 32 bits
of its seed; here the whole name is hashed to 192 bits, the seed of a numpy SFC64.

Rows of few numbers, of which toy worlds have thousands, are not worth a generator each: there the hash of the row is
the key of a counter, mixed twice by the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), all rows at once.

Normal numbers are Box and Muller's transform (Ann. Math. Stat. 29, 1958) of 32-bit words, in fp32, faster
than numpy's own: on an image noise is a visible part of a step of a small network. Their tail ends at 6.7 standard
deviations. The words are the same everywhere; on another type of CPU the last digit of a logarithm may differ.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.random.bit_generator import ISeedSequence
from torch import Tensor

_FEW = 64  # words of a row up to which all rows are drawn at once


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
        words = self._words(key, half).view(np.uint32)
        noise = _box_muller(words[:, :half], words[:, half:])[:, :count].reshape(-1, *shape)
        return torch.from_numpy(noise).to(self.device, self.dtype)

    def uniform(self, key: str, shape: tuple[int, ...] = ()) -> Tensor:
        """Uniform numbers in [0, 1), [B, *shape]."""
        words = self._words(key, math.prod(shape))
        uniform = ((words >> np.uint64(11)) * 2.0**-53).reshape(-1, *shape)
        return torch.from_numpy(uniform).to(self.device, self.dtype)

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

    def _words(self, key: str, count: int) -> np.ndarray:
        """Random 64-bit words [B, count]."""
        if count > _FEW:
            words = [bits.random_raw(count) for bits in self._bit_generators(key)]
            return np.stack(words) if len(words) > 1 else words[0][None]
        first, second = self._row_keys + np.frombuffer(_digest(key, 16), "<u8")[:, None]
        counter = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        return _mix(_mix(first[:, None] + counter) ^ second[:, None])

    @cached_property
    def _row_keys(self) -> np.ndarray:
        """Two 64-bit words of each row, [2, B]."""
        digests = b"".join(_digest((self.seed, item, sample), 16) for item, sample in self.rows)
        return np.frombuffer(digests, "<u8").reshape(-1, 2).T.copy()

    def _bit_generators(self, key: str) -> Iterator[np.random.SFC64]:
        for item, sample in self.rows:
            yield np.random.SFC64(_Hashed(_digest((self.seed, item, sample, key), 24)))


@dataclass(frozen=True)
class _Hashed(ISeedSequence):
    """A seed that is a hash already: numpy's SeedSequence would mix it again, which costs more than SFC64 itself."""

    digest: bytes

    def generate_state(self, n_words: int, dtype: type = np.uint64) -> np.ndarray:
        return np.frombuffer(self.digest, "<u8", n_words).astype(dtype, copy=False)


def _digest(name: object, size: int) -> bytes:
    return hashlib.blake2b(repr(name).encode(), digest_size=size).digest()


def _mix(x: np.ndarray) -> np.ndarray:
    """A bijection of 64-bit words that leaves no visible trace of its argument."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _box_muller(radius: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Standard normal numbers [B, 2 n] in fp32 from random 32-bit words, [B, n] each."""
    r, phi = radius.astype(np.float32), angle.astype(np.float32)
    r += np.float32(0.5)
    r *= np.float32(2**-32)  # in (0, 1]
    np.log(r, out=r)
    r *= np.float32(-2)
    np.sqrt(r, out=r)
    phi *= np.float32(2 * np.pi * 2**-32)
    noise = np.empty((len(r), 2, r.shape[1]), np.float32)
    np.cos(phi, out=noise[:, 0])
    np.sin(phi, out=noise[:, 1])
    noise *= r[:, None]
    return noise.reshape(len(r), -1)
