"""Traps of Stable Cascade in diffusers, each with what would happen to one who steps into it.

More of them are in test_stable_cascade.py (time in bf16, fp16, states before the last norm, the mask of the padding,
the shift that is not `scaler`, stage A's scale, the embedding of zeros), in tests/attention (tokens from the end, four
dimensions, restoring) and in tests/controllers/test_stylization.py (deviations of the batch, the last estimate).
"""

import pytest
import text_models
import torch

from rbctrl.attention import AFA, find_sites
from rbctrl.controllers import NoControl, RBModulation
from rbctrl.controllers.base import Run
from rbctrl.costs import Cosine as CosineCost
from rbctrl.descriptors import FilterGram
from rbctrl.grids import Uniform
from rbctrl.noise import NoNoise
from rbctrl.observation import Objective, observe
from rbctrl.operators import Style
from rbctrl.priors.stable_cascade import stable_cascade
from rbctrl.priors.stage_b import Stages
from rbctrl.process import ddim
from rbctrl.rng import ImageRNG
from rbctrl.sampling import sample

SHAPE, T = (16, 3, 3), torch.tensor(0.5, dtype=torch.float64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return text_models.save_cascade(tmp_path_factory.mktemp("cascade"))


def make(folder, prompt="a cat", **options):
    prior = stable_cascade(str(folder / "c"), preview=str(folder / "previewer.safetensors"), prompt=prompt, **options)
    prior.load()
    return prior


@pytest.fixture
def x_t():
    return torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))


def test_a_text_only_run_sees_its_text(folder, x_t):
    """Without an image diffusers drops the text tokens, too, in silence: the image slot is an embedding of zeros."""
    prior, network = make(folder), text_models.cascade_unet()
    cat, dog = prior.prompt, make(folder, "dog").prompt

    def output(text, images):
        with torch.no_grad():
            pooled = cat.pooled.expand(2, 1, -1)
            return network(x_t, torch.full((2,), 0.6), pooled, text.expand(2, -1, -1), images).sample

    assert torch.equal(output(cat.tokens, None), output(dog.tokens, None))  # the trap
    zeros = torch.zeros(2, 1, text_models.IMAGE_WIDTH)
    assert (output(cat.tokens, zeros) - output(dog.tokens, zeros)).abs().max() > 1e-3
    ours = [prior.denoiser.predict(x_t, T, *embedding.under(text.expand(2, -1, -1))).eps_hat
            for embedding, text in ((cat, cat.tokens), (cat, dog.tokens))]  # fmt: skip
    assert (ours[0] - ours[1]).abs().max() > 1e-3


def test_sizes_and_crops_are_left_to_the_network(folder, x_t):
    """`sca` and `crp` of more than one row meet `cond or zeros`, which asks for the truth of a tensor."""
    network = text_models.cascade_unet(timestep_conditioning_type=("sca", "crp"))
    pooled, text, images = (torch.zeros(2, n, w) for n, w in ((1, 16), (5, 16), (1, text_models.IMAGE_WIDTH)))
    with pytest.raises(RuntimeError, match="Boolean value of Tensor"):
        network(x_t, torch.full((2,), 0.6), pooled, text, images, sca=torch.ones(2))
    prior, given = make(folder), []
    prior.denoiser.network.model.register_forward_pre_hook(
        lambda _, args, named: given.append((args, named)), with_kwargs=True
    )
    prior.predict(x_t, T)
    ((args, named),) = given
    assert len(args) == 5 and named == {}


def test_dropout_of_the_config_is_off(folder, x_t):
    """The published config has 0.1, and AFA's output passes a dropout layer, too."""
    from safetensors.torch import save_file

    save_file({"style": torch.ones(text_models.IMAGE_WIDTH)}, folder / "ones.safetensors")
    prior = make(folder, attention=AFA(str(folder / "ones.safetensors")))
    network = prior.denoiser.network
    rates = {module.p for module in network.modules() if isinstance(module, torch.nn.Dropout)}
    assert max(rates) > 0 and torch.equal(prior.predict(x_t, T).eps_hat, prior.predict(x_t, T).eps_hat)
    network.train()  # the trap
    assert not torch.equal(prior.predict(x_t, T).eps_hat, prior.predict(x_t, T).eps_hat)


def test_previews_are_neither_clamped_nor_normalised_over_the_batch(folder):
    codec = make(folder).codec
    z = 3 * torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1))
    whole = codec.decode(z)
    torch.testing.assert_close(whole[:1], codec.decode(z[:1]), rtol=0, atol=1e-5)
    with torch.enable_grad():
        far = (100 * z).requires_grad_()
        preview = codec.decode(far)
        (gradient,) = torch.autograd.grad(preview.sum(), far)
    assert preview.abs().max() > 1 and gradient.abs().max() > 0
    codec.preview.network.train()  # the trap
    assert not torch.allclose(codec.decode(z)[:1], codec.decode(z[:1]), atol=1e-3)


def test_a_scaler_is_no_shift(folder, tmp_path):
    with pytest.raises(ValueError, match="scaler=2.0 .*Stable Cascade's is DDPMWuerstchenScheduler with scaler=1"):
        make(text_models.save_cascade(tmp_path, scaler=2.0))


@pytest.mark.parametrize(("width", "heads", "layers", "blocks"), [(2048, 32, (8, 24), 64), (1536, 24, (4, 12), 32)])
def test_blocks_are_found_without_an_attention_mixin(width, heads, layers, blocks):
    """On networks of the published sizes, without memory: the numbers and names of the specification."""
    network = text_models.published_cascade(width, heads, layers)
    assert not hasattr(network, "set_attn_processor")
    sites = find_sites(network)
    assert len(sites) == blocks and all(site.joint for site in sites)
    first = [f"down_blocks.0.{3 * k + 2}.attention" for k in range(layers[0])]
    assert [site.name for site in sites[: layers[0]]] == first
    assert sites[-1].name == f"up_blocks.1.{3 * layers[0] - 1}.attention"


def run_of(prior):
    rng = ImageRNG(0, (("image", 0),))
    process = ddim(prior, SHAPE, 3, Uniform(), eta=1.0)
    style = Style(FilterGram(scales=1))
    style.load()
    obs = observe(style, NoNoise(), rng.uniform("reference", (3, 24, 24)) * 2 - 1, rng)
    return Run(process, Objective(CosineCost(), obs, prior.codec, process.evaluations), rng)


def test_the_stages_render_the_last_controlled_estimate_not_the_state(folder, monkeypatch):
    """They differ: the process ends at sigma = 0.01, and diffusers returns the state."""
    prior = make(folder, decoder=str(folder / "b"))
    run, given = run_of(prior), []
    monkeypatch.setattr(Stages, "__call__", lambda _, latent, rng, prompts: given.append(latent) or latent)
    controller = RBModulation()
    result = sample(run, controller)
    controller.render(run, result.x0_hat)
    (latent,) = given
    assert torch.equal(latent, result.x0_hat) and (result.x - result.x0_hat).abs().max() > 1e-3
    assert (sample(run_of(prior), NoControl()).x0_hat - result.x0_hat).abs().max() > 1e-3


def test_estimates_are_not_clipped_where_noise_is_multiplied_by_a_hundred(folder, x_t):
    """At the first step alpha is 0.01."""
    prior = make(folder)
    est = prior.predict(x_t, torch.tensor(1.0, dtype=torch.float64))
    torch.testing.assert_close(0.01 * est.x0_hat + (1 - 1e-4) ** 0.5 * est.eps_hat, x_t, rtol=0, atol=1e-5)
    assert est.x0_hat.abs().max() > 50
