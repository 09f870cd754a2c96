"""Images per second against batch size, image size and steps; and what torch.compile and channels_last change.

    python benchmarks/throughput.py [--sizes 64,128,256] [--batches 1,4,16] [--n-steps 20,100]
                                    [--controllers proximal,dps] [--variants channels_last,contiguous,compile]
                                    [--repeats 3] [--clock wall] [--device auto]

Whole restorations of procedural images by the shipped prior, measuring included, through `Solver.solve`. A variant is
how its network runs: in the memory format that it ships with (channels_last), in torch's default (contiguous), or
compiled (prior.compile=true), which needs a C++ compiler. Variants of one setting take turns in one process, after a
first run that is not counted. Printed are the median and quartiles of the seconds, images per second, and the ratio of
images per second to the first variant, of the same round.
"""

from __future__ import annotations

import argparse
import statistics
from itertools import product
from pathlib import Path

import torch
from timing import CLOCKS, save, seconds, spread

from rbctrl.cli import load_experiment
from rbctrl.experiment import Experiment
from rbctrl.memory import keep_freed_memory

VARIANTS = ("channels_last", "contiguous", "compile")


def experiment(variant: str, words: list[str]) -> Experiment:
    """With a network that runs as the variant says."""
    compiled = f"prior.compile={str(variant == 'compile').lower()}"
    made = load_experiment("data=leaves", "prior=photo", compiled, *words)
    made.solver.load()
    if variant == "contiguous":
        made.prior.network.to(memory_format=torch.contiguous_format)
    return made


def measure(words: list[str], batch: int, variants: list[str], repeats: int, clock: str) -> list[dict[str, object]]:
    """One row per variant; rounds of all of them, one after the other."""
    solvers = {}
    for variant in variants:
        made = experiment(variant, [*words, f"data.n={batch}"])
        (rows,) = made.data.batches(batch, 1)
        solvers[variant] = lambda made=made, rows=rows: made.solver.solve(rows, 0)
        solvers[variant]()  # compiles, and warms caches
    rounds = [{variant: seconds(call, clock) for variant, call in solvers.items()} for _ in range(repeats)]
    found = []
    for variant in variants:
        taken = [each[variant] for each in rounds]
        low, middle, high = spread(taken) if repeats > 1 else taken * 3
        ratio = statistics.median(each[variants[0]] / each[variant] for each in rounds)
        numbers = {"seconds": middle, "quartile_1": low, "quartile_3": high, "images_per_second": batch / middle}
        found.append(
            {"variant": variant} | {name: round(v, 4) for name, v in numbers.items()} | {"ratio": round(ratio, 3)}
        )
    return found


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("sizes", "64,128,256"), ("batches", "1,4,16"), ("n-steps", "20,100")):
        parser.add_argument(f"--{name}", type=_numbers, default=_numbers(default))
    parser.add_argument("--controllers", type=lambda text: text.split(","), default=["proximal", "dps"])
    parser.add_argument("--variants", type=_variants, default=["channels_last"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/throughput.csv"))
    given = parser.parse_args()
    keep_freed_memory()
    rows: list[dict[str, object]] = []
    for controller, size, batch, n_steps in product(given.controllers, given.sizes, given.batches, given.n_steps):
        setting = {"controller": controller, "px": size, "batch": batch, "n_steps": n_steps}
        words = [
            f"controller={controller}",
            f"data.size={size}",
            f"sampler.n_steps={n_steps}",
            f"device={given.device}",
        ]
        for row in measure(words, batch, given.variants, given.repeats, given.clock):
            rows.append(setting | row | {"clock": given.clock})
            print("  ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
    save(rows, given.out)


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def _variants(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in VARIANTS]
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no variant {unknown[0]!r}: use {', '.join(VARIANTS)}")
    return names


if __name__ == "__main__":
    run()
