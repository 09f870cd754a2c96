"""What a cell is said to cost is what it costs."""

import math

import pytest
import torch

from rbctrl.checkpoints import RequiredFile
from rbctrl.cli import load_experiment
from rbctrl.estimate import Cost, Estimator
from rbctrl.priors import GaussianMixture
from rbctrl.rehearsal import Rehearsal, can_rehearse
from rbctrl.schedules import VP

LEAVES = ["data=leaves", "data.size=16", "data.n=1", "sampler.n_steps=3"]
LATENT = ["prior=shapes", "sampler=ddim", "sampler/grid=uniform", *LEAVES]
DRAWINGS = "prior=shapes sampler=ddim sampler/grid=uniform sampler.n_steps=2 data=shapes_references data.n=1".split()
COUNTS = ("nfe", "vjp", "decoder_vjp", "encoder_vjp")


@pytest.mark.parametrize(
    "words",
    [
        *(
            [*LATENT, f"controller={name}"]
            for name in ("psld", "stsl", "rb_modulation_latent", "rb_modulation_encode", "p2l")
        ),
        [*DRAWINGS, "operator=sr4", "controller=dps", "attention=afa", "attention.style=item"],
        [*DRAWINGS, "operator=sr4", "controller=none", "prior.guidance.scale=1"],
    ],
    ids=lambda words: " ".join(words[7:]),
)
def test_counts_of_a_rehearsal_are_those_of_the_run(tmp_path, words):
    experiment = load_experiment(*words)
    cost = Estimator(tmp_path).cost(experiment, {})
    experiment.solver.load()
    spent = experiment.solver.solve(next(iter(experiment.data.batches(1, 1))), 0).evaluations
    assert [getattr(cost, name) for name in COUNTS] == [getattr(spent, name) for name in COUNTS]
    assert cost.source == "estimated" and 0 < cost.seconds < 60


def test_of_a_classical_method_no_weights_are_read(tmp_path, monkeypatch):
    experiment = load_experiment(*LEAVES, "controller=tv")
    monkeypatch.setattr(type(experiment.prior), "load", lambda self: pytest.fail("weights were read"))
    assert Estimator(tmp_path).cost(experiment, {}).nfe == 0


@pytest.mark.parametrize(("n_bytes", "counted"), [(8, True), (9, False)])
def test_on_a_cpu_large_weights_are_not_read(tmp_path, monkeypatch, n_bytes, counted):
    weights = tmp_path / "weights"
    (weights / "unet").mkdir(parents=True)
    (weights / "unet" / "model.safetensors").write_bytes(bytes(n_bytes))
    experiment = load_experiment(*LEAVES, "prior=photo", "controller=none")
    monkeypatch.setattr("rbctrl.estimate.LARGE", 8)
    monkeypatch.setattr(type(experiment.prior), "files", lambda self: (RequiredFile(str(weights), "nowhere"),))
    assert (Estimator(tmp_path).cost(experiment, {}).nfe == 3) == counted
    assert RequiredFile("owner/name", "nowhere").size() == math.inf


def test_the_stand_in_is_the_exact_denoiser_of_white_noise():
    mixture = GaussianMixture(VP(), [1.0], [[0.0, 0.0]], [[[1.0, 0.0], [0.0, 1.0]]])
    x, t = torch.tensor([[0.3, -2.0]], dtype=torch.float64), torch.tensor(0.4, dtype=torch.float64)
    rehearsed, exact = Rehearsal(mixture, (2,)).predict(x, t), mixture.predict(x, t)
    assert torch.allclose(rehearsed.x0_hat, exact.x0_hat) and torch.allclose(rehearsed.eps_hat, exact.eps_hat)


def test_states_that_are_no_pictures_have_no_stand_in(tmp_path, monkeypatch):
    experiment = load_experiment(*LATENT, "controller=psld")
    monkeypatch.setattr(type(experiment.prior.codec), "state_shape", lambda self, image_shape: (8,))
    monkeypatch.setattr(type(experiment.prior), "state_shape", lambda self, image_shape: (8,))
    assert not can_rehearse(experiment.prior, (3, 16, 16))
    assert repr(Estimator(tmp_path).cost(experiment, {})) == repr(Cost())
