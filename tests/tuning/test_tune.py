"""The verb: fair, resumable, and its presets say where they come from."""

import csv

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from rbctrl.cli import main
from rbctrl.config import CONF_DIR
from rbctrl.results import read_rows
from rbctrl.tuning import is_tuned

FAST = ["operator=sr4", "data=leaves", "data.n=2", "data.size=16", "sampler.n_steps=3"]


def trials(folder, name):
    with (folder / "outputs" / "tune" / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def rows(folder):
    cells = [cell for cell in (folder / "outputs" / "tune").iterdir() if (cell / "journal").is_dir()]
    return {cell.name: read_rows(cell)[0] for cell in cells}


def from_preset(folder, *words):
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        search = f"hydra.searchpath=[file://{folder / 'conf'}]"
        cfg = compose("config", [search, "experiment=tuned_dps_sr4", "data=photos", *words])
    return OmegaConf.to_container(cfg, resolve=True)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["tune", "controller=dps,bicubic", *FAST, "--trials", "4"]) == 0
    return folder


def test_preset_is_the_winner_and_says_where_it_comes_from(tuned):
    best = max(trials(tuned, "dps_sr4"), key=lambda row: float(row["psnr"]))
    config = from_preset(tuned)
    assert config["controller"]["zeta"] == float(best["controller.zeta"])
    assert config["sampler"]["n_steps"] == 3
    text = (tuned / "conf" / "experiment" / "tuned_dps_sr4.yaml").read_text()
    assert "rbctrl tune controller=dps,bicubic" in text and "leaves/0000" in text
    provenance = config["tuned"]
    assert provenance["items"] == ["leaves/0000", "leaves/0001"] and provenance["trials"] == 4
    assert provenance["score"] == pytest.approx(float(best["psnr"]), abs=1e-3)


def test_cell_is_tuned_until_its_task_or_method_is_changed(tuned):
    assert is_tuned(from_preset(tuned))
    assert is_tuned(from_preset(tuned, "seed=3", "n_samples=4", "data.size=64"))
    for word in ("controller.zeta=2", "operator=deblur_gauss", "noise.sigma_y=0.1", "sampler.n_steps=9", "strength=2"):
        assert not is_tuned(from_preset(tuned, word)), word
    assert not is_tuned({})


def test_every_trial_sees_the_same_items_and_seed(tuned):
    seen = [sorted((row["item"], row["seed"]) for row in cell) for cell in rows(tuned).values()]
    assert seen == [[("leaves/0000", 0), ("leaves/0001", 0)]] * (4 + 4)


def test_interrupted_search_goes_on_to_the_same_trials(tuned, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["tune", "controller=dps", *FAST]
    main([*words, "--trials", "2"])
    before = rows(tmp_path)
    main([*words, "--trials", "4"])
    assert trials(tmp_path, "dps_sr4") == trials(tuned, "dps_sr4")
    assert len(before) == 2 and before.items() <= rows(tmp_path).items()  # the seconds of a row would tell


def test_preset_of_somebody_else_is_left_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "mine" / "tuned_bicubic_sr4.yaml"
    mine.parent.mkdir()
    mine.write_text("# @package _global_\nseed: 3\n")
    words = ["tune", "controller=bicubic", *FAST, "--trials", "1", "--out", "mine"]
    assert main(words) == 1
    assert "was not written by rbctrl tune" in capsys.readouterr().err
    assert yaml.safe_load(mine.read_text()) == {"seed": 3}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["controller=tv", "data=photos"], "held out"),
        (["controller=tv", "data=leaves", "--held-out", "data=leaves"], "held out"),
        (["controller=tv", "--metric", "chi2"], "chi2:higher or chi2:lower"),
        (["controller=tv", "--metric", "speed:lower"], "not measured"),
        (["controller=custom"], "no search space"),
        (["operator=sr4"], "which controllers"),
        (["controller=tv", "experiment=tuned_dps"], "cannot start from one"),
        (["controller=tv", "--tirals", "3"], "no option '--tirals'"),
        (["controller=tv", "--trials", "0"], "at least 1"),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence(words, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["tune", *words]) == 1
    error = capsys.readouterr().err.strip()
    assert sentence in error and len(error.splitlines()) == 1
    assert not (tmp_path / "conf").exists()
