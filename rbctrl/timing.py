"""How long the networks of a prior take, measured on a few calls."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rbctrl.data.base import Batch
from rbctrl.observation import Evaluations
from rbctrl.priors.base import Prior
from rbctrl.priors.compiled import uncompiled
from rbctrl.rehearsal import Pictures, Rehearsal
from rbctrl.rng import ImageRNG
from rbctrl.solver import Solver
from rbctrl.work import rows_of

SLOW = 1.0  # seconds of a call of one image, from which on it stands for all


@dataclass(frozen=True)
class Call:
    """Seconds per image of a call, and of what a gradient adds to it."""

    forward: float
    pullback: float = 0.0


@dataclass(eq=False)
class Timer:
    """Times the networks of one prior at one size; each once, when it is first asked for.

    Args:
        batch: an image of the run, with its prompt and references.
        image_shape: of it, [C, H, W].
        batch_size: of the run.
    """

    batch: Batch
    image_shape: tuple[int, ...]
    batch_size: int
    _calls: dict[str, Call] = field(init=False, default_factory=dict)

    def evaluations(self, solver: Solver) -> int:
        """Of the network in one prediction: two under guidance."""
        return self._prior(solver, 1).evaluations

    def seconds(self, solver: Solver, spent: Evaluations, rehearsed: Rehearsal) -> float:
        """Of all networks, for one image of a run that was rehearsed.

        Args:
            solver: with the prior, loaded.
            spent: by the rehearsal.
            rehearsed: what ran in the place of the prior.

        Raises:
            ValueError: the run needs a part that the codec lacks.
        """
        calls = [("predict", spent.nfe / rehearsed.evaluations, spent.vjp / rehearsed.evaluations)]
        if isinstance(rehearsed.codec, Pictures):
            pullbacks = {"decode": spent.decoder_vjp, "encode": spent.encoder_vjp}
            calls += [(name, count, pullbacks.get(name, 0)) for name, count in rehearsed.codec.calls.items()]
        timed = [(self._call(solver, name), forwards, pullbacks) for name, forwards, pullbacks in calls if forwards]
        return sum(forwards * call.forward + pullbacks * call.pullback for call, forwards, pullbacks in timed)

    def _call(self, solver: Solver, name: str) -> Call:
        if name not in self._calls:
            one = self._timed(solver, name, 1)
            slow = self.batch_size == 1 or one.forward + one.pullback > SLOW
            self._calls[name] = one if slow else self._timed(solver, name, self.batch_size)
        return self._calls[name]

    def _timed(self, solver: Solver, name: str, size: int) -> Call:
        prior = self._prior(solver, size)
        codec, t = prior.codec, torch.tensor(0.5, dtype=torch.float64)
        rng = ImageRNG(0, self.batch.rows[:1] * size, solver.dtype, solver.device)
        calls: dict[str, Callable[[Tensor], Tensor]] = {
            "predict": lambda x: prior.predict(x, t).x0_hat,
            "decode": codec.decode,
            "encode": codec.encode,
            "render": lambda x: codec.render(x, rng),
        }
        shape = codec.decoded_shape(self.image_shape) if name == "encode" else prior.state_shape(self.image_shape)
        x = torch.linspace(-1, 1, torch.Size(shape).numel(), device=solver.device, dtype=solver.dtype)
        x = x.view(1, *shape).repeat(size, *[1] * len(shape))
        with uncompiled(prior), prior.scope():
            forward = _fastest(calls[name], x, backward=False) / size
            both = forward if name == "render" else _fastest(calls[name], x, backward=True) / size
        return Call(forward, max(both - forward, 0.0))

    def _prior(self, solver: Solver, size: int) -> Prior:
        """Under the prompt and references of the image, where it brings some."""
        if self.batch.prompts is None:
            return solver.prior
        batch = rows_of(self.batch, [0] * size)
        pictures = {kind: part.to(solver.device, solver.dtype) for kind, part in batch.references.items()}
        return solver.prior.bind(batch.prompts, pictures)


def _fastest(call: Callable[[Tensor], Tensor], x: Tensor, backward: bool) -> float:
    """Of two calls, or three if they are quick: the first one may compile."""
    two = min(_seconds(call, x, backward) for _ in range(2))
    return two if two > SLOW else min(two, _seconds(call, x, backward))


def _seconds(call: Callable[[Tensor], Tensor], x: Tensor, backward: bool) -> float:
    begin = time.perf_counter()
    with torch.set_grad_enabled(backward):
        x = x.clone().requires_grad_(backward)
        out = call(x)
        if backward:
            torch.autograd.grad(out.sum(), x)
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    return time.perf_counter() - begin
