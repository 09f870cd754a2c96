"""A sweep that is killed at random moments and repeated ends with the rows of an undisturbed one, bit for bit.

    python benchmarks/kill_resume.py [--launcher basic|joblib|submitit|slurm_local|ray] [--cells 60] [--kills 10]

A sweep of small cells on `gmm2d` (three samples of four draws in batches of two, so that images are split over batches)
runs once undisturbed, with Hydra's basic launcher. Then it runs again, in another folder, with the launcher that is
asked for; SIGKILL ends it and all processes it started each time a random number of rows is there, up to four batches'
time later, and the same command is repeated. Compared are all values of all rows but what is measured (seconds,
memory). Counted are rows that were written twice, and kills that came before the last row. Exit status 1 if anything
differs.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from rbctrl.journal import read
from rbctrl.results import read_rows

SWEEP = [
    *"-m prior=gmm2d operator=matrix data=gmm data.n=4 metrics=likelihood sampler=exact sampler.n_steps=20".split(),
    *"n_samples=3 batch_size=2".split(),
]
CONTROLLERS = ("none", "dps", "guidance", "doob")
LAUNCHERS = {
    "basic": [],
    "joblib": ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
    "submitit": ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=10"],
    "slurm_local": ["hydra/launcher=slurm_local", "hydra.launcher.cells_per_job=15"],
    "ray": ["hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2"],
}
MEASURED = ("seconds_per_image", "peak_memory")
MARK = "RBCTRL_KILL_RESUME"


def words(cells: int, launcher: str) -> list[str]:
    seeds = -(-cells // len(CONTROLLERS))
    return [*SWEEP, f"controller={','.join(CONTROLLERS)}", f"seed=range({seeds})", *LAUNCHERS[launcher]]


def start(command: list[str], folder: Path, mark: str) -> subprocess.Popen:
    env = {**os.environ, MARK: mark, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    with (folder / "log.txt").open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "rbctrl", *command],
            cwd=folder,
            env=env,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def kill(mark: str) -> int:
    """SIGKILL to every process that carries the mark of this sweep in its environment; how many there were."""
    killed = 0
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"{MARK}={mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                os.kill(int(entry.name), signal.SIGKILL)
                killed += 1
        except (OSError, ProcessLookupError):
            continue
    return killed


def lines(study: Path) -> int:
    return sum(file.read_bytes().count(b'{"rows"') for file in study.glob("*/journal/*.jsonl"))


def rows(study: Path) -> dict[tuple[str, ...], dict]:
    found = {}
    for folder in study.glob("*/journal"):
        for row in read_rows(folder.parent)[0]:
            key = folder.parent.name, str(row["item"]), str(row["sample"])
            found[key] = {name: value for name, value in row.items() if name not in MEASURED}
    return found


def repeated(study: Path) -> int:
    """Rows that were written more than once."""
    count = 0
    for folder in study.glob("*/journal"):
        keys = [(r["item"], str(r["sample"])) for record in read(folder)[0] for r in record.get("rows", [])]
        count += len(keys) - len(set(keys))
    return count


def proof(root: Path, cells: int, kills: int, launcher: str, seed: int) -> bool:
    whole, broken = root / "whole", root / "broken"
    for folder in (whole, broken):
        folder.mkdir(parents=True)
    begin, inside = time.perf_counter(), 0
    status = start(words(cells, "basic"), whole, "").wait()
    undisturbed, total = rows(whole / "outputs/default"), lines(whole / "outputs/default")
    taken = time.perf_counter() - begin
    print(f"undisturbed: {len(undisturbed)} rows of {cells} cells in {taken:.0f} s, status {status}")
    choose, command, study = random.Random(seed), words(cells, launcher), broken / "outputs/default"
    for k in range(kills):
        mark, there = uuid.uuid4().hex, lines(study)
        goal = there + choose.randint(1, max(2 * (total - there) // (kills + 2 - k), 1))
        process = start(command, broken, mark)
        while lines(study) < goal and process.poll() is None:
            time.sleep(0.01)
        time.sleep(4 * choose.random() * taken / total)
        killed, there = kill(mark), lines(study)
        inside += killed > 0 and there < total
        print(f"kill {k + 1}: {killed} processes, {there} of {total} batches there", flush=True)
        process.wait()
    mark = uuid.uuid4().hex
    status = start(command, broken, mark).wait()
    kill(mark)  # a Ray cluster may outlive its driver for a moment
    found, twice = rows(study), repeated(study)
    same = sum(found.get(key) == row for key, row in undisturbed.items())
    print(
        f"{launcher}: {same} of {len(undisturbed)} rows bit-identical, {len(found)} there, {twice} written twice, "
        f"status {status}; {inside} of {kills} kills inside the sweep"
    )
    return same == len(undisturbed) == len(found) and not twice and status == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--launcher", choices=LAUNCHERS, default="basic")
    parser.add_argument("--cells", type=int, default=60)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        return 0 if proof(Path(root), given.cells, given.kills, given.launcher, given.seed) else 1


if __name__ == "__main__":
    sys.exit(main())
