"""ADM checkpoints as priors."""

import pytest
import torch
from priors.originals import OriginalUNet, randomise

from rbctrl.config import build
from rbctrl.priors.adm import adm
from rbctrl.priors.memory import Memory
from rbctrl.priors.unet_layout import UNetLayout
from rbctrl.schedules import VP, DiscreteVP

LAYOUT = UNetLayout(32, (1, 2), 1, (2,), 16, out_channels=6)


@pytest.fixture
def checkpoint(tmp_path):
    original = randomise(OriginalUNet(LAYOUT))
    torch.save(original.state_dict(), tmp_path / "adm.pt")
    return original, str(tmp_path / "adm.pt")


def test_estimate_is_that_of_the_published_network(checkpoint):
    """x0_hat, eps_hat and the variance fraction at index t of the table, from the network written in originals.py."""
    original, path = checkpoint
    prior = adm(path, LAYOUT)
    prior.load()
    x_t, t = torch.linspace(-2, 2, 3 * 64).sin().view(1, 3, 8, 8), 400
    with torch.no_grad():
        est = prior.predict(x_t, torch.tensor((t + 1) / 1000, dtype=torch.float64))
        eps, v = original(x_t, torch.tensor([float(t)])).chunk(2, dim=1)
    alpha_bar = float(torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)[t])
    x0 = (x_t - (1 - alpha_bar) ** 0.5 * eps) / alpha_bar**0.5
    torch.testing.assert_close(est.eps_hat, eps, rtol=0, atol=1e-5)
    torch.testing.assert_close(est.x0_hat, x0, rtol=0, atol=1e-4)
    torch.testing.assert_close(est.variance_fraction, (v + 1) / 2, rtol=0, atol=1e-5)
    with torch.no_grad():
        other = original(x_t, torch.tensor([t + 1.0]))[:, :3]
    assert not torch.allclose(est.eps_hat, other, rtol=0, atol=1e-5)  # the neighbouring index is told apart


def loaded(path, memory=None):
    prior = adm(path, LAYOUT, memory=memory)
    prior.load()
    return prior


def estimate(prior, seed=0):
    """x0_hat, and its gradient, of a fixed x_t."""
    x = torch.linspace(-2, 2, 2 * 3 * 64).add(seed).sin().view(2, 3, 8, 8).requires_grad_()
    x0_hat = prior.predict(x, torch.tensor(0.401, dtype=torch.float64)).x0_hat
    return x0_hat.detach(), torch.autograd.grad(x0_hat.square().sum(), x)[0]


def test_full_precision_is_what_it_was_and_checkpointing_changes_no_number(checkpoint):
    plain = estimate(loaded(checkpoint[1]))
    for memory in (Memory(checkpoint=False), Memory(checkpoint=True)):
        for found, expected in zip(estimate(loaded(checkpoint[1], memory)), plain):
            assert torch.equal(found, expected)
    network = loaded(checkpoint[1], Memory()).network
    assert network.is_gradient_checkpointing and not loaded(checkpoint[1]).network.is_gradient_checkpointing


def test_a_network_in_bf16_stays_close_with_fp32_states_and_gradients(checkpoint):
    exact, half = loaded(checkpoint[1]), loaded(checkpoint[1], Memory("bfloat16"))
    assert {p.dtype for p in half.network.parameters()} == {torch.bfloat16}
    bound = 0.05  # bf16 has 8 bits, 0.004, and some twenty layers

    def error(found, expected):
        return float((found - expected).norm() / expected.norm())

    for found, expected in zip(estimate(half), estimate(exact)):
        assert found.dtype == torch.float32 and 1e-4 < error(found, expected) < bound
    for found, expected in zip(estimate(half, seed=0.2), estimate(exact)):  # another image is further away
        assert error(found, expected) > 2 * bound


def test_gradients_flow_to_x_and_weights_are_frozen(checkpoint):
    prior = adm(checkpoint[1], LAYOUT)
    prior.load()
    x = torch.zeros(1, 3, 8, 8, requires_grad=True)
    prior.predict(x, torch.tensor(0.5, dtype=torch.float64)).x0_hat.sum().backward()
    assert x.grad.abs().sum() > 0 and not any(p.requires_grad for p in prior.parameters())


def test_files_fingerprint_and_shape_are_known_before_loading(checkpoint, tmp_path):
    prior = adm(checkpoint[1], LAYOUT)
    (file,) = prior.files()
    assert file.present() and len(prior.fingerprint()) == 16 and prior.trained_at == 256
    assert prior.state_shape((3, 6, 4)) == (3, 6, 4)
    with pytest.raises(ValueError, match="multiples of 2"):
        prior.state_shape((3, 7, 4))
    with pytest.raises(ValueError, match="3 channels"):
        prior.state_shape((1, 8, 8))


def test_a_failed_load_leaves_no_random_weights(checkpoint):
    wrong = adm(checkpoint[1], UNetLayout(32, (1, 2), 2, (2,), 16, out_channels=6))
    with pytest.raises(ValueError, match="does not fit"):
        wrong.load()
    assert wrong.network is None


def test_class_conditional_network_is_told_its_class(tmp_path):
    layout = UNetLayout(32, (1, 2), 1, (2,), 16, out_channels=6, classes=4)
    original = randomise(OriginalUNet(layout))
    torch.save(original.state_dict(), tmp_path / "adm.pt")
    x_t, t = torch.linspace(-1, 1, 2 * 3 * 64).sin().view(2, 3, 8, 8), torch.tensor(0.3, dtype=torch.float64)
    found = []
    for label in (1, 3):
        prior = adm(str(tmp_path / "adm.pt"), layout, label=label)
        prior.load()
        with torch.no_grad():
            found.append(prior.predict(x_t, t).eps_hat)
            expected = original(x_t, torch.full((2,), 299.0), torch.full((2,), label))[:, :3]
        torch.testing.assert_close(found[-1], expected, rtol=0, atol=1e-5)
    assert not torch.allclose(found[0], found[1], atol=1e-3)


def test_label_and_classes_go_together():
    with pytest.raises(ValueError, match="needs both"):
        adm("adm.pt", LAYOUT, label=1)
    classes = UNetLayout(32, (1, 2), 1, (2,), 16, classes=4)
    with pytest.raises(ValueError, match="needs both"):
        adm("adm.pt", classes)
    with pytest.raises(ValueError, match="0 to 3"):
        adm("adm.pt", classes, label=4)


def test_it_runs_natively_on_its_own_table_and_on_any_other():
    assert adm("adm.pt", LAYOUT, schedule=DiscreteVP.linear()).native
    assert not adm("adm.pt", LAYOUT, schedule=VP()).native


@pytest.mark.parametrize(
    ("option", "place", "word"),
    [
        ("adm_ffhq256", "weights/ffhq_10m.pt", "drive.google.com"),
        ("adm_imagenet256", "weights/256x256_diffusion_uncond.pt", "openaipublic"),
    ],
)
def test_published_files_are_asked_for(option, place, word, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RBCTRL_WEIGHTS", raising=False)
    prior = build("prior", option)
    with pytest.raises(FileNotFoundError, match=f"no weights at {place}: .*{word}.*put it there"):
        prior.load()


def test_a_network_of_one_part_has_no_parts_that_take_turns():
    with pytest.raises(ValueError, match="memory.gpu=null"):
        adm("adm.pt", LAYOUT, memory=Memory(gpu=8.0))
