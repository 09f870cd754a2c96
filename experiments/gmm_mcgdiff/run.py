"""MCGDiff's mixture benchmark: sliced 1-Wasserstein distance to the exact posterior, one row per problem.

    python experiments/gmm_mcgdiff/run.py [--quick] [--jobs 2] [--rows dps doob] [--out outputs/gmm_mcgdiff]

Every cell is `rbctrl experiment=mcgdiff data.d=... data.d_y=... data.index=...` with the words of `STEPS` and `ROWS`,
in that order; a new row of the table is one more line of `ROWS`. A word with commas is a knob: all values are tried on
problems of their own, for each cell, and the best one is run. rows.csv and tuning.csv grow as it goes, and what they
hold is not run again. `table.py` makes the table.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import math
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

STEPS = {20: "sampler.n_steps=19 sampler.eta=0.6", 100: "sampler.n_steps=99 sampler.eta=0.85"}  # the two published ones
DDIM = "sampler=ddim sampler/grid=mcgdiff"
DDPM = "sampler=ddpm sampler/grid=mcgdiff sampler.eta=1"
RENOISE = "sampler=renoise sampler/grid=mcgdiff sampler.eta=0.85"
ROWS = {
    "floor": "controller=none",  # exact draws in place of samples
    "doob": "controller=doob",
    "doob_ddim": f"controller=doob {DDIM}",
    "doob_marginal": f"controller=doob {DDIM} sampler.start=marginal",
    "none": "controller=none",
    "dps_published": "controller=dps controller.rule=paper controller.zeta=0.1",
    "dps": "controller=dps controller.rule=paper controller.zeta=0.05,0.1,0.2,0.5,1,2",
    "guidance": f"controller=guidance {DDIM}",
    "moment_matching": f"controller=moment_matching_dense {DDIM}",
    "ddrm": f"controller=ddrm {RENOISE}",
    "rb_modulation": f"controller=rb_modulation {DDIM} controller.lr=0.3,1,3,10",
    "rb_modulation_prox": f"controller=rb_modulation_prox {DDIM} controller.strength=1,3,10,30",
    "rb_modulation_exact": f"controller=rb_modulation_exact {DDIM} controller.lr=0.03,0.1,0.3,1",
    "red_diff": "controller=red_diff cost=gaussian_nll cost.sigma_y=1 controller.lr=1,3,10 controller.weight=0.25,1",
    "daps": "controller=daps controller.tau=null controller.langevin_steps=10 controller.lr=1e-4,1e-3,1e-2,1e-1",
    "mcgdiff": f"controller=mcgdiff controller.particles=1000 {DDIM}",
    "tds": f"controller=tds controller.particles=1000 {DDPM}",
    "mcgdiff_wide": f"controller=mcgdiff controller.particles=1000 controller.kappa=0.5 {DDIM}",
    "particles": f"controller=particles controller.particles=20 {DDIM} sampler.eta=0.6,0.85,1",
}
SLOW = ("daps",)  # at d = 8 only: it draws noise for every Langevin step
SIZES = {"d": (8, 80, 800), "d_y": (1, 2, 4)}
SAMPLES = {8: 2000, 80: 2000, 800: 1000}  # 2000 in the paper
PROBLEMS = 20
TUNING = range(100, 104)  # problems of the same law that no table shows
TUNING_WORDS = "n_samples=500 batch_size=500 metrics.sliced_wasserstein.n_slices=200"
KEYS = ("d", "d_y", "n_times", "controller")
COLUMNS = (*KEYS, "problem", "setting", "sliced_wasserstein", "mode_weight_tv", "alive", "nfe", "vjp", "seconds")


@dataclass(frozen=True)
class Cell:
    """One place of the table: what is left to run of it.

    Attributes:
        knobs: settings to choose from, each a few words; one: nothing to choose.
    """

    d: int
    d_y: int
    n_times: int
    controller: str
    problems: tuple[int, ...]
    knobs: tuple[str, ...]

    def words(self, setting: str) -> list[str]:
        fixed = [word for word in ROWS[self.controller].split() if "," not in word]
        where = ["experiment=mcgdiff", "device=cpu", f"data.d={self.d}", f"data.d_y={self.d_y}"]
        size = [f"n_samples={SAMPLES[self.d]}", f"batch_size={SAMPLES[self.d]}"]
        return [*where, *size, *STEPS[self.n_times].split(), *fixed, *setting.split()]

    def key(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in KEYS}


def knobs(row: str) -> tuple[str, ...]:
    names, values = zip(*[word.split("=") for word in row.split() if "," in word]) if "," in row else ((), ())
    grid = itertools.product(*[value.split(",") for value in values])
    return tuple(" ".join(f"{name}={value}" for name, value in zip(names, point)) for point in grid)


def scores(words: list[str], problems: tuple[int, ...] | range, floor: bool = False) -> Iterator[dict[str, object]]:
    """Runs these words on these problems, in this process."""
    import torch
    from hydra.utils import instantiate

    from rbctrl.commands.run import compose
    from rbctrl.metrics import Draws
    from rbctrl.rng import ImageRNG

    torch.set_num_threads(1)
    config = compose(words)
    for problem in problems:
        config.data.index = problem
        experiment = instantiate(config, _convert_="all")
        experiment.solver.load()
        (batch,) = experiment.data.batches(experiment.batch_size, experiment.n_samples)
        begin = time.process_time()
        solution = experiment.solver.solve(batch, experiment.seed)
        seconds = time.process_time() - begin
        alive = solution.result.alive
        rng = ImageRNG(experiment.seed, batch.rows[:1], solution.image.dtype)
        obs = solution.obs.take(torch.tensor([0]))
        draws = Draws(solution.image[alive], batch.image[0], obs, experiment.prior, rng)
        metrics = {name: experiment.metrics[f"{name}_floor" if floor else name] for name in COLUMNS[6:8]}
        yield {
            "problem": problem,
            **{name: metric(draws) for name, metric in metrics.items()},
            "alive": float(alive.double().mean()),
            "nfe": solution.evaluations.nfe,
            "vjp": solution.evaluations.vjp,
            "seconds": round(seconds, 3),
        }


def tune(cell: Cell) -> list[dict[str, object]]:
    """The mean distance over the tuning problems, of each setting; inf where samples are lost."""
    table = []
    for setting in cell.knobs:
        rows = list(scores([*cell.words(setting), *TUNING_WORDS.split()], TUNING))
        values = [row["sliced_wasserstein"] if row["alive"] == 1 else math.inf for row in rows]
        table.append({**cell.key(), "setting": setting, "sliced_wasserstein": sum(values) / len(values)})
    return table


def run(cell: Cell) -> tuple[list[dict[str, object]], list[dict[str, object]], str]:
    """(rows, tuning rows, why the controller refuses this world) of a cell, in a process of its own."""
    from hydra.errors import HydraException

    try:
        tuning = tune(cell) if len(cell.knobs) > 1 else []
        best = min(tuning, key=lambda row: row["sliced_wasserstein"])["setting"] if tuning else cell.knobs[0]
        rows = list(scores(cell.words(best), cell.problems, cell.controller == "floor"))
    except (ValueError, HydraException) as error:
        return [], [], " ".join(str(error).split())[:300]
    return [{**cell.key(), "setting": best, **row} for row in rows], tuning, ""


class Store:
    """A CSV file that grows."""

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        self.path, self.columns = path, columns
        self.rows = list(csv.DictReader(path.open())) if path.is_file() else []

    def add(self, rows: list[dict[str, object]]) -> None:
        if not rows:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = not self.path.is_file()
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            if new:
                writer.writeheader()
            writer.writerows(rows)

    def of(self, cell: Cell) -> list[dict[str, str]]:
        key = {name: str(value) for name, value in cell.key().items()}
        return [row for row in self.rows if all(row[name] == key[name] for name in KEYS)]


def cells(given: argparse.Namespace, store: Store, tuned: Store) -> Iterator[Cell]:
    """What the files do not hold yet; the small problems first."""
    for d, n_times, d_y, name in itertools.product(given.d, STEPS, SIZES["d_y"], given.rows):
        if (name == "floor" and n_times != min(STEPS)) or (name in SLOW and d > 8):
            continue
        cell = Cell(d, d_y, n_times, name, (), knobs(ROWS[name]))
        done = store.of(cell)
        found = [(float(row["sliced_wasserstein"]), row["setting"]) for row in tuned.of(cell)]
        setting = [done[0]["setting"]] if done else [min(found)[1]] if found else []
        left = tuple(k for k in range(given.problems) if str(k) not in {row["problem"] for row in done})
        if left:
            yield replace(cell, problems=left, knobs=tuple(setting) if setting and setting[0] else cell.knobs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short for --d 8 --problems 5 without daps")
    parser.add_argument("--d", nargs="+", type=int, choices=SIZES["d"], default=SIZES["d"])
    parser.add_argument("--problems", type=int, default=PROBLEMS, help="in each cell; the benchmark has 20")
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS), metavar="ROW")
    parser.add_argument("--out", type=Path, default=Path("outputs/gmm_mcgdiff"))
    given = parser.parse_args()
    if given.quick:
        given.d, given.problems = SIZES["d"][:1], PROBLEMS // 4
        given.rows = [name for name in given.rows if name not in SLOW]
    os.environ["OMP_NUM_THREADS"] = "1"  # inherited by the processes, which import torch
    store = Store(given.out / "rows.csv", COLUMNS)
    tuned = Store(given.out / "tuning.csv", (*KEYS, "setting", "sliced_wasserstein"))
    todo, begin = list(cells(given, store, tuned)), time.perf_counter()
    with ProcessPoolExecutor(given.jobs, get_context("spawn")) as pool:
        running = {pool.submit(run, cell): cell for cell in todo}
        for count, done in enumerate(as_completed(running), 1):
            cell, (rows, tuning, refusal) = running[done], done.result()
            tuned.add(tuning)
            store.add(rows)
            value = sum(row["sliced_wasserstein"] for row in rows) / max(len(rows), 1)
            outcome = refusal or f"{value:.2f} {rows[0]['setting']}"
            where = f"d={cell.d} d_y={cell.d_y} times={cell.n_times} {cell.controller}"
            print(f"{count}/{len(todo)} {time.perf_counter() - begin:5.0f} s  {where}  {outcome}", flush=True)


if __name__ == "__main__":
    main()
