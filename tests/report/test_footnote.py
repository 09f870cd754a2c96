import pytest
from made_runs import made_run
from omegaconf import OmegaConf

from rbctrl.report import report

VERSIONS = {"rbctrl": "0.1.0", "torch": "2.13.0", "commit": "0123456789abcdef", "hardware": "a CPU", "threads": "2"}


def test_it_says_what_nobody_should_have_to_type(tmp_path):
    made_run(tmp_path / "0", {"a": [20.0, 21.0], "b": [22.0, 23.0]}, versions=VERSIONS, nfe=100, vjp=100)
    made_run(tmp_path / "1", {"a": [20.0, 21.0], "b": [22.0, 23.0]}, "tv", seed=1, versions=VERSIONS, nfe=0, vjp=0)
    assert report([tmp_path]).footnote == (
        "2 images; data folder (path photos); seeds 0, 1; 2 samples per image and seed; gaussian noise, "
        "sigma_y 0.05 on [-1, 1] = 0.025 on [0, 1] = 6.375 of 255; 0 to 100 network evaluations, 0 to 100 VJPs per "
        "sample; a CPU, 2 threads; rbctrl 0.1.0 at commit 0123456789ab; torch 2.13.0."
    )


def test_several_machines_and_commits_are_all_named(tmp_path):
    for k, commit in enumerate(("aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb-dirty")):
        made_run(tmp_path / str(k), {"a": 1.0}, seed=k, versions=VERSIONS | {"commit": commit})
    note = report([tmp_path]).footnote
    assert "commit aaaaaaaaaaaa" in note and "commit bbbbbbbbbbbb-dirty" in note


def test_of_data_that_a_prior_draws_the_law_is_not_spelled_out(tmp_path):
    made_run(tmp_path / "0", {"a": 1.0})
    file = tmp_path / "0" / "config.yaml"
    record = OmegaConf.load(file)
    record.config.data.prior = {"_target_": "Mixture", "weights": [0.5, 0.5]}
    OmegaConf.save(record, file)
    assert "data folder (path photos);" in report([tmp_path]).footnote


@pytest.mark.parametrize("content", ["", "{", None])
def test_runs_that_recorded_nothing_leave_gaps_and_no_error(tmp_path, content):
    made_run(tmp_path / "0", {"a": 1.0})
    file = tmp_path / "0" / "versions.json"
    file.unlink() if content is None else file.write_text(content)
    assert "commit" not in report([tmp_path]).footnote
