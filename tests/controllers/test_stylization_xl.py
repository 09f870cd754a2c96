"""RB-Modulation on Stable Diffusion XL: control through a tiny decoder, attention on an IP-Adapter, the full result."""

from functools import partial

import diffusers
import pytest
import text_models
import torch
from safetensors.torch import save_file

from rbctrl.attention import AFA, IPAdapter, NoAttention
from rbctrl.controllers import NoControl, RBModulation
from rbctrl.costs import Cosine
from rbctrl.data.base import Batch
from rbctrl.descriptors import FilterGram
from rbctrl.grids import Uniform
from rbctrl.noise import NoNoise
from rbctrl.operators import Style
from rbctrl.priors.guidance import Guidance
from rbctrl.priors.ip_adapter import AdapterFiles
from rbctrl.priors.stable_diffusion import stable_diffusion
from rbctrl.process import ddim
from rbctrl.solver import Solver

STEPS, SIDE = 4, 32


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = text_models.save_xl(tmp_path_factory.mktemp("xl") / "xl").parent
    text_models.tiny_autoencoder().save_pretrained(root / "tiny")
    text_models.save_adapter(
        root / "adapter", text_models.adapter_tensors(text_models.xl_unet()), text_models.clip_vision()
    )
    embedding = torch.randn(text_models.IMAGE_WIDTH, generator=torch.Generator().manual_seed(0))
    save_file({"style": embedding}, root / "style.safetensors")
    return root


def solver(root, attention=None, controller=None, **options):
    settings = {"prompt": "a cat", "negative_prompt": None, "guidance": Guidance(5.0, 0.7)}
    settings |= {"ip_adapter": AdapterFiles(str(root / "adapter"), "adapter.safetensors", "image_encoder")}
    settings |= {"preview": str(root / "tiny"), "attention": attention}
    prior = stable_diffusion(str(root / "xl"), family="xl", **(settings | options))
    sampler = partial(ddim, n_steps=STEPS, grid=Uniform(), eta=1.0)
    control = NoControl() if controller is None else controller
    made = Solver(prior, Style(FilterGram()), NoNoise(), Cosine(), sampler, control, torch.device("cpu"), torch.float32)
    made.check()
    made.load()
    return made


def batch(n=1):
    references = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return Batch((("one", 0), ("two", 0))[:n], references[:n], None)


def previewed_cost(made, solution):
    """What the control descends: the cost of the preview of the last estimate."""
    with torch.no_grad():
        return made.cost(made.prior.codec.decode(solution.result.x0_hat), solution.obs)


def test_control_descends_through_the_tiny_decoder_and_the_full_one_renders(root, monkeypatch):
    """Three gradients of the tiny decoder per step, and one forward of the full one for the whole run."""
    calls = []
    decode = diffusers.AutoencoderKL.decode
    monkeypatch.setattr(
        diffusers.AutoencoderKL, "decode", lambda *args: calls.append(torch.is_grad_enabled()) or decode(*args)
    )
    made = solver(root, controller=RBModulation(lr=0.3))
    controlled = made.solve(batch(), 0)
    assert calls == [False] and controlled.evaluations.decoder_vjp == 3 * STEPS and controlled.evaluations.vjp == 0
    assert controlled.evaluations.nfe == 2 * STEPS
    full = diffusers.AutoencoderKL.from_pretrained(root / "xl" / "vae")
    with torch.no_grad():
        rendered = full.decode(controlled.result.x0_hat / full.config.scaling_factor).sample
    torch.testing.assert_close(controlled.image, rendered, rtol=1e-4, atol=1e-4)
    assert controlled.image.shape == (1, 3, SIDE, SIDE)
    free = solver(root)
    assert previewed_cost(made, controlled) < previewed_cost(free, free.solve(batch(), 0)) - 1e-4


def test_attention_and_control_are_two_axes(root):
    place = str(root / "style.safetensors")
    found = [
        solver(root, attention, controller).solve(batch(), 0).image
        for attention in (NoAttention(), IPAdapter(place), AFA(place))
        for controller in (NoControl(), RBModulation())
    ]
    assert all((one - other).abs().max() > 1e-4 for k, one in enumerate(found) for other in found[:k])


def test_a_row_does_not_see_the_others(root):
    made = solver(root, AFA(str(root / "style.safetensors")), RBModulation())
    whole, alone = made.solve(batch(2), 0), made.solve(batch(1), 0)
    torch.testing.assert_close(whole.image[:1], alone.image, rtol=1e-3, atol=1e-3)


def test_the_published_tiny_decoder_is_named_where_it_is_missing(root):
    with pytest.raises(FileNotFoundError, match=r"/no/taesdxl.*madebyollin/taesdxl.*prior.preview="):
        solver(root, preview="/no/taesdxl")
