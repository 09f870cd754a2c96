"""Rectified-flow transformers: a step of ours is one of the flow scheduler, prompts are embedded as published."""

import diffusers
import pytest
import text_models
import torch
import transformers

from rbctrl.grids import Uniform
from rbctrl.integrators import DDIM
from rbctrl.priors.denoisers import pack, unpack
from rbctrl.priors.guidance import Guidance
from rbctrl.priors.memory import Memory
from rbctrl.priors.rectified_flow import flux, stable_diffusion_3
from rbctrl.process import ReverseProcess, ddim
from rbctrl.schedules import RectifiedFlow

T5_LENGTH = 9


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("flow")
    text_models.save_sd3(root / "sd3")
    text_models.save_flux(root / "flux")
    text_models.save_flux(root / "schnell", guidance_embeds=False)
    return root


def load(folders, kind, prompt="a cat", negative_prompt="dog", **kwargs):
    make = stable_diffusion_3 if kind == "sd3" else flux
    options = {"t5_length": T5_LENGTH} | kwargs
    prior = make(str(folders / kind), prompt=prompt, negative_prompt=negative_prompt, **options)
    prior.load()
    return prior


@pytest.fixture
def x_t():
    return torch.randn(2, 4, 8, 12, generator=torch.Generator().manual_seed(0))


def velocity(folders, kind, x_t, t, embedding):
    """The transformer called as diffusers' pipelines do."""
    folder = folders / kind / "transformer"
    n, tokens = len(x_t), embedding.tokens.expand(len(x_t), -1, -1)
    told = {"encoder_hidden_states": tokens, "pooled_projections": embedding.pooled.expand(n, -1)}
    if kind == "sd3":
        model = diffusers.SD3Transformer2DModel.from_pretrained(folder, low_cpu_mem_usage=False)
        return model(hidden_states=x_t, timestep=torch.full((n,), 1000 * t), **told).sample.detach()
    model = diffusers.FluxTransformer2DModel.from_pretrained(folder, low_cpu_mem_usage=False)
    pipe, (height, width) = diffusers.FluxPipeline, x_t.shape[-2:]
    out = model(
        hidden_states=pipe._pack_latents(x_t, n, 4, height, width),
        timestep=torch.full((n,), t),
        guidance=torch.full((n,), 3.5) if kind == "flux" else None,
        txt_ids=torch.zeros(tokens.shape[1], 3),
        img_ids=pipe._prepare_latent_image_ids(n, height // 2, width // 2, "cpu", torch.float32),
        **told,
    ).sample
    return pipe._unpack_latents(out.detach(), 8 * height, 8 * width, 8)


@pytest.mark.parametrize("scale", [1.0, 4.0])
@pytest.mark.parametrize("kind", ["sd3", "flux", "schnell"])
def test_a_step_without_noise_is_the_step_of_the_scheduler(kind, scale, folders, x_t):
    prior = load(folders, kind, guidance=Guidance(scale))
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler.from_pretrained(folders / kind / "scheduler")
    scheduler.set_timesteps(10)
    before, after = (float(sigma) for sigma in scheduler.sigmas[3:5])
    wanted, unwanted = (velocity(folders, kind, x_t, before, text) for text in (prior.prompt, prior.negative))
    theirs = scheduler.step(unwanted + scale * (wanted - unwanted), scheduler.timesteps[3], x_t).prev_sample
    process = ReverseProcess(prior, DDIM(0.0), torch.tensor([before, after], dtype=torch.float64), (4, 8, 12))
    est = process.estimate(x_t, 0)
    torch.testing.assert_close(process.mean(est, 0), theirs, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close((1 - before) * est.x0_hat + before * est.eps_hat, x_t, rtol=1e-4, atol=1e-4)
    reversed_sign = (1 - after) * est.eps_hat + after * est.x0_hat
    assert not torch.allclose(reversed_sign, theirs, rtol=1e-2, atol=1e-2)


def test_the_grid_of_the_schedulers_shift_is_our_shifted_grid(folders):
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(sigmas=torch.linspace(1, 0.1, 10).tolist())
    ours = Uniform(shift=3.0).times(RectifiedFlow(), 10)
    torch.testing.assert_close(ours.float(), scheduler.sigmas, rtol=1e-5, atol=1e-6)


def sd3_pipeline(folder):
    read = {"low_cpu_mem_usage": False}
    parts = {
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler"),
        "vae": diffusers.AutoencoderKL.from_pretrained(folder / "vae", **read),
        "transformer": diffusers.SD3Transformer2DModel.from_pretrained(folder / "transformer", **read),
        "tokenizer_3": transformers.AutoTokenizer.from_pretrained(folder / "tokenizer_3"),
        "text_encoder_3": transformers.T5EncoderModel.from_pretrained(folder / "text_encoder_3"),
    }
    for suffix in ("", "_2"):
        encoder = transformers.CLIPTextModelWithProjection.from_pretrained(folder / f"text_encoder{suffix}")
        tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / f"tokenizer{suffix}")
        parts |= {f"text_encoder{suffix}": encoder, f"tokenizer{suffix}": tokenizer}
    return diffusers.StableDiffusion3Pipeline(**parts)


def flux_pipeline(folder):
    read = {"low_cpu_mem_usage": False}
    return diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler"),
        vae=diffusers.AutoencoderKL.from_pretrained(folder / "vae", **read),
        transformer=diffusers.FluxTransformer2DModel.from_pretrained(folder / "transformer", **read),
        text_encoder=transformers.CLIPTextModel.from_pretrained(folder / "text_encoder"),
        tokenizer=transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        text_encoder_2=transformers.T5EncoderModel.from_pretrained(folder / "text_encoder_2"),
        tokenizer_2=transformers.AutoTokenizer.from_pretrained(folder / "tokenizer_2"),
    )


def test_sd3_prompts_are_embedded_as_by_the_published_pipeline(folders):
    prior = load(folders, "sd3")
    texts = {"prompt_2": None, "prompt_3": None, "negative_prompt": "dog", "max_sequence_length": T5_LENGTH}
    encoded = sd3_pipeline(folders / "sd3").encode_prompt("a cat", **texts)
    ours = (prior.prompt.tokens, prior.negative.tokens, prior.prompt.pooled, prior.negative.pooled)
    for mine, theirs in zip(ours, encoded, strict=True):
        torch.testing.assert_close(mine, theirs[0].detach())


def test_flux_prompts_are_embedded_as_by_the_published_pipeline(folders):
    prior = load(folders, "flux")
    tokens, pooled, _ = flux_pipeline(folders / "flux").encode_prompt("a cat", None, max_sequence_length=T5_LENGTH)
    torch.testing.assert_close(prior.prompt.tokens, tokens[0].detach())
    torch.testing.assert_close(prior.prompt.pooled, pooled[0].detach())


def test_sd3_does_without_t5(folders, x_t):
    whole, clips_only = load(folders, "sd3"), load(folders, "sd3", t5_length=0)
    assert "text_encoder_3" not in clips_only.files() and clips_only.prompt.tokens.shape == (
        text_models.LENGTH + 256,
        40,
    )
    tokens = clips_only.prompt.tokens
    assert torch.equal(tokens[: text_models.LENGTH], whole.prompt.tokens[: text_models.LENGTH])
    assert not tokens[text_models.LENGTH :].any()
    assert torch.isfinite(clips_only.predict(x_t, torch.tensor(0.5)).x0_hat).all()


def test_the_scale_that_a_distilled_network_is_told_matters_to_it_only(folders, x_t):
    for kind, differs in (("flux", True), ("schnell", False)):
        estimates = [
            load(folders, kind, distilled_guidance=scale).predict(x_t, torch.tensor(0.5)).x0_hat for scale in (1.0, 5.0)
        ]
        assert torch.allclose(*estimates) != differs


@pytest.mark.parametrize("kind", ["sd3", "flux"])
def test_half_precision_and_checkpointing_stay_near_the_exact_network(kind, folders, x_t):
    plain, saving = (load(folders, kind, memory=Memory(checkpoint=c)) for c in (False, True))
    half = load(folders, kind, memory=Memory(precision="bfloat16"))
    t = torch.tensor(0.5)

    def gradient(prior):
        with torch.enable_grad():
            x = x_t.clone().requires_grad_()
            return torch.autograd.grad(prior.predict(x, t).x0_hat.sum(), x)[0]

    torch.testing.assert_close(gradient(saving), gradient(plain), rtol=1e-4, atol=1e-4)
    exact, rounded = plain.predict(x_t, t), half.predict(x_t, t)
    assert rounded.x0_hat.dtype == torch.float32
    gap = float((rounded.x0_hat - exact.x0_hat).norm() / exact.x0_hat.norm())
    assert 1e-5 < gap < 0.03
    with pytest.raises(ValueError, match="SD3Transformer2DModel has no attention slices|FluxTransformer2DModel has no"):
        load(folders, kind, memory=Memory(attention_slicing="auto"))


@pytest.mark.parametrize("kind", ["sd3", "flux"])
def test_a_row_does_not_see_the_others_and_a_prompt_can_be_tuned(kind, folders, x_t):
    prior, t = load(folders, kind, guidance=Guidance(4.0, rescale=0.5)), torch.tensor(0.5)
    whole = prior.predict(x_t, t).x0_hat
    alone = torch.cat([prior.predict(x_t[k : k + 1], t).x0_hat for k in range(2)])
    torch.testing.assert_close(whole, alone, rtol=1e-4, atol=1e-4)
    with torch.enable_grad():
        prompt = prior.prompt_embedding().repeat(2, 1, 1).requires_grad_()
        (gradient,) = torch.autograd.grad(prior.predict_prompted(x_t, t, prompt).x0_hat[0].sum(), prompt)
    assert gradient[0].any() and not gradient[1].any()


def test_sampling_starts_from_pure_noise(folders, x_t):
    process = ddim(load(folders, "sd3"), (4, 8, 12), 4, Uniform(shift=3.0), eta=0.0)
    assert process.alpha[0] == 0 and torch.isfinite(process.mean(process.estimate(x_t, 0), 0)).all()


def test_packing_is_undone(x_t):
    assert torch.equal(unpack(pack(x_t), x_t.shape[-2:]), x_t)
    assert torch.equal(pack(x_t), diffusers.FluxPipeline._pack_latents(x_t, 2, 4, 8, 12))


def test_sides_are_those_of_whole_patches(folders):
    prior = load(folders, "flux")
    assert prior.state_shape((3, 16, 24)) == (4, 8, 12)
    with pytest.raises(ValueError, match="multiples of 4 px, got 16x18"):
        prior.state_shape((3, 16, 18))


def test_another_scheduler_is_refused(folders, tmp_path):
    text_models.save(tmp_path / "sd3", text_models.SD_SCHEDULER)
    with pytest.raises(ValueError, match="is PNDMScheduler, not a flow-matching one"):
        load(tmp_path, "sd3")
