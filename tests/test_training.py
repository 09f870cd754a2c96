"""`rbctrl train`: resumable to the bit, and what it exports is what `photo` reads."""

import pytest
import torch

import rbctrl.training as training
from rbctrl.autoencoder import ConvAutoencoder
from rbctrl.commands import train
from rbctrl.data.patches import BatchShape, Patches, PatchSource
from rbctrl.networks import ConvUNet
from rbctrl.objectives import Denoising, Reconstruction, draw_sigma
from rbctrl.shipped import load_shipped
from rbctrl.training import Training, TrainingModule

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice on workers, loggers and devices


def make(folder, max_steps=8, **kwargs):
    torch.random.default_generator.manual_seed(0)
    settings = {
        "network": ConvUNet(channels=(8, 8), blocks=1, embedding=16),
        "objective": Denoising(),
        "source": PatchSource([BatchShape(16, 2), BatchShape(24, 1)], canvases=2, canvas_size=32),
        "work_dir": str(folder),
        "out": str(folder / "out.safetensors"),
        "max_steps": max_steps,
        "decay": 0.25,
        "warmup_steps": 1,
    }
    return Training(**(settings | kwargs))


@pytest.fixture(autouse=True)
def short_epochs(monkeypatch):
    monkeypatch.setattr(training, "STEPS_PER_EPOCH", 4)


def test_an_interrupted_training_ends_where_an_undisturbed_one_does(tmp_path):
    whole = make(tmp_path / "whole").run()
    make(tmp_path / "parts", max_steps=4).run()  # stops inside the constant part of the learning rate
    half = load_shipped(tmp_path / "parts" / "out.safetensors", ConvUNet).state_dict()
    parts = make(tmp_path / "parts").run()
    ours, theirs = (load_shipped(path, ConvUNet).state_dict() for path in (parts, whole))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not all(torch.equal(half[name], theirs[name]) for name in ours)


def test_batches_are_a_function_of_the_step():
    patches = Patches(torch.zeros(1, 32, 32, 3, dtype=torch.uint8), photo_share=0.5, names=("camera", "china"))
    batch = patches.batch(7, 4, 16)
    assert batch.shape == (4, 3, 16, 16) and batch.abs().max() <= 1
    assert torch.equal(batch, patches.batch(7, 4, 16)) and not torch.equal(batch, patches.batch(8, 4, 16))


def test_noise_levels_cover_the_range_and_centre_where_restoration_needs_them():
    sigma = draw_sigma(20000, 0, 0)
    assert sigma.min() < 0.01 and sigma.max() > 50
    assert 0.25 < sigma.median() < 0.45


def test_learning_rate_warms_up_stays_and_falls_to_zero():
    module = TrainingModule(ConvUNet(channels=(8,), blocks=1, embedding=16), Denoising(), 1e-3, 10, 100, 0.4, 0, False)
    factors = [module.lr_factor(step) for step in range(101)]
    assert factors[0] == 0.1 and set(factors[9:60]) == {1.0} and factors[100] == 0.0
    assert all(b < a for a, b in zip(factors[60:], factors[61:]))


def test_held_out_photographs_are_never_drawn():
    from rbctrl.data.patches import WEIGHTS
    from rbctrl.data.photos import GRAY, HELD_OUT, TRAINING

    assert not set(WEIGHTS) & set(HELD_OUT)
    assert set(WEIGHTS) == set(TRAINING) | set(GRAY)


def test_impossible_trainings_are_refused(tmp_path):
    for kwargs, word in (
        ({"max_steps": 7}, "multiple"),
        ({"decay": 0.0}, "decay"),
    ):
        with pytest.raises(ValueError, match=word):
            make(tmp_path, **kwargs)
    with pytest.raises(ValueError, match="photo_share"):
        PatchSource([BatchShape(16, 2)], photo_share=2.0)


def small_codec(folder, **kwargs):
    torch.random.default_generator.manual_seed(0)
    settings = {
        "network": ConvAutoencoder(latent_channels=4, channels=(8, 8), blocks=1),
        "objective": Reconstruction(),
    }
    return make(folder, **(settings | kwargs))


def test_an_autoencoder_trains_to_the_bit_and_a_denoiser_on_its_latents(tmp_path, monkeypatch):
    monkeypatch.setattr("rbctrl.objectives.STATISTICS", (10_000_000, 8, 32))
    whole = small_codec(tmp_path / "whole").run()
    small_codec(tmp_path / "parts", max_steps=4).run()
    parts = small_codec(tmp_path / "parts").run()
    ours, theirs = (load_shipped(path, ConvAutoencoder).state_dict() for path in (parts, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert theirs["scale"].std() > 0 and theirs["decoder.0.weight"].std() > 0

    seen = []
    latents = make(
        tmp_path / "latents",
        network=ConvUNet(channels=(8, 8), blocks=1, patch=1, embedding=16, image_channels=4),
        objective=Denoising(codec=str(whole)),
    )
    loss = latents.objective.loss
    monkeypatch.setattr(latents.objective, "loss", lambda f, x, *rest: seen.append(tuple(x.shape)) or loss(f, x, *rest))
    net = load_shipped(latents.run(), ConvUNet)
    assert net.config["image_channels"] == 4 and seen[:2] == [(2, 3, 16, 16), (1, 3, 24, 24)]


def test_reconstruction_decodes_under_noise_and_holds_latents_down():
    patches = PatchSource([BatchShape(16, 2)], photo_share=1.0)
    patches._patches = Patches(torch.zeros(1, 64, 64, 3, dtype=torch.uint8), photo_share=1.0, names=("china",))
    net, image = ConvAutoencoder(latent_channels=4, channels=(8, 8), blocks=1), patches.batch(0)
    losses = {}
    for noise, penalty in ((0.0, 0.0), (0.0, 1.0), (0.5, 0.0)):
        objective = Reconstruction(noise, penalty)
        objective.prepare(net, patches)
        losses[noise, penalty] = float(objective.loss(net, image, 3, 0))
    z, decoded = net(image, torch.zeros(2, 4, 4, 4))
    plain = float((decoded - image).square().mean())
    assert abs(losses[0.0, 0.0] - plain) < 1e-6
    assert abs(losses[0.0, 1.0] - plain - float(z.square().mean())) < 1e-5
    assert losses[0.5, 0.0] > 1.5 * plain


def test_recipes_are_named_and_others_refused(capsys):
    assert train.run(["codec", "--help"]) == 0 and "ConvAutoencoder" in capsys.readouterr().out
    assert train.run(["latent", "--help"]) == 0 and "photo_latent" in capsys.readouterr().out
    with pytest.raises(ValueError, match="no recipe 'latnet' to train: photo, codec, latent"):
        train.run(["latnet"])
