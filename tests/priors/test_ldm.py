"""A latent diffusion checkpoint in its published form: prefixes, a moving average without dots, a first stage."""

import pytest
import torch
from priors.original_vq import OriginalFirstStage
from priors.originals import OriginalUNet, randomise

from rbctrl.checkpoints import shapes
from rbctrl.codecs import first_stage
from rbctrl.codecs.first_stage import FirstStageLayout
from rbctrl.config import build
from rbctrl.priors.ldm import ldm
from rbctrl.priors.unet_layout import UNetLayout
from rbctrl.schedules import DiscreteVP

LAYOUT = UNetLayout(32, (1, 2), 1, (2,), 32, scale_shift=False, resampling="conv")
STAGE = FirstStageLayout(32, (1, 2), 1, latent_channels=3, codes=16)
TABLE = DiscreteVP.sqrt_linear(1000, 0.0015, 0.0195)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """raw network, moving average, first stage, and the path of the checkpoint that holds them."""
    raw, ema = (randomise(OriginalUNet(LAYOUT), seed) for seed in (0, 1))
    stage = randomise(OriginalFirstStage(STAGE), 2)
    state = {f"model.diffusion_model.{name}": value for name, value in raw.state_dict().items()}
    for name, value in ema.state_dict().items():
        state["model_ema.diffusion_model" + name.replace(".", "")] = value
    state |= {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(5)}
    state |= {f"first_stage_model.{name}": value for name, value in stage.state_dict().items()}
    betas = torch.linspace(0.0015**0.5, 0.0195**0.5, 1000, dtype=torch.float64).square()
    state |= {"betas": betas.float(), "alphas_cumprod": (1 - betas).cumprod(0).float()}
    path = tmp_path_factory.mktemp("ldm") / "model.ckpt"
    torch.save({"state_dict": state, "global_step": 7, "epoch": 1}, path)
    return raw, ema, stage, path


@pytest.mark.parametrize("weights", ["ema", "raw"])
def test_network_has_the_weights_that_were_asked_for(published, weights):
    raw, ema, _, path = published
    prior = ldm(str(path), LAYOUT, STAGE, TABLE, weights=weights)
    prior.load()
    z_t, t = torch.linspace(-2, 2, 3 * 64).sin().view(1, 3, 8, 8), torch.tensor(0.5, dtype=torch.float64)
    with torch.no_grad():
        eps = prior.predict(z_t, t).eps_hat
        right, wrong = (net(z_t, torch.tensor([499.0])) for net in ((ema, raw) if weights == "ema" else (raw, ema)))
    assert (eps - right).abs().max() < 1e-5
    assert (eps - wrong).abs().max() > 1e-2


def test_first_stage_is_the_published_one(published):
    _, _, stage, path = published
    prior = ldm(str(path), LAYOUT, STAGE, TABLE)
    prior.load()
    image = torch.linspace(-1, 1, 3 * 256).sin().view(1, 3, 16, 16)
    with torch.no_grad():
        z = prior.codec.encode(image)
        assert z.shape[1:] == prior.state_shape((3, 16, 16)) == (3, 8, 8)
        assert (z - stage.encode(image)).abs().max() < 1e-5
        decoded = prior.codec.decode(z)
        assert (decoded - stage.decode(z)).abs().max() < 1e-5
        assert (decoded - stage.decoder(stage.post_quant_conv(z))).abs().max() > 1e-3  # the codes count


def test_unquantised_decoder_and_gradients(published):
    _, _, stage, path = published
    prior = ldm(str(path), LAYOUT, STAGE, TABLE, quantize="none")
    prior.load()
    z = torch.linspace(-1, 1, 192).view(1, 3, 8, 8).requires_grad_()
    decoded = prior.codec.decode(z)
    assert (decoded - stage.decoder(stage.post_quant_conv(z))).abs().max() < 1e-5
    decoded.sum().backward()
    assert z.grad.abs().sum() > 0


def test_file_that_is_not_it_is_refused_before_any_weight_is_used(published, tmp_path):
    *_, path = published
    state = torch.load(path, weights_only=True)["state_dict"]

    def refused(change, match, **settings):
        torch.save({"state_dict": change(dict(state))}, tmp_path / "m.ckpt")
        prior = ldm(str(tmp_path / "m.ckpt"), LAYOUT, STAGE, settings.pop("table", TABLE), **settings)
        with pytest.raises(ValueError, match=match):
            prior.load()

    def without(word):
        return lambda s: {name: value for name, value in s.items() if word not in name}

    refused(without("model_ema"), "no moving average .*weights=raw")
    refused(without("model_ema.diffusion_modelout2bias"), r"1 missing \(out2bias\)")
    refused(without("diffusion_model.out.2"), r"2 missing \(out.2.weight, out.2.bias\)", weights="raw")
    refused(without("first_stage_model.quant_conv"), r"first_stage_model.*2 missing \(quant_conv.weight")
    refused(lambda s: s, "another beta table .*network_schedule", table=DiscreteVP.linear())


def test_weights_are_ema_or_raw():
    with pytest.raises(ValueError, match="weights is 'ema' or 'raw'"):
        ldm("m.ckpt", LAYOUT, STAGE, TABLE, weights="EMA")


def test_full_size_first_stage_fits_to_the_last_tensor():
    """VQ-f4: 55.3 M parameters; without weights (meta device)."""
    layout = FirstStageLayout(128, (1, 2, 4), 2, latent_channels=3, codes=8192)
    with torch.device("meta"):
        original, ours = OriginalFirstStage(layout), first_stage.build(layout)
    state = original.state_dict()
    ours.load_state_dict(first_stage.rename(layout, shapes(ours.state_dict()), state, "full size"), assign=True)
    assert round(sum(value.numel() for value in state.values()) / 1e6, 1) == 55.3


def test_option_holds_the_published_table():
    prior = build("prior", "ldm_ffhq256")
    assert float(prior.schedule.alpha_bar(torch.tensor(1.0))) == pytest.approx(1.42e-4, rel=0.01)
    assert prior.state_shape((3, 256, 256)) == (3, 64, 64)  # before its file is there
    with pytest.raises(ValueError, match="multiples of 32 px, got 80x80"):
        prior.state_shape((3, 80, 80))
    assert prior.native and prior.files()[0].place.endswith("ldm_ffhq256/model.ckpt")
