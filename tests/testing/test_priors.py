"""The suite of priors passes the shipped network, and names what is wrong with a wrong declaration of it."""

import pytest
import torch
from torch import nn

from rbctrl.cli import main
from rbctrl.config import build
from rbctrl.data.shapes import Descriptions
from rbctrl.priors import Empirical, NetworkPrior, photo
from rbctrl.schedules import VE, VP, DiscreteVP
from rbctrl.testing import CheckError, check_prior

TRUE = {"parameterization": "x0", "time_input": "sigma", "value_range": (-1.0, 1.0), "sign": 1}


@pytest.fixture(scope="module")
def network():
    prior = photo()
    prior.load()
    return prior.network


def declared(network, schedule=None, **changes):
    return NetworkPrior(network, network_schedule=schedule or VE(), schedule=VP(), **(TRUE | changes))


def small(prior):
    return check_prior(prior, shape=(3, 24, 24))


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


def test_the_shipped_prior_passes_and_reports_psnr_against_noise(network):
    report = dict(small(declared(network)))
    noisy, denoised = ([report[f"{what} at {level}"] for level in ("0.1", "1", "10")] for what in ("noisy", "psnr"))
    assert noisy == pytest.approx([26, 6, -14], abs=0.3)  # 10 log10(4 / sigma^2)
    assert denoised == sorted(denoised, reverse=True)
    assert all(after > before + 5 for before, after in zip(noisy, denoised))
    assert report["gain at 60"] == pytest.approx(report["psnr at 60"] - report["noisy at 60"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"parameterization": "eps"}, "output looks like x0 and was declared eps"),
        slow({"parameterization": "v"}, "output looks like x0 and was declared v"),
        slow({"parameterization": "flow"}, "output looks like x0 and was declared flow"),
        ({"sign": -1}, "sign looks like 1 and was declared -1"),
        slow({"time_input": "log_sigma"}, "time_input looks like sigma and was declared log_sigma"),
        slow({"time_input": "log_snr"}, "time_input looks like sigma and was declared log_snr"),
        ({"time_input": "t"}, "time_input looks like sigma and was declared t "),
        (
            {"value_range": (0.0, 1.0)},
            r"better under other conventions: value_range looks like \[-1, 1\] and was declared \[0, 1\]",
        ),
        slow({"sign": -1, "time_input": "t"}, "sign looks like 1 .*; time_input looks like sigma"),
    ],
)
def test_a_wrong_declaration_of_the_shipped_network_is_named(network, changes, words):
    with pytest.raises(CheckError, match=words):
        small(declared(network, **changes))


class Disguised(nn.Module):
    """The shipped denoiser as a network that puts out -eps of images in [0, 1], told the index of the linear table."""

    def __init__(self, network):
        super().__init__()
        self.network, self.schedule = network, DiscreteVP.linear()

    def forward(self, x, index):
        t = (float(index[0]) + 1) / 1000
        alpha, sigma = (float(v) for v in self.schedule.levels(torch.tensor(t)))
        on_symmetric = 2 * x / alpha - 1
        x0 = (self.network(on_symmetric, torch.full((len(x),), 2 * sigma / alpha)) + 1) / 2
        return -(x - alpha * x0) / sigma


DISGUISED = {"parameterization": "eps", "sign": -1, "time_input": "index", "value_range": (0.0, 1.0)}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        slow({"parameterization": "v"}, "looks like eps and was declared v"),
        slow({"sign": 1}, "sign looks like -1 and was declared 1"),
        ({"value_range": (-1.0, 1.0)}, r"looks like \[0, 1\] and was declared \[-1, 1\]"),
        slow({"time_input": "t"}, "time_input looks like index and was declared t"),
    ],
)
def test_another_kind_of_network_is_recognised_by_its_own_conventions(network, changes, words):
    prior = declared(Disguised(network), DiscreteVP.linear(), **(DISGUISED | changes))
    if words is None:
        assert small(prior)
        return
    with pytest.raises(CheckError, match=words):
        small(prior)


class Noise(nn.Module):
    def forward(self, x, sigma):
        return torch.sin(1e4 * x)


def test_a_prior_worse_than_the_identity_is_refused_with_what_was_measured():
    with pytest.raises(CheckError, match="further from the image than .* no other parameterisation") as caught:
        small(declared(Noise()))
    assert dict(caught.value.report)["gain at 0.1"] < 0


def test_a_prior_without_conventions_is_measured_and_not_diagnosed():
    from rbctrl.data import Photos

    images = torch.stack([item.image for item in Photos(["china", "rocket"], 16).items()])
    assert min(value for name, value in check_prior(Empirical(VP(), images), images=images) if "gain" in name) > 0


def test_command_prints_the_table_and_fails_on_a_wrong_declaration(capsys, tmp_path):
    network = ["prior=module", "prior.network._target_=rbctrl.testing.worlds.UnitGaussian", "prior.value_range=[-1,1]"]
    network += ["prior.network_schedule._target_=rbctrl.schedules.VE", "prior.time_input=sigma"]
    assert main(["check", *network, "prior.parameterization=x0", "--shape=3,16,16"]) == 0
    out = capsys.readouterr().out
    assert "level" in out and "noisy" in out and "psnr" in out
    assert main(["check", *network, "prior.parameterization=eps", "--shape=3,16,16"]) == 1
    captured = capsys.readouterr()
    assert "looks like x0 and was declared eps" in captured.err and "psnr" in captured.out


def test_command_denoises_images_of_the_data(capsys, tmp_path):
    import numpy as np
    from PIL import Image

    for k in range(2):
        ramp = np.add.outer(np.arange(24), np.arange(24)) * (k + 2)
        Image.fromarray(np.stack([ramp] * 3, -1).astype(np.uint8)).save(tmp_path / f"{k}.png")
    words = ["check", "prior=photo", "data=folder", f"data.path={tmp_path}"]
    assert main(words) == 0
    first = capsys.readouterr().out
    assert main(["check", "prior=photo", "--shape=3,24,24"]) == 0
    assert capsys.readouterr().out != first


@pytest.fixture(scope="module")
def drawings():
    """The `shapes` prior, guided as it ships; declared otherwise by `declare`."""
    return build("prior", "shapes")


def test_a_prior_of_drawings_is_tested_on_drawings_under_their_prompts(drawings, monkeypatch):
    bound, bind = [], type(drawings).bind

    def record(self, prompts, references):
        bound.append(prompts)
        return bind(self, prompts, references)

    monkeypatch.setattr(type(drawings), "bind", record)
    report = check_prior(drawings, shape=(3, 32, 32))
    prompts = [item.prompt for item in Descriptions(4, 32).items()]
    assert sorted(bound) == sorted([prompts, *([prompt] for prompt in prompts)])
    assert min(value for name, value in report if name.startswith("gain")) > 1  # 9 at the 64 px that it knows


@pytest.mark.parametrize(
    ("setting", "value", "likely"),
    [
        slow("sign", -1, "its sign looks like 1 and was declared -1"),
        ("parameterization", "eps", "the output looks like v and was declared eps"),
    ],
)
def test_drawings_show_a_wrong_declaration_of_a_network_that_is_told_a_prompt(
    setting, value, likely, drawings, monkeypatch
):
    monkeypatch.setattr(drawings.denoiser, setting, value)
    with pytest.raises(CheckError, match=f"is further from the image than x_t / alpha.*{likely}"):
        check_prior(drawings, shape=(3, 32, 32))


def test_images_alone_do_for_a_prior_that_listens_to_no_prompt(network):
    report = check_prior(declared(network), images=list(Descriptions(2, 24).items()))
    assert min(value for name, value in report if name.startswith("gain")) > 3
