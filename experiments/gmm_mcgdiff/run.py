"""MCGDiff's mixture benchmark: sliced 1-Wasserstein distance to the exact posterior, one row per problem.

    python experiments/gmm_mcgdiff/run.py [--quick] [--jobs 2] [--rows dps doob] [--out outputs/gmm_mcgdiff]

Every cell is `rbctrl experiment=mcgdiff data.d=... data.d_y=... data.index=...` with the words of `STEPS` and `ROWS`
(`rows.py`), in that order; a new row of the table is one more line of `ROWS`. A word with commas is a knob: all values
are tried on problems of their own, for each cell, and the best one is run.

All rows of one problem run in one go, and what does not depend on the method is made once for them (`world.py`).
rows.csv, tuning.csv and times.csv grow as it goes, and what they hold is not run again. `table.py` makes the table.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from rows import LARGEST, PROBLEMS, ROWS, SIZES, STEPS
from study import Study


def prepare() -> None:
    """Begins a process that runs tasks."""
    import torch

    from rbctrl.memory import keep_freed_memory

    torch.set_num_threads(1)
    keep_freed_memory()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short for --d 8 --problems 5 without daps")
    parser.add_argument("--d", nargs="+", type=int, choices=SIZES["d"], default=SIZES["d"])
    parser.add_argument("--d-y", nargs="+", type=int, choices=SIZES["d_y"], default=SIZES["d_y"])
    parser.add_argument("--times", nargs="+", type=int, choices=list(STEPS), default=(100, 20), help="longest first")
    parser.add_argument("--problems", type=int, default=PROBLEMS, help="in each cell; the benchmark has 20")
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS), metavar="ROW")
    parser.add_argument("--out", type=Path, default=Path("outputs/gmm_mcgdiff"))
    given = parser.parse_args()
    if given.quick:
        given.d, given.problems = SIZES["d"][:1], PROBLEMS // 4
        given.rows = [name for name in given.rows if name not in LARGEST]
    os.environ["OMP_NUM_THREADS"] = "1"  # inherited by the processes, which import torch
    study = Study(given)
    with ProcessPoolExecutor(given.jobs, get_context("spawn"), prepare) as pool:
        for d in given.d:
            study.run(pool, study.left_to_tune(d))
            study.run(pool, study.left_to_run(d))
    print(study.cost())


if __name__ == "__main__":
    main()
