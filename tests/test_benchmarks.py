"""The benchmark of latent controllers runs where there is no GPU."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "latent_memory.py"


def run(out, *words):
    command = [
        sys.executable,
        str(SCRIPT),
        "--tiny",
        "--controllers",
        "none,psld,rb_modulation",
        "--out",
        str(out),
        *words,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    with out.open() as file:
        return {row["controller"]: row for row in csv.DictReader(file)}


@pytest.mark.slow
def test_times_are_measured_and_evaluations_counted(tmp_path):
    rows = run(tmp_path / "rows.csv", "--steps", "2", "--device", "cpu")
    per_step = {name: (row["nfe_per_step"], row["vjp_per_step"]) for name, row in rows.items()}
    assert per_step == {"none": ("1.0", "0.0"), "psld": ("1.0", "1.0"), "rb_modulation": ("1.0", "0.0")}


@pytest.mark.slow
def test_memory_is_counted_without_a_gpu(tmp_path):
    saving = run(tmp_path / "saving.csv", "--device", "meta")
    keeping = run(tmp_path / "keeping.csv", "--device", "meta", "--no-checkpoint")
    assert float(saving["none"]["peak_gib"]) == float(keeping["none"]["peak_gib"])
    for name in ("psld", "rb_modulation"):
        assert float(saving[name]["peak_gib"]) < float(keeping[name]["peak_gib"])


@pytest.mark.slow
def test_throughput_compares_variants_of_the_network_in_turns(tmp_path):
    script = SCRIPT.with_name("throughput.py")
    small = "--sizes 16 --batches 1,2 --n-steps 2 --controllers dps --repeats 2 --variants channels_last,contiguous"
    done = subprocess.run(
        [sys.executable, str(script), *small.split(), "--out", str(tmp_path / "rows.csv")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    with (tmp_path / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["batch"], row["variant"]) for row in rows] == [
        (batch, variant) for batch in "12" for variant in ("channels_last", "contiguous")
    ]
    assert all(float(row["images_per_second"]) > 0 for row in rows) and rows[0]["ratio"] == "1.0"
