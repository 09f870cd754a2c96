"""The scope of a method that changes how a network attends: what it installs is gone when the scope ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from torch import nn

from rbctrl.attention.sites import Site


@contextmanager
def installed(network: nn.Module, processors: Mapping[Site, Callable]) -> Iterator[nn.Module]:
    """Runs blocks of a network with other processors; the old ones are back at the end, also after an exception.

    A backward pass belongs inside: where blocks are recomputed in it, they run with the processors of that moment.

    Raises:
        RuntimeError: a parameter was exchanged or written to meanwhile. Processors are restored, numbers cannot be.
    """
    before = _state(network)
    old = {site: site.module.processor for site in processors}
    try:
        for site, processor in processors.items():
            site.module.set_processor(processor)
        yield network
    finally:
        for site, processor in old.items():
            site.module.set_processor(processor)
    changed = before ^ _state(network)
    if changed:
        names = sorted({name for name, *_ in changed})
        raise RuntimeError(
            f"parameters changed within an attention scope: {', '.join(names[:3])}: load the model again"
        )


def _state(network: nn.Module) -> set[tuple[str, int, int]]:
    """Name, identity and version of each parameter; the version counts writes."""
    return {
        (name, id(value), 0 if value.is_inference() else value._version) for name, value in network.named_parameters()
    }
