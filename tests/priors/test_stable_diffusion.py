"""Stable Diffusion: one of our steps is one of diffusers' own, in each family and parameterisation."""

import gc
import shutil
import weakref
from functools import partial

import diffusers
import pytest
import text_models
import torch
import transformers

import rbctrl
from rbctrl.codecs import Previewed
from rbctrl.config import build
from rbctrl.grids import Uniform
from rbctrl.integrators import DDIM
from rbctrl.pretrained import Folder
from rbctrl.priors.guidance import Guidance
from rbctrl.priors.memory import Memory
from rbctrl.priors.stable_diffusion import stable_diffusion
from rbctrl.priors.text import save_embeddings
from rbctrl.process import ReverseProcess, ddim
from rbctrl.schedules import DiscreteVP

ZERO = DiscreteVP.zero_snr(DiscreteVP.sqrt_linear())


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("sd")
    text_models.save_sd(root / "eps")
    text_models.save_sd(root / "v", prediction_type="v_prediction")
    text_models.save_sd(root / "zero", prediction_type="v_prediction", rescale_betas_zero_snr=True)
    text_models.save_xl(root / "xl")
    return root


KINDS = {
    "eps": {},
    "v": {"parameterization": "v"},
    "zero": {"parameterization": "v", "schedule": ZERO},
    "xl": {"family": "xl"},
}


def load(folders, kind, prompt="a cat", negative_prompt="dog", **kwargs):
    prior = stable_diffusion(
        str(folders / kind), prompt=prompt, negative_prompt=negative_prompt, **(KINDS[kind] | kwargs)
    )
    prior.load()
    return prior


@pytest.fixture
def x_t():
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def unet_output(folders, kind, prior, x_t, index, embedding):
    """The U-Net called as diffusers' pipelines do."""
    unet = diffusers.UNet2DConditionModel.from_pretrained(folders / kind / "unet", low_cpu_mem_usage=False)
    tokens, added = embedding.tokens.expand(len(x_t), -1, -1), None
    if kind == "xl":
        pooled = embedding.pooled.expand(len(x_t), -1)
        added = {"text_embeds": pooled, "time_ids": torch.tensor([[64.0, 64, 0, 0, 64, 64]] * len(x_t))}
    with torch.no_grad():
        return unet(x_t, torch.tensor(index), encoder_hidden_states=tokens, added_cond_kwargs=added).sample


@pytest.mark.parametrize("scale", [1.0, 5.0])
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_without_noise_is_the_step_of_the_scheduler(kind, scale, folders, x_t):
    prior = load(folders, kind, guidance=Guidance(scale))
    scheduler = diffusers.DDIMScheduler.from_pretrained(folders / kind / "scheduler", clip_sample=False)
    scheduler.set_timesteps(20)
    index = 951 if kind != "zero" else 999
    wanted, unwanted = (
        unet_output(folders, kind, prior, x_t, index, embedding) for embedding in (prior.prompt, prior.negative)
    )
    step = scheduler.step(unwanted + scale * (wanted - unwanted), index, x_t, eta=0.0)

    def ours(before, after):
        times = torch.tensor([before + 1, after + 1], dtype=torch.float64) / 1000
        process = ReverseProcess(prior, DDIM(0.0), times, (4, 8, 8))
        est = process.estimate(x_t, 0)
        return process.mean(est, 0), est.x0_hat

    mean, x0_hat = ours(index, index - 50)
    torch.testing.assert_close(mean, step.prev_sample, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(x0_hat, step.pred_original_sample, rtol=1e-4, atol=1e-3)
    assert not torch.allclose(ours(index, index - 51)[0], step.prev_sample, rtol=1e-4, atol=1e-4)  # off by one


def pipeline(folder, kind):
    """Diffusers' pipeline on the same parts, for what its own `encode_prompt` says."""
    part = {"low_cpu_mem_usage": False}
    parts = {
        "vae": diffusers.AutoencoderKL.from_pretrained(folder / "vae", **part),
        "unet": diffusers.UNet2DConditionModel.from_pretrained(folder / "unet", **part),
        "scheduler": diffusers.PNDMScheduler.from_pretrained(folder / "scheduler"),
        "text_encoder": transformers.CLIPTextModel.from_pretrained(folder / "text_encoder"),
        "tokenizer": transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer"),
    }
    if kind != "xl":
        extras = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        return diffusers.StableDiffusionPipeline(**parts, **extras)
    second = folder / "text_encoder_2"
    parts["text_encoder_2"] = transformers.CLIPTextModelWithProjection.from_pretrained(second)
    parts["tokenizer_2"] = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer_2")
    return diffusers.StableDiffusionXLPipeline(**parts)


@pytest.mark.parametrize("negative", ["dog", None])
def test_xl_prompts_are_embedded_as_by_the_published_pipeline(negative, folders):
    prior = load(folders, "xl", negative_prompt=negative)
    encoded = pipeline(folders / "xl", "xl").encode_prompt("a cat", negative_prompt=negative)
    ours = (prior.prompt.tokens, prior.negative.tokens, prior.prompt.pooled, prior.negative.pooled)
    for mine, theirs in zip(ours, encoded, strict=True):
        torch.testing.assert_close(mine, theirs[0].detach())
    assert bool(prior.negative.tokens.any()) == (negative is not None)


def test_prompts_are_embedded_as_by_the_published_pipeline(folders):
    prior = load(folders, "eps")
    encoded = pipeline(folders / "eps", "eps").encode_prompt("a cat", "cpu", 1, True, negative_prompt="dog")
    for mine, theirs in zip((prior.prompt.tokens, prior.negative.tokens), encoded, strict=True):
        torch.testing.assert_close(mine, theirs[0].detach())
    assert torch.equal(prior.prompt_embedding(), prior.prompt.tokens)
    assert not torch.allclose(prior.prompt.tokens, prior.negative.tokens, atol=0.1)


def test_equal_prompts_need_one_evaluation(folders, x_t):
    prior = load(folders, "eps", prompt="", negative_prompt="", guidance=Guidance(7.5))
    calls = []
    prior.denoiser.network.register_forward_hook(lambda *_: calls.append(1))
    prior.predict(x_t, torch.tensor(0.5))
    assert len(calls) == 1 and prior.evaluations == 1


def test_a_row_does_not_see_the_others(folders, x_t):
    prior = load(folders, "xl", guidance=Guidance(5.0, rescale=0.7))
    whole = prior.predict(x_t, torch.tensor(0.5)).x0_hat
    alone = torch.cat([prior.predict(x_t[k : k + 1], torch.tensor(0.5)).x0_hat for k in range(2)])
    torch.testing.assert_close(whole, alone, rtol=1e-4, atol=1e-4)


def relative(value, expected):
    return float((value - expected).norm() / expected.norm())


@pytest.mark.parametrize("kind", ["eps", "xl"])
def test_half_precision_stays_inside_the_network(kind, folders, x_t):
    full, half = (load(folders, kind, memory=Memory(precision=p)) for p in ("float32", "bfloat16"))
    assert {p.dtype for p in half.denoiser.network.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in half.codec.parameters()} == {torch.float32}
    t, est = torch.tensor(0.5), half.predict(x_t, torch.tensor(0.5))
    assert est.x0_hat.dtype == est.eps_hat.dtype == torch.float32
    gap = relative(est.eps_hat, full.predict(x_t, t).eps_hat)
    assert 1e-5 < gap < 0.02
    other = load(folders, kind, prompt="dog").predict(x_t, t).eps_hat
    assert relative(other, full.predict(x_t, t).eps_hat) > 2 * gap


def gradient(prior, x_t):
    with torch.enable_grad():
        x = x_t.clone().requires_grad_()
        return torch.autograd.grad(prior.codec.decode(prior.predict(x, torch.tensor(0.5)).x0_hat).sum(), x)[0]


def test_memory_is_saved_without_changing_a_number(folders, x_t):
    plain = load(folders, "eps", memory=Memory(checkpoint=False, vae_checkpoint=False))
    calls = []
    for memory in (Memory(), Memory(attention_slicing="max", vae_slicing=True), Memory(attention_slicing=1)):
        prior = load(folders, "eps", memory=memory)
        block = prior.denoiser.network.model.down_blocks[0].resnets[0]
        block.register_forward_pre_hook(lambda *_: calls.append(1))
        torch.testing.assert_close(gradient(prior, x_t), gradient(plain, x_t), rtol=1e-3, atol=1e-4)
    assert len(calls) == 6  # each block twice: once forward, once again in the backward pass
    with pytest.raises(ValueError, match="memory.precision is one of .*got 'fp8'"):
        Memory(precision="fp8")


def test_a_compiled_network_is_the_same_network(folders, x_t, monkeypatch):
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda module, **_: module.register_forward_hook(lambda *_: seen.append(1))
    )
    seen = []
    compiled = load(folders, "eps", memory=Memory(compile=True))
    assert torch.equal(
        compiled.predict(x_t, torch.tensor(0.5)).x0_hat, load(folders, "eps").predict(x_t, torch.tensor(0.5)).x0_hat
    )
    assert seen == [1]


def test_text_encoders_are_gone_before_the_network_is_read(folders, monkeypatch):
    alive, part = [], Folder.part

    def watched(self, kind, name, dtype):
        if name == "unet":
            gc.collect()
            assert alive and all(reference() is None for reference in alive)
        model = part(self, kind, name, dtype)
        if name.startswith("text"):
            alive.append(weakref.ref(model))
        return model

    monkeypatch.setattr(Folder, "part", watched)
    load(folders, "xl")
    assert len(alive) == 2


def test_no_text_encoder_is_read_where_embeddings_are_given(folders, tmp_path, x_t):
    prior = load(folders, "xl", guidance=Guidance(5.0))
    save_embeddings(tmp_path / "cat.safetensors", prior.prompt, prior.negative)
    shutil.copytree(folders / "xl", tmp_path / "xl", ignore=shutil.ignore_patterns("text*", "token*"))
    options = {"prompt": "", "negative_prompt": "", "embeddings": str(tmp_path / "cat.safetensors")}
    bare = load(tmp_path, "xl", guidance=Guidance(5.0), **options)
    t = torch.tensor(0.5)
    assert torch.equal(bare.predict(x_t, t).x0_hat, prior.predict(x_t, t).x0_hat)
    assert bare.fingerprint() and bare.fingerprint() != prior.fingerprint()
    with pytest.raises(ValueError, match="not both"):
        load(tmp_path, "xl", embeddings=options["embeddings"])
    with pytest.raises(FileNotFoundError, match="save_embeddings"):
        load(tmp_path, "xl", **options | {"embeddings": str(tmp_path / "dog.safetensors")})
    with pytest.raises(ValueError, match=r"holds add_embedding.*; embeddings are prompt"):
        weights = str(folders / "xl" / "unet" / "diffusion_pytorch_model.safetensors")
        load(tmp_path, "xl", **options | {"embeddings": weights})


def test_a_scheduler_that_says_otherwise_is_believed(folders):
    for kind, options, word in (
        ("v", {"parameterization": "eps"}, "prediction_type=v_prediction.*prior.parameterization=v"),
        ("zero", {"schedule": None}, "rescale_betas_zero_snr=True.*0.00466 where theirs is 0"),
        ("eps", {"schedule": DiscreteVP.sqrt_linear(1000, 0.0015, 0.0195)}, "beta_end=0.012"),
        ("eps", {"schedule": DiscreteVP.linear()}, "beta_schedule=scaled_linear"),
        ("eps", {"schedule": DiscreteVP.sqrt_linear(999)}, "num_train_timesteps=1000"),
    ):
        with pytest.raises(ValueError, match=word):
            load(folders, kind, **options)


def test_costs_can_look_through_a_tiny_autoencoder(folders, tmp_path, x_t):
    channels = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    tiny = text_models.seeded(
        lambda: diffusers.AutoencoderTiny(**channels, num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1))
    )
    tiny.save_pretrained(tmp_path / "taesd")
    prior = load(folders, "eps", preview=str(tmp_path / "taesd"))
    assert isinstance(prior.codec, Previewed) and prior.state_shape((3, 16, 16)) == (4, 8, 8)
    torch.testing.assert_close(prior.codec.decode(x_t), tiny.decode(x_t).sample)
    assert torch.equal(prior.codec.render(x_t), load(folders, "eps").codec.decode(x_t))
    assert prior.fingerprint() != load(folders, "eps").fingerprint()


def test_a_prompt_that_is_too_long_is_cut_and_said_to_be(folders, caplog):
    load(folders, "eps", prompt="a very long cat")
    assert "reads 12 of the" in caplog.text and "a very long cat" in caplog.text


def test_nothing_is_read_before_load_and_files_are_listed():
    prior = stable_diffusion("/no/such/folder")
    (required,) = prior.files()
    assert required.place == "/no/such/folder" and "stable-diffusion-v1-5" in required.published
    with pytest.raises(FileNotFoundError, match="prior.model="):
        prior.load()
    with pytest.raises(ValueError, match="family is one of sd, xl, got 'sdxl'"):
        stable_diffusion("x", family="sdxl")


@pytest.mark.parametrize("controller", ["psld", "p2l", "rb_modulation_latent"])
def test_latent_controllers_run_on_it_with_guidance_and_in_half_precision(controller, folders):
    """By the options of the command; a step of P2L is two evaluations under one prompt, of the others one of two."""
    options = [f"prior.model={folders / 'v'}", "prior.parameterization=v", "prior/memory=half", "prior.prompt=cat"]
    restored = rbctrl.restore(
        torch.linspace(-1, 1, 3 * 8 * 8).view(3, 8, 8),
        rbctrl.operators.Downsample(2),
        prior=build("prior", "sd15", [*options, "prior.guidance.scale=3"]),
        controller=build("controller", controller),
        sampler=partial(ddim, n_steps=2, grid=Uniform(), eta=0.0),
        sigma_y=0.1,
        n_samples=2,
        device="cpu",
    )
    assert restored.samples.shape == (2, 3, 16, 16) and all(row["alive"] for row in restored.rows)
    assert {row["nfe"] for row in restored.rows} == {4}
