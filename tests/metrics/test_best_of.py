"""The best restart is chosen by the measurement, and is one of the rows."""

import math

import pandas as pd
import pytest
import torch
from worlds import setup, tiny_prior

from rbctrl.cli import main
from rbctrl.metrics import PSNR, BestOf, Draws, Residual
from rbctrl.noise import GaussianNoise
from rbctrl.observation import observe
from rbctrl.operators import HalfMask, Identity, PhaseRetrieval
from rbctrl.rng import ImageRNG

TRUTH = 2 * ImageRNG(0, (("a", 0),), torch.float64).uniform("truth", (3, 16, 16)) - 1


def draws(samples, operator=None, truth=TRUTH):
    rng = ImageRNG(0, (("a", 0),), torch.float64)
    obs = observe((operator or PhaseRetrieval()).draw(rng, (3, 16, 16)), GaussianNoise(0.01), TRUTH, rng)
    return Draws(samples, None if truth is None else truth[0], obs, tiny_prior(), rng)


def test_y_chooses_and_not_the_truth():
    """A rotated image fits y as well as the truth, a slightly wrong one fits less and has the higher PSNR."""
    rotated, near = TRUTH.flip((-2, -1)), TRUTH + 0.05
    found = draws(torch.cat([near, rotated]))
    expected = PSNR()(rotated, TRUTH, found.obs).item()
    assert BestOf(PSNR())(found) == pytest.approx(expected)
    assert PSNR()(near, TRUTH, found.obs).item() > expected + 10
    assert BestOf(Residual())(found) == pytest.approx(Residual()(rotated, None, found.obs).item())
    assert BestOf(Residual())(found) < 0.012 < Residual()(near, None, found.obs).item()


def test_residual_counts_measured_entries_only():
    found = draws(TRUTH, HalfMask())
    wrong = TRUTH.clone()
    wrong[..., 8:] = 5.0
    assert Residual()(wrong, None, found.obs).item() == pytest.approx(Residual()(TRUTH, None, found.obs).item())
    assert Residual()(TRUTH, None, found.obs).item() == pytest.approx(0.01, rel=0.1)
    assert Residual()(TRUTH + 0.3, None, draws(TRUTH, Identity()).obs).item() == pytest.approx(0.3, rel=0.01)


def test_without_samples_or_truth_it_is_undefined():
    assert math.isnan(BestOf(PSNR())(draws(TRUTH[:0])))
    assert math.isnan(BestOf(PSNR())(draws(TRUTH, truth=None)))
    assert BestOf(PSNR()).check(setup(tiny_prior(), Identity())) is None
    with pytest.raises(TypeError, match="a metric of single images, such as PSNR, got a BestOf"):
        BestOf(BestOf(PSNR()))


def test_every_restart_has_its_row_and_the_best_is_one_of_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["data=photos", "data.names=[astronaut]", "data.size=32", "operator=phase_retrieval", "metrics=best_of"]
    words += ["controller=daps", "controller.n_ode=1", "controller.langevin_steps=2", "controller.tau=1"]
    assert main([*words, "sampler.n_steps=3", "n_samples=3", "hydra.run.dir=out"]) == 0
    (table,) = (tmp_path / "out").rglob("rows.csv")
    rows = pd.read_csv(table)
    single, mean = rows[rows["sample"] != "mean"], rows[rows["sample"] == "mean"].iloc[0]
    assert len(single) == 3 and single["psnr_best"].isna().all()
    best = single.loc[single["residual"].idxmin()]
    for name in ("residual", "psnr", "ssim"):
        assert mean[f"{name}_best"] == pytest.approx(best[name], rel=1e-5)
    assert single["residual"].nunique() == 3
