"""Which parts of a model are on the GPU when: what a phase does not need waits in the memory of the host.

    sampling     the network, what decodes for costs, and the operator, with a descriptor in it
    stage B, A   of Stable Cascade, one after the other
    rendering    the full autoencoder, where costs look through a smaller one

Text and image encoders never meet the GPU: they run on the host, one after the other, and are gone before the network
is read. A phase begins when one of its parts is called; then the parts of the phase before leave, and its own come. So
a method that calls parts of two phases in turns is slow, not wrong.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from rbctrl.priors.base import Prior

log = logging.getLogger(__name__)

GIB = 2**30
SAMPLING = "sampling"
Move = Callable[[nn.Module, torch.device, bool], object]  # module, place, and whether its children stay behind


@dataclass(frozen=True)
class Part:
    """What is moved as a whole.

    Args:
        name: of it.
        phase: the one that needs it.
        module: with its weights.
    """

    name: str
    phase: str
    module: nn.Module

    @property
    def gib(self) -> float:
        """Its weights."""
        return size(self.module) / GIB


@dataclass(frozen=True)
class Budget:
    """What a GPU has.

    Args:
        gpu: GiB of memory.
        reserve: GiB of it for activations.

    Raises:
        ValueError: nothing is left for weights.
    """

    gpu: float
    reserve: float

    def __post_init__(self) -> None:
        if not 0 <= self.reserve < self.gpu:
            raise ValueError(f"memory.reserve is less than memory.gpu={self.gpu} GiB, got {self.reserve}")


@dataclass(frozen=True)
class Plan:
    """Parts on a budget: all of them at once if they fit, otherwise those of one phase at a time.

    Args:
        parts: in the order of their phases.
        budget: of the GPU.
    """

    parts: tuple[Part, ...]
    budget: Budget

    @property
    def phases(self) -> dict[str, tuple[Part, ...]]:
        """Parts by phase."""
        names = dict.fromkeys(part.phase for part in self.parts)
        return {name: tuple(part for part in self.parts if part.phase == name) for name in names}

    @property
    def total(self) -> float:
        """GiB of all weights."""
        return sum(part.gib for part in self.parts)

    @property
    def at_once(self) -> bool:
        """Whether everything stays on the GPU."""
        return self.total + self.budget.reserve <= self.budget.gpu

    def peak(self) -> float:
        """GiB of weights on the GPU at most."""
        return self.total if self.at_once else max(sum(p.gib for p in parts) for parts in self.phases.values())

    def describe(self) -> str:
        """What it chose, in one sentence."""
        limit = f"of {self.budget.gpu:g} GiB, {self.budget.reserve:g} are for activations"
        if self.at_once:
            return f"all {self.total:.1f} GiB of weights stay on the GPU ({limit}): {_listed(self.parts)}"
        phases = "; then ".join(f"{name}: {_listed(parts)}" for name, parts in self.phases.items())
        return f"weights take turns on the GPU ({limit}, and all weights are {self.total:.1f}): {phases}"

    def excess(self) -> str | None:
        """Why it cannot be kept to, in one sentence; None if it can."""
        if self.peak() + self.budget.reserve <= self.budget.gpu:
            return None
        return (
            f"a phase has {self.peak():.1f} GiB of weights, and {self.budget.gpu - self.budget.reserve:g} of "
            f"{self.budget.gpu:g} GiB are for weights, so it may not fit: prior.memory.precision=bfloat16 halves the "
            "network, prior.size=lite is a smaller Stable Cascade"
        )


class Residency:
    """The phase whose parts are on the GPU now.

    Args:
        phases: modules by phase; the first is there from the beginning.
        device: the GPU.
        move: module and device to where it goes.
    """

    def __init__(self, phases: Mapping[str, Sequence[nn.Module]], device: torch.device, move: Move) -> None:
        self.phases, self.device, self._move = dict(phases), device, move
        self.present: str | None = None
        self._hooks = [
            inner.register_forward_pre_hook(lambda *_, phase=phase: self.need(phase))
            for phase, modules in self.phases.items()
            for module in modules
            for inner in module.modules()  # autoencoders are called by methods, which only their layers notice
        ]
        self.need(next(iter(self.phases)))

    def need(self, phase: str) -> None:
        """Brings the parts of a phase, if they are not there."""
        if phase == self.present:
            return
        for module in self.phases.get(self.present, ()):
            self._move(module, torch.device("cpu"), False)
        for module in self.phases[phase]:
            self._move(module, self.device, False)
        self.present = phase

    def end(self) -> None:
        """Nothing is moved any more."""
        for hook in self._hooks:
            hook.remove()


def place(prior: Prior, others: Sequence[nn.Module], device: torch.device, move: Move | None = None) -> None:
    """Puts a loaded prior and the modules that a run needs besides onto a device, on the prior's budget if it has one.

    Args:
        prior: loaded.
        others: operator and costs.
        device: of the run.
        move: instead of `Module.to`.
    """
    move = _move if move is None else move
    if prior.residency is not None:
        prior.residency.end()
        prior.residency = None
    plan = _plan(prior, others, device)
    if plan is None or plan.at_once:
        for module in (prior, *others):
            move(module, device, False)
        return
    for module in _outside((prior, *others), plan.parts):
        move(module, device, True)
    phases = {name: [part.module for part in parts] for name, parts in plan.phases.items()}
    for module in (module for name, modules in phases.items() if name != SAMPLING for module in modules):
        move(module, torch.device("cpu"), False)
    prior.residency = Residency(phases, device, move)


def _plan(prior: Prior, others: Sequence[nn.Module], device: torch.device) -> Plan | None:
    """The plan of a prior with a budget, which is logged; None without a budget, or without a GPU."""
    if prior.budget is None:
        return None
    if device.type == "cpu":
        log.info("memory: there is no GPU, so nothing is moved")
        return None
    more = (Part(type(other).__name__, SAMPLING, other) for other in others if size(other))
    plan = Plan(tuple(sorted((*prior.parts(), *more), key=lambda part: part.phase != SAMPLING)), prior.budget)
    log.info("memory: %s", plan.describe())
    if plan.excess():
        log.warning("memory: %s", plan.excess())
    return plan


def size(module: nn.Module) -> int:
    """Bytes of its parameters and buffers."""
    tensors = {id(value): value for value in (*module.parameters(), *module.buffers())}
    return sum(value.numel() * value.element_size() for value in tensors.values())


def _move(module: nn.Module, device: torch.device, alone: bool) -> None:
    if alone:
        module._apply(lambda value: value.to(device), recurse=False)
    else:
        nn.Module.to(module, device)  # that of diffusers warns of half precision on a CPU, where nothing runs here


def _outside(modules: Sequence[nn.Module], parts: Sequence[Part]) -> list[nn.Module]:
    """Those with tensors that are in no part, such as embedded prompts."""
    inside = {id(inner) for part in parts for inner in part.module.modules()}
    found = (inner for module in modules for inner in module.modules() if id(inner) not in inside)
    return [inner for inner in found if [*inner.parameters(False), *inner.buffers(False)]]


def _listed(parts: Sequence[Part]) -> str:
    return " + ".join(f"{part.name} {part.gib:.1f}" for part in parts)
