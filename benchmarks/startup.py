"""Start-up time of the command, and what a cell of a sweep costs beyond its sampling.

    python benchmarks/startup.py [--repeats 5] [--cells 12] [--clock wall] [--profile] [--word hydra/sweeper=basic]

Start-up: whole processes, `rbctrl --help` and one photograph in three steps; the median with its quartiles.

Sweep: one process runs `rbctrl -m` over seeds; a cell is what lies between the ends of two cells, less the time inside
`Solver.solve` (measuring, sampling, the final cost), and its share of the check that all cells can be composed, which a
sweep begins with. The first cell, which loads weights, is shown by itself. The goal is 50 ms for the others.
`--profile` says where it goes.
"""

from __future__ import annotations

import argparse
import contextlib
import cProfile
import io
import os
import pstats
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from timing import CLOCKS, save, seconds, spread

ROOT = Path(__file__).resolve().parents[1]
TINY = ["data.size=32", "sampler.n_steps=3"]
COMMANDS = {"rbctrl --help": ["--help"], "rbctrl, 32 px, 3 steps": TINY}


def start_up(repeats: int) -> list[dict[str, object]]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    rows = []
    for name, words in COMMANDS.items():
        with tempfile.TemporaryDirectory() as folder:
            call = partial(subprocess.run, cwd=folder, env=environment, capture_output=True, check=True)
            command = [sys.executable, "-m", "rbctrl", *words]
            new = ["study=run{}"] if words is TINY else []  # a cell that exists is not computed again
            taken = [seconds(partial(call, [*command, *(word.format(k) for word in new)])) for k in range(repeats + 1)]
        rows.append(_row(name, "wall", taken[1:]))
    return rows


def sweep(cells: int, clock: str, profile: bool, words: Sequence[str] = ()) -> list[dict[str, object]]:
    from hydra.plugins.sweeper import Sweeper

    from rbctrl.cli import main
    from rbctrl.commands import run as command
    from rbctrl.solver import Solver

    now, sampled, checked, ends = CLOCKS[clock], [0.0], [0.0], []
    run_cell = command.run_cell

    def timed(function: Callable, spent: list[float]) -> Callable:
        def call(*args: object, **options: object) -> object:
            begin = now()
            value = function(*args, **options)
            spent[0] += now() - begin
            return value

        return call

    def timed_cell(cfg: object) -> float:
        value = run_cell(cfg)  # type: ignore[arg-type]
        ends.append(now() - sampled[0] - checked[0])
        return value

    Solver.solve = timed(Solver.solve, sampled)  # type: ignore[method-assign]
    Sweeper.validate_batch_is_legal = timed(Sweeper.validate_batch_is_legal, checked)  # type: ignore[method-assign]
    command.run_cell = timed_cell  # type: ignore[assignment]
    ends.append(now())
    profiler = cProfile.Profile()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
        if profile:
            profiler.enable()
        status = main(["-m", *TINY, *words, f"seed=range({cells})", "hydra.sweep.dir=sweep"])
        profiler.disable()
    assert status == 0
    if profile:
        pstats.Stats(profiler).sort_stats("cumtime").print_stats(70)
    overheads = [after - before + checked[0] / cells for before, after in zip(ends, ends[1:])]
    return [_row("first cell", clock, overheads[:1]), _row("cell after the first", clock, overheads[1:])]


def _row(name: str, clock: str, taken: list[float]) -> dict[str, object]:
    low, middle, high = spread(taken) if len(taken) > 1 else taken * 3
    row = {"what": name, "clock": clock, "median_ms": middle, "quartile_1": low, "quartile_3": high}
    return {key: round(1000 * value, 1) if isinstance(value, float) else value for key, value in row.items()}


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cells", type=int, default=12)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--word", action="append", default=[], help="of the sweep's command line")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/startup.csv"))
    given = parser.parse_args()
    rows = sweep(given.cells, given.clock, given.profile, given.word)
    if given.repeats:
        rows = start_up(given.repeats) + rows
    for row in rows:
        print(f"{row['what']:<24} {row['median_ms']:>8} ms [{row['quartile_1']}, {row['quartile_3']}] ({row['clock']})")
    save(rows, given.out)


if __name__ == "__main__":
    run()
