"""Memory by counting. Tensors on torch's meta device have sizes and no values, so a run of any size fits anywhere.

`LiveBytes` adds up what an allocator would hold: the storages that are alive, each once. Autograd runs as it does on a
GPU. Attention is one kernel that keeps no matrix of scores. Not counted: an allocator's rounding and gaps, and the
workspaces of kernels.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Bytes of the tensors that are made inside and alive, and their largest sum.

    Args:
        held: bytes that are there from the start, those of the weights.
        device: type of the device whose tensors count.
    """

    def __init__(self, held: int = 0, device: str = "meta") -> None:
        super().__init__()
        self.device = device
        self.now = self.peak = held
        self._storages: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and leaf.device.type == self.device:
                self.add(leaf)
        return out

    def add(self, tensor: Tensor) -> None:
        """Counts a tensor that no operation of torch's made, such as one that numpy drew."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._storages:
            return
        self._storages.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._remove, key, size)

    def _remove(self, key: int, size: int) -> None:
        self._storages.discard(key)
        self.now -= size


class _Attention(torch.autograd.Function):
    """The sizes of fused attention: it keeps query, key, value and output."""

    @staticmethod
    def forward(ctx, query, key, value):
        out = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, out)
        return out

    @staticmethod
    def backward(ctx, grad):
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors[:3])


@contextmanager
def counting(held: int) -> Iterator[LiveBytes]:
    """Counts what runs inside on the meta device."""
    attention = lambda query, key, value, *args, **kwargs: _Attention.apply(query, key, value)  # noqa: E731
    with patch("torch.nn.functional.scaled_dot_product_attention", attention), LiveBytes(held) as live:
        yield live


def held_by(module: torch.nn.Module) -> int:
    """Bytes of weights and buffers."""
    return sum(tensor.nbytes for tensor in [*module.parameters(), *module.buffers()])
