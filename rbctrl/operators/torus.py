"""Images on a torus, where a convolution is a product of spectra, and the mirrored margins that make one of them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad


def on_torus(kernel: Tensor, size: tuple[int, ...]) -> Tensor:
    """The kernel [B, 1, h, w] around the origin of a torus [B, 1, N, M], wrapped where it is larger."""
    for dim, n in zip((-2, -1), size, strict=True):
        length = kernel.shape[dim]
        index = (torch.arange(length, device=kernel.device) - length // 2) % n
        shape = list(kernel.shape)
        shape[dim] = n
        kernel = kernel.new_zeros(shape).index_add(dim, index, kernel)
    return kernel


def multiply(v: Tensor, factors: Tensor) -> Tensor:
    """v with its spectrum on the torus multiplied by `factors`, broadcastable to [B, C, H, W / 2 + 1]."""
    return torch.fft.irfft2(torch.fft.rfft2(v) * factors, s=tuple(v.shape[-2:]))


def fold(extended: Tensor, margin: int) -> Tensor:
    """Transpose of mirroring the last axis: margins [.., margin + W + margin] are added to the pixels they mirror."""
    if margin == 0:
        return extended
    core = extended[..., margin:-margin]
    left, right = extended[..., :margin].flip(-1), extended[..., -margin:].flip(-1)
    room = core.shape[-1] - margin - 1
    return core + pad(left, (1, room)) + pad(right, (room, 1))


def smooth(n: int) -> int:
    """The smallest number from n on without prime factors above 5: fast to transform."""
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 1
