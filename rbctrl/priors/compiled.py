"""Networks through torch.compile.

Kernels are made per shape of a batch, with and without gradients (`dynamic=False`): what a row is computed by depends
on its own batch, not on the shapes that the process saw before, and a sweep that is repeated repeats its numbers. The
first batch of a shape takes the time of its compilation, which its rows count as theirs; and torch compiles eight of
them (`torch._dynamo.config.recompile_limit`) before it leaves the others uncompiled.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy

from torch import nn


def compiled(network: nn.Module) -> nn.Module:
    """The same network, whose calls are compiled when they are first made; weights and hooks stay as they are."""
    network.compile(dynamic=False)
    return network


@contextmanager
def uncompiled(prior: nn.Module) -> Iterator[None]:
    """Every `network` in a prior as it was before: torch leaves what it compiled out of a copy."""
    owners = [part for part in prior.modules() if isinstance(getattr(part, "network", None), nn.Module)]
    networks = [owner.network for owner in owners]
    for owner, network in zip(owners, networks):
        owner.network = copy(network)
    try:
        yield
    finally:
        for owner, network in zip(owners, networks):
            owner.network = network
