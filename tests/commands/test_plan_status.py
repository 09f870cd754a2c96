"""What `rbctrl plan` says before a sweep and `rbctrl status` while and after it."""

import math
import re
from pathlib import Path

import pandas as pd
import pytest

from rbctrl.claims import claim
from rbctrl.cli import main
from rbctrl.commands.requests import requested
from rbctrl.commands.status import duration
from rbctrl.progress import CellProgress, seconds_left, survey

WORLD = "study=s prior=gmm2d operator=matrix data=gmm metrics=likelihood sampler=exact sampler.n_steps=3".split()
SWEEP = ["-m", *WORLD, "controller=dps,none", "seed=0,1"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_plan_counts_before_anything_runs_and_status_follows(here, capsys):
    assert main(["plan", *SWEEP, "data.n=4", "n_samples=2"]) == 0
    text = capsys.readouterr().out
    assert "controller=dps seed=1: 8 images, 3 evaluations and 3 pullbacks each" in text
    assert "4 cells, 0 cannot work; 32 images to compute: 96 evaluations, 48 pullbacks" in text
    assert not list(here.iterdir())  # a plan leaves nothing behind
    assert main([*SWEEP, "data.n=2", "n_samples=2"]) == 0
    capsys.readouterr()
    assert main(["plan", *SWEEP, "data.n=4", "n_samples=2"]) == 0
    text = capsys.readouterr().out
    assert text.count("4 of 8 images missing, 3 evaluations") == 4 and text.count("(measured)") == 4
    assert main(["status", "study=s"]) == 0
    assert "4 cells: 4 done; 24 rows there" in capsys.readouterr().out  # 2 samples and a mean of each of 2 images


def test_a_pair_that_cannot_work_is_named_by_plan_and_is_a_failed_cell_of_the_sweep(here, capsys):
    sweep = ["-m", *WORLD, "data.n=1", "controller=none,biharmonic"]
    assert main(["plan", *sweep]) == 1
    text = capsys.readouterr().out
    assert "controller=biharmonic: cannot work: biharmonic fills the holes of a mask" in text
    assert "2 cells, 1 cannot work; 1 image to compute" in text
    assert main(sweep) == 1
    capsys.readouterr()
    assert main(["status", "outputs/s"]) == 1
    text = capsys.readouterr().out
    assert "failed" in text and "biharmonic fills the holes" in text and "2 cells: 1 done, 1 failed" in text
    import rbctrl

    frame = rbctrl.load_study("outputs/s")
    (failed,) = frame[frame["status"] == "failed"].to_dict("records")
    assert failed["item"] == "" and failed["controller"] == "biharmonic" and "holes of a mask" in failed["error"]


def test_plan_names_an_image_that_does_not_fit_without_reading_weights(here, capsys):
    assert main(["plan", "data.size=60"]) == 1
    assert "cannot work: this prior runs at multiples of 8 px" in capsys.readouterr().out


def test_plan_counts_network_evaluations_with_a_denoiser_of_white_noise(here, capsys):
    words = ["data=leaves", "data.n=3", "data.size=16", "sampler.n_steps=5", "controller=dps"]
    assert main(["plan", *words]) == 0
    text = capsys.readouterr().out
    assert "3 images, 5 evaluations and 5 pullbacks each" in text and "(estimated)" in text


def test_plan_counts_pullbacks_through_a_codec_from_rows_that_are_there(here, capsys):
    latent = ["-m", "study=s", "prior=pca_gaussian", "data=leaves", "data.size=16", "sampler.n_steps=3"]
    latent.append("controller=psld,dps")
    assert main([*latent, "data.n=1"]) == 0
    capsys.readouterr()
    assert main(["plan", *latent, "data.n=2"]) == 0
    text = capsys.readouterr().out
    both = "besides {0} through the decoder and {1} through the encoder,"
    assert "psld: 1 of 2 images missing, 3 evaluations and 3 pullbacks each " + both.format(3, 3) in text
    assert "dps: 1 of 2 images missing, 3 evaluations and 3 pullbacks each besides 3 through the decoder," in text
    assert "6 evaluations, 6 pullbacks " + both.format(6, 3) in text


def test_rows_from_before_encoder_pullbacks_were_counted_are_read(here, capsys):
    study = [*WORLD, "controller=dps", "data.n=2"]
    assert main(study) == 0
    (journal,) = here.glob("outputs/s/*/journal/*.jsonl")
    old = re.sub(r'"encoder_vjp": \d+, ', "", journal.read_text())
    assert old.count("encoder_vjp") == 0 < old.count("decoder_vjp") == journal.read_text().count("encoder_vjp")
    journal.write_text(old)
    assert main(["plan", *study, "n_samples=2"]) == 0
    assert "3 evaluations and 3 pullbacks each, " in capsys.readouterr().out
    assert main([*study, "n_samples=2"]) == 0
    assert main(["report", "study=s"]) == 0
    rows = pd.read_csv(next(here.glob("outputs/s/*/rows.csv")), dtype={"sample": str}).set_index("sample")
    assert rows.encoder_vjp["0"].isna().all() and (rows.encoder_vjp["1"] == 0).all()
    assert (rows.vjp["mean"] == 6).all()


def test_status_knows_cells_that_nobody_began_and_who_is_at_work(here, capsys):
    assert main([*SWEEP, "data.n=1"]) == 0
    study = here / "outputs" / "s"
    assert len(requested(study)) == 4
    more = [*requested(study), [*WORLD, "data.n=1", "controller=dps", "seed=2"]]
    cells = survey(study, more)
    assert [cell.state for cell in cells].count("done") == 4 and cells[-1].state == "waiting"
    assert 0 < seconds_left(cells) < 60
    with claim(cells[0].folder):
        (running,) = [cell for cell in survey(study) if cell.state == "running"]
        assert running.folder == cells[0].folder and "process" in running.by


def test_a_sweep_that_cannot_be_composed_asks_for_nothing(here, capsys):
    assert main(["-m", *WORLD, "controller=none,dps", "controller.zeta=1"]) == 1
    assert not list(Path("outputs").glob("s/requests/*"))


def test_time_left_is_that_of_the_missing_rows_at_the_pace_of_who_runs():
    def cell(state, wanted, done, seconds=2.0, words=()):
        return CellProgress(None, words, state, wanted, done, seconds=seconds)

    assert seconds_left([cell("done", 5, 5)]) == 0
    assert seconds_left([cell("running", 5, 2), cell("stopped", 5, 4)]) == 8
    assert seconds_left([cell("running", 5, 2), cell("running", 5, 4)]) == 4
    known = [cell("done", 10, 10, 1.0, ("a", "x")), cell("done", 10, 10, 3.0, ("b", "x"))]
    assert seconds_left([*known, CellProgress(None, ("b", "y"), "waiting")]) == 30
    assert seconds_left([*known, CellProgress(None, ("x",), "waiting")]) == 20
    assert math.isnan(seconds_left([CellProgress(None, ("b",), "waiting")]))


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.52, "0.52 s"), (42.4, "42 s"), (600, "10 min"), (5 * 3600, "5 h"), (9e5, "10.4 days")]
)
def test_durations_are_for_people(seconds, text):
    assert duration(seconds) == text
    assert duration(math.nan) == "?"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [([], "takes one folder"), (["nowhere"], "there is no folder 'nowhere'"), (["."], "there is no cell")],
)
def test_status_says_what_it_cannot_find(here, capsys, words, sentence):
    assert main(["status", *words]) == 1
    assert sentence in capsys.readouterr().err


def test_a_signal_ends_a_sweep_in_one_line_and_keeps_what_is_done(here):
    import os
    import signal
    import subprocess
    import sys
    import time

    words = [*WORLD, "controller=dps", "seed=range(12)", "sampler.n_steps=400", "data.n=1"]
    command = [sys.executable, "-m", "rbctrl", "-m", *words]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    while not list(Path("outputs").glob("s/*/rows.csv")) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, text = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM and text == "rbctrl: SIGTERM; what is finished is kept\n"


def test_status_reads_folders_that_are_half_written(here, capsys):
    cell = here / "s" / "c-0"
    (cell / "journal").mkdir(parents=True)
    (cell / "journal" / "x.jsonl").write_bytes(b'{"rows":[{"it')
    for text in (b"a: [1", b"\xff", b"[1]", b"overrides: 3", b""):
        (cell / "config.yaml").write_bytes(text)
        assert main(["status", "s"]) == 0
        assert "1 cells" in capsys.readouterr().out
