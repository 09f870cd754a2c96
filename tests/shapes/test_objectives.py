"""The losses, written out; and a training of each network runs and is read back."""

import pytest
import torch

import rbctrl.training as training
from rbctrl.autoencoder import ConvAutoencoder
from rbctrl.shapes.networks import ShapesClassifier, ShapesDenoiser, ShapesDescriptor
from rbctrl.shapes.objectives import Contrast, Reading, TextDenoising, contrastive, worn
from rbctrl.shapes.sources import Drawings, Latents
from rbctrl.shipped import load_shipped
from rbctrl.training import Training


def test_the_contrastive_loss_is_the_published_one():
    vectors = torch.nn.functional.normalize(torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    label, scale = torch.tensor([0, 1, 0, 1, 1]), torch.tensor(2.0)
    total = 0.0
    for i in range(5):
        others = [j for j in range(5) if j != i]
        below = sum(torch.exp(scale * vectors[i] @ vectors[j]) for j in others)
        same = [j for j in others if label[j] == label[i]]
        total += -sum(torch.log(torch.exp(scale * vectors[i] @ vectors[j]) / below) for j in same) / len(same)
    assert abs(contrastive(vectors, label, scale) - total / 5) < 1e-5
    assert abs(contrastive(vectors, torch.tensor([0, 0, 1, 1, 1]), scale) - total / 5) > 1e-2


def test_worn_images_are_noisy_by_at_most_the_level_and_some_are_untouched():
    image = torch.zeros(400, 3, 8, 8)
    deviation = worn(image, 0.3, torch.Generator().manual_seed(0)).flatten(1).std(1)
    assert 0.4 < (deviation == 0).float().mean() < 0.6 and 0.2 < deviation.max() < 0.36


@pytest.mark.filterwarnings("ignore")  # Lightning's advice on workers, loggers and devices
def test_all_networks_train_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "STEPS_PER_EPOCH", 2)
    torch.random.default_generator.manual_seed(0)

    def run(name, network, objective, source):
        out = tmp_path / f"{name}.safetensors"
        return Training(network, objective, source, str(tmp_path / name), str(out), 2, 0.5, warmup_steps=1).run()

    bank = {"groups": 2, "bank": str(tmp_path)}
    run("descriptor", ShapesDescriptor(8, 64), Contrast(), Drawings(count=32, labels=True, **bank))
    run("classifier", ShapesClassifier(8), Reading(), Drawings(count=16, labels=True, **bank))
    codec = ConvAutoencoder(4, (8, 8), 1)
    weights = tmp_path / "codec.safetensors"
    training.save_file(codec.state_dict(), weights, {name: repr(value) for name, value in codec.config.items()})
    source = Latents(count=4, codec=str(weights), descriptor=str(tmp_path / "descriptor.safetensors"), **bank)
    before = ShapesDenoiser((32, 32), 1, 16)
    out = run("shapes", before, TextDenoising(), source)
    assert load_shipped(out, ShapesDenoiser).config == before.config
    batch = source.batch(7)
    assert batch["latent"].shape == (4, 4, 16, 16) and torch.equal(batch["latent"], source.batch(7)["latent"])


def test_the_denoising_loss_is_that_of_v():
    objective, network = (
        TextDenoising(image_share=0.0, style_dropped=0.0, all_dropped=0.0),
        ShapesDenoiser((32, 32), 1, 16),
    )
    objective.prepare(network, None)
    batch = {
        "latent": torch.randn(6, 4, 8, 8),
        "words": torch.ones(6, 7, dtype=torch.long),
        "embedded": torch.ones(6, 64),
    }
    seen = {}

    def forward(x_t, t, tokens, pooled, images):
        seen.update(x_t=x_t, t=t, images=images)
        return torch.zeros_like(x_t)

    loss = objective.loss(forward, batch, 3, 0)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64).square()
    alpha_bar = (1 - betas).cumprod(0)[seen["t"]].float().view(-1, 1, 1, 1)
    alpha, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    eps = (seen["x_t"] - alpha * batch["latent"]) / sigma
    assert abs(float(loss - (alpha * eps - sigma * batch["latent"]).square().mean())) < 1e-4
    assert (seen["images"] == 0).all()
    assert (seen["t"] // (1000 / 6)).long().tolist() == list(range(6))  # stratified
