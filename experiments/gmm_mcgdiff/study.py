"""What has been run of the table, what is left, and what it cost; all of it in CSV files that grow."""

from __future__ import annotations

import csv
import itertools
import math
import time
from argparse import Namespace
from collections.abc import Iterator
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass
from pathlib import Path

from rows import COLUMNS, FLOOR, KEYS, LARGEST, ROWS, SLICES, STEPS, TUNING, TUNING_SLICES, Task, knobs


@dataclass(frozen=True)
class Done:
    """What became of a task.

    Attributes:
        rows: one per row that ran.
        refusals: of rows that did not, with the reason.
        seconds: of processor time since the last task of this process, or since it began.
    """

    rows: list[dict[str, object]]
    refusals: tuple[str, ...]
    seconds: float


_spent = 0.0  # processor time of this process that its tasks have reported


def solve(task: Task) -> Done:
    """Runs a task, in a process of its own."""
    global _spent
    from hydra.errors import HydraException
    from world import World

    world, rows, refusals = World(task, TUNING_SLICES if task.tunes else SLICES), [], []
    for row, setting in task.rows:
        try:
            scores = world.floor() if row == FLOOR else world.scores(task.words(row, setting))
        except (ValueError, HydraException) as error:
            refusals.append(f"{row}: {' '.join(str(error).split())[:300]}")
            continue
        if task.tunes and scores["alive"] < 1:
            scores["sliced_wasserstein"] = math.inf
        rows.append({**task.key(row), "setting": setting, **scores})
    seconds = time.process_time() - _spent
    _spent += seconds
    return Done(rows, tuple(refusals), seconds)


class Store:
    """A CSV file that grows."""

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        self.path, self.columns = path, columns
        self.rows = list(csv.DictReader(path.read_text().splitlines())) if path.is_file() else []

    def add(self, rows: list[dict[str, object]]) -> None:
        if not rows:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = not self.path.is_file()
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, self.columns, extrasaction="ignore")
            if new:
                writer.writeheader()
            writer.writerows(rows)
        self.rows += [{name: str(row[name]) for name in self.columns} for row in rows]

    def of(self, d: int, d_y: int, n_times: int, row: str) -> list[dict[str, str]]:
        key = tuple(str(value) for value in (d, d_y, n_times, row))
        return [row for row in self.rows if tuple(row[name] for name in KEYS) == key]


class Study:
    """What has been run, what is left, and what it cost."""

    def __init__(self, given: Namespace) -> None:
        self.given = given
        self.store = Store(given.out / "rows.csv", COLUMNS)
        self.tuning = Store(given.out / "tuning.csv", (*KEYS, "problem", "setting", "sliced_wasserstein"))
        self.times = Store(given.out / "times.csv", ("d", "d_y", "n_times", "problem", "seconds"))

    def cells(self, d: int) -> Iterator[tuple[int, int, int, str]]:
        """Places of the table, in the order of the command."""
        for n_times, d_y, row in itertools.product(self.given.times, self.given.d_y, self.given.rows):
            if not (row == FLOOR and n_times != min(STEPS)) and d <= LARGEST.get(row, d):
                yield d, d_y, n_times, row

    def setting(self, *cell: int | str) -> str | None:
        """Of a cell: what its rows have, else the best one of tuning; None: not all have been tried."""
        options, done = knobs(ROWS[cell[3]]), self.store.of(*cell)
        if done or len(options) == 1:
            return done[0]["setting"] if done else options[0]
        found = {option: [] for option in options}
        for row in self.tuning.of(*cell):
            found.setdefault(row["setting"], []).append(float(row["sliced_wasserstein"]))
        complete = all(len(found[option]) == len(TUNING) for option in options)
        return min(options, key=lambda option: sum(found[option])) if complete else None

    def left_to_tune(self, d: int) -> list[Task]:
        """Tuning problems with the settings that have not been tried on them."""
        left: dict[tuple[int, ...], list[tuple[str, str]]] = {}
        for cell in self.cells(d):
            if self.setting(*cell) is None:
                tried = {(row["problem"], row["setting"]) for row in self.tuning.of(*cell)}
                for problem, option in itertools.product(TUNING, knobs(ROWS[cell[3]])):
                    if (str(problem), option) not in tried:
                        left.setdefault((*cell[:3], problem), []).append((cell[3], option))
        return [Task(*place, tuple(rows)) for place, rows in left.items()]

    def left_to_run(self, d: int) -> list[Task]:
        """Problems with the rows that have not been run on them."""
        left: dict[tuple[int, ...], list[tuple[str, str]]] = {}
        for cell in self.cells(d):
            setting, done = self.setting(*cell), {row["problem"] for row in self.store.of(*cell)}
            for problem in range(self.given.problems):
                if str(problem) not in done and setting is not None:
                    left.setdefault((*cell[:3], problem), []).append((cell[3], setting))
        return [Task(*place, tuple(rows)) for place, rows in left.items()]

    def run(self, pool: Executor, tasks: list[Task]) -> None:
        """Runs tasks in any order and stores what they bring."""
        begin, refused = time.perf_counter(), set()
        running = {pool.submit(solve, task): task for task in tasks}
        for count, future in enumerate(as_completed(running), 1):
            task, done = running[future], future.result()
            (self.tuning if task.tunes else self.store).add(done.rows)
            self.times.add([task.key("") | {"seconds": round(done.seconds, 2)}])
            where = f"d={task.d} d_y={task.d_y} times={task.n_times} problem={task.problem}"
            what = f"{len(done.rows)} rows, {done.seconds:.1f} s of processor time"
            print(f"{count}/{len(tasks)} {time.perf_counter() - begin:5.0f} s  {where}  {what}", flush=True)
            for reason in set(done.refusals) - refused:
                print(f"  refused: {reason}", flush=True)
            refused.update(done.refusals)

    def cost(self) -> str:
        """In one sentence."""
        return f"{sum(float(row['seconds']) for row in self.times.rows) / 60:.1f} minutes of processor time in all"
