"""benchmarks/kill_resume.py in small, and Slurm jobs of several cells."""

import subprocess
import sys
from pathlib import Path

import pytest

from hydra_plugins.rbctrl_launchers.several import together

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "kill_resume.py"


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "joblib", "slurm_local", "ray"])
def test_a_sweep_killed_at_random_moments_ends_with_the_rows_of_an_undisturbed_one(launcher):
    packages = {"slurm_local": "submitit"} | {
        name: f"hydra_plugins.hydra_{name}_launcher" for name in ("joblib", "ray")
    }
    pytest.importorskip(packages.get(launcher, "hydra"))
    command = [sys.executable, BENCHMARK, "--launcher", launcher, "--cells", "8", "--kills", "2"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "128 of 128 rows bit-identical, 128 there, 0 written twice, status 0" in done.stdout


def test_cells_of_one_prior_share_jobs():
    cells = [(k, [f"prior={'ab'[k % 2]}", f"seed={k}"]) for k in range(6)]
    jobs = together(cells, 2)
    assert [[number for number, _ in job] for job in jobs] == [[0, 2], [4], [1, 3], [5]]
    sizes = [(k, ["prior=a", f"prior.weights={k // 2}"]) for k in range(4)]
    assert [[number for number, _ in job] for job in together(sizes, 9)] == [[0, 1], [2, 3]]
    assert [[number for number, _ in job] for job in together([(0, ["seed=1"]), (1, ["seed=2"])], 9)] == [[0, 1]]
