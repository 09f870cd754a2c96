"""Time of one step of each controller over the bare network calls it needs.

    python benchmarks/step_overhead.py [--sizes 64,128,256] [--batches 1,8] [--repeats 15] [--clock wall]

In one process, for each size and batch: every round times n steps of each controller through
`rbctrl.sampling.sample`, and right beside it n bare calls of the same network on the same input: a forward, or a
forward and a vector-Jacobian product with respect to the input. The bare call is as fast as it can be made: same
memory format and threads, frozen weights, no gradient where none is needed. Printed is the median over the rounds of
the ratio, with its quartiles. On a machine that others use, `OMP_NUM_THREADS=1 ... --clock cpu` counts the processor
time of this thread instead of the time that passes.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import torch
from timing import CLOCKS, save, seconds, spread
from torch import Tensor

from rbctrl.controllers import DPS, NoControl, Proximal, PseudoinverseGuidance, RBModulation, RBModulationProx
from rbctrl.controllers.base import Controller, Run
from rbctrl.costs import ResidualNorm
from rbctrl.grids import PolyRho
from rbctrl.memory import keep_freed_memory
from rbctrl.noise import GaussianNoise
from rbctrl.observation import Objective, observe
from rbctrl.operators import Downsample
from rbctrl.priors import photo
from rbctrl.process import ddim
from rbctrl.rng import ImageRNG
from rbctrl.sampling import sample

CONTROLLERS: dict[str, tuple[Controller, bool]] = {  # method, whether it needs a VJP
    "none": (NoControl(), False),
    "proximal": (Proximal(), False),
    "rb_modulation_prox": (RBModulationProx(), False),
    "rb_modulation (3 Adam steps)": (RBModulation(), False),
    "dps": (DPS(), True),
    "guidance": (PseudoinverseGuidance(), True),
}


def bare_forward(network: torch.nn.Module, x: Tensor, sigma: Tensor) -> None:
    with torch.no_grad():
        network(x, sigma)


def bare_vjp(network: torch.nn.Module, x: Tensor, sigma: Tensor, v: Tensor) -> None:
    x = x.detach().requires_grad_()
    torch.autograd.grad(network(x, sigma), x, v)


def measure(size: int, batch: int, repeats: int, n_steps: int, clock: str) -> list[dict[str, object]]:
    prior = photo()
    prior.load()
    rng = ImageRNG(0, tuple(("image", k) for k in range(batch)))
    obs = observe(
        Downsample(4).draw(rng, (3, size, size)), GaussianNoise(0.05), rng.uniform("x", (3, size, size)) * 2 - 1, rng
    )
    process = ddim(prior, (3, size, size), n_steps, PolyRho())
    run = Run(process, Objective(ResidualNorm(), obs), rng)
    x = rng.normal("x_t", (3, size, size)).contiguous(memory_format=torch.channels_last)
    v, sigma = torch.ones_like(x), torch.full((batch,), 1.0)
    bare = {
        False: lambda: [bare_forward(prior.network, x, sigma) for _ in range(n_steps)],
        True: lambda: [bare_vjp(prior.network, x, sigma, v) for _ in range(n_steps)],
    }
    ratios: dict[str, list[float]] = {name: [] for name in CONTROLLERS}
    base: dict[str, list[float]] = {name: [] for name in CONTROLLERS}
    for k in range(repeats + 1):
        for name, (controller, needs_vjp) in CONTROLLERS.items():
            # before and after: a drift of the machine's speed cancels
            first = seconds(bare[needs_vjp], clock)
            step = seconds(lambda controller=controller: sample(run, controller), clock)
            around = (first + seconds(bare[needs_vjp], clock)) / 2
            if k > 0:  # the first round warms up
                ratios[name].append(step / around)
                base[name].append(around / n_steps)
    rows = []
    for name, values in ratios.items():
        low, median, high = spread(values)
        rows.append(
            {
                "size": size,
                "batch": batch,
                "clock": clock,
                "controller": name,
                "bare_calls": "forward + VJP" if CONTROLLERS[name][1] else "forward",
                "bare_ms": round(1000 * statistics.median(base[name]), 2),
                "ratio": round(median, 3),
                "quartile_1": round(low, 3),
                "quartile_3": round(high, 3),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="64,128,256")
    parser.add_argument("--batches", default="1,8")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--n-steps", type=int, default=20)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/step_overhead.csv"))
    given = parser.parse_args()
    keep_freed_memory()  # as the command does; for the bare calls, too
    rows = []
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {given.clock} clock; median [quartiles]")
    for size in map(int, given.sizes.split(",")):
        for batch in map(int, given.batches.split(",")):
            for row in measure(size, batch, given.repeats, given.n_steps, given.clock):
                rows.append(row)
                print(
                    f"{size:4d} px, batch {batch}: {row['controller']:<30} {row['ratio']:.3f} "
                    f"[{row['quartile_1']:.3f}, {row['quartile_3']:.3f}] "
                    f"of {row['bare_ms']:.1f} ms ({row['bare_calls']})",
                    flush=True,
                )
    save(rows, given.out)


if __name__ == "__main__":
    main()
