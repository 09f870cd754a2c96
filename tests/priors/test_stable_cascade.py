"""Stable Cascade on tiny random weights against its formulas, written out, and against diffusers' own steps."""

import math

import diffusers
import pytest
import text_models
import torch
import transformers
from safetensors.torch import load_file, save_file

from rbctrl.attention import AFA, Concatenate, NoAttention
from rbctrl.codecs import Autoencoder, Previewer
from rbctrl.integrators import DDIM
from rbctrl.pictures import save_picture
from rbctrl.priors.cascade_networks import ratio
from rbctrl.priors.guidance import Guidance
from rbctrl.priors.image_embeddings import preprocess
from rbctrl.priors.memory import Memory
from rbctrl.priors.network import NetworkPrior
from rbctrl.priors.stable_cascade import stable_cascade
from rbctrl.process import ReverseProcess
from rbctrl.rng import ImageRNG
from rbctrl.schedules import Cosine

SHAPE = (16, 3, 3)
SHIFTED = Cosine(shift=2.0, alpha_bar_max=0.9999)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = text_models.save_cascade(tmp_path_factory.mktemp("cascade"))
    for seed, name in enumerate(("style", "content")):
        picture = torch.rand(3, 24, 20, generator=torch.Generator().manual_seed(seed)) * 2 - 1
        save_picture(root / f"{name}.png", picture)
    return root


def make(folder, prompt="a cat", **options):
    settings = {"preview": str(folder / "previewer.safetensors"), "prompt": prompt, "schedule": SHIFTED}
    prior = stable_cascade(str(folder / "c"), **(settings | options))
    prior.load()
    return prior


@pytest.fixture
def x_t():
    return torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))


def literal_alpha_bar(t, shift):
    """Released code: alpha_bar of the cosine, clamped; its log-SNR moved by 2 log(1 / shift) and clamped again."""
    s = 0.008
    alpha_bar = math.cos((t + s) / (1 + s) * math.pi / 2) ** 2 / math.cos(s / (1 + s) * math.pi / 2) ** 2
    alpha_bar = min(max(alpha_bar, 1e-4), 0.9999)
    log_snr = math.log(alpha_bar / (1 - alpha_bar)) + 2 * math.log(1 / shift)
    log_snr = min(max(log_snr, math.log(1e-4 / (1 - 1e-4))), math.log(0.9999 / (1 - 0.9999)))
    return 1 / (1 + math.exp(-log_snr))


def literal_ratio(alpha_bar):
    s = 0.008
    return math.acos(math.sqrt(alpha_bar * math.cos(s / (1 + s) * math.pi / 2) ** 2)) / (math.pi / 2) * (1 + s) - s


@pytest.mark.parametrize("shift", [0.5, 1.0, 2.0])
def test_the_schedule_with_shift_is_the_literal_one(shift):
    times = [k / 20 for k in range(20, -1, -1)]
    alpha, sigma = Cosine(shift=shift, alpha_bar_max=0.9999).levels(torch.tensor(times, dtype=torch.float64))
    written = torch.tensor([literal_alpha_bar(t, shift) for t in times], dtype=torch.float64)
    torch.testing.assert_close(alpha.square(), written, rtol=1e-10, atol=0)
    torch.testing.assert_close(sigma.square(), 1 - written, rtol=1e-10, atol=0)


def test_the_network_is_told_the_times_of_the_specification():
    """First and last of 20 steps at shift 2, as the specification prints them; diffusers would say 1."""
    times = torch.linspace(1, 0, 21, dtype=torch.float64)
    r = ratio(SHIFTED.log_snr(times))
    printed = [0.9936, 0.9750, 0.9497, 0.9240, 0.8975]
    torch.testing.assert_close(r[:5], torch.tensor(printed, dtype=torch.float64), rtol=0, atol=6e-5)
    assert float(r[-1]) == pytest.approx(0.0071, abs=6e-5)
    written = [literal_ratio(literal_alpha_bar(float(t), 2.0)) for t in times]
    torch.testing.assert_close(r, torch.tensor(written, dtype=torch.float64), rtol=0, atol=1e-9)
    in_fp32 = ratio(SHIFTED.log_snr(times).float()).double()
    torch.testing.assert_close(in_fp32, r, rtol=0, atol=1e-7)


def unet(folder):
    return diffusers.StableCascadeUNet.from_pretrained(folder / "c" / "prior", low_cpu_mem_usage=False).eval()


def written_outputs(folder, prior, x_t, r, images=None):
    """Stage C called as diffusers does: text-only runs have one embedding of zeros."""
    network, results = unet(folder), []
    for embedding in (prior.prompt, prior.negative):
        n = len(x_t)
        images_ = torch.zeros(n, 1, text_models.IMAGE_WIDTH) if images is None else images
        images_ = images_ if embedding is prior.prompt else torch.zeros_like(images_)
        with torch.no_grad():
            pooled, text = embedding.pooled.expand(n, 1, -1), embedding.tokens.expand(n, -1, -1)
            results.append(network(x_t, torch.full((n,), r), pooled, text, images_).sample)
    return results


@pytest.mark.parametrize("shift", [1.0, 2.0])
@pytest.mark.parametrize("t", [1.0, 0.5, 0.05])
def test_estimates_are_the_literal_formulas(shift, t, folder, x_t):
    """eps = rho g std(eps_c) / std(g) + (1 - rho) g of each image, g = eps_u + w (eps_c - eps_u)."""
    prior = make(folder, guidance=Guidance(4.0, 0.7), schedule=Cosine(shift=shift, alpha_bar_max=0.9999))
    alpha_bar = literal_alpha_bar(t, shift)
    wanted, unwanted = written_outputs(folder, prior, x_t, literal_ratio(alpha_bar))
    g = unwanted + 4.0 * (wanted - unwanted)
    std = [value.flatten(1).std(dim=1).view(-1, 1, 1, 1) for value in (wanted, g)]
    eps = 0.7 * g * std[0] / std[1] + 0.3 * g
    with torch.no_grad():
        est = prior.predict(x_t, torch.tensor(t, dtype=torch.float64))
    torch.testing.assert_close(est.eps_hat, eps, rtol=0, atol=1e-5)
    x0 = (x_t - math.sqrt(1 - alpha_bar) * eps) / math.sqrt(alpha_bar)
    torch.testing.assert_close(est.x0_hat, x0, rtol=1e-5, atol=1e-5)
    at_t = written_outputs(folder, prior, x_t, 0.8 * literal_ratio(alpha_bar))[0]
    assert (at_t - wanted).abs().max() > 1e-4  # the time matters


def test_a_step_is_that_of_diffusers_scheduler(folder, x_t):
    """Without shift, DDPM, on the mean; and with it, on the times r at which the shift is hidden."""
    scheduler = diffusers.DDPMWuerstchenScheduler()
    for schedule in (Cosine(alpha_bar_max=0.9999), SHIFTED):
        prior = make(folder, schedule=schedule)
        times = torch.tensor([0.6, 0.55], dtype=torch.float64)
        process = ReverseProcess(prior, DDIM(1.0), times, SHAPE)
        est = process.estimate(x_t, 0)
        r = ratio(schedule.log_snr(times)).float()
        scheduler.set_timesteps(timesteps=r)
        scheduler.previous_timestep = lambda _, r=r: r[1].expand(2)
        noise = torch.randn(x_t.shape, generator=torch.Generator().manual_seed(3))
        theirs = scheduler.step(
            est.eps_hat, r[0].expand(2), x_t, generator=torch.Generator().manual_seed(3)
        ).prev_sample
        ours = process.mean(est, 0) + process.noise(0) * noise
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_prompts_are_states_before_the_last_norm_under_the_mask(folder):
    prior = make(folder)
    encoder = transformers.CLIPTextModelWithProjection.from_pretrained(folder / "c" / "text_encoder")
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / "c" / "tokenizer")
    batch = tokenizer("a cat", padding="max_length", max_length=text_models.LENGTH, return_tensors="pt")
    with torch.no_grad():
        masked, bare = (encoder(batch.input_ids, attention_mask=mask) for mask in (batch.attention_mask, None))
        normed = encoder.text_model.final_layer_norm(prior.prompt.tokens)
    torch.testing.assert_close(normed, masked.last_hidden_state[0])
    torch.testing.assert_close(prior.prompt.pooled, masked.text_embeds[0])
    assert not torch.allclose(prior.prompt.tokens, masked.last_hidden_state[0], atol=1e-3)
    assert not torch.allclose(normed, bare.last_hidden_state[0], atol=1e-5)


def test_reference_images_are_embedded_as_by_clip(folder):
    prior = make(folder, attention=Concatenate(str(folder / "style.png"), str(folder / "content.png")))
    encoder = transformers.CLIPVisionModelWithProjection.from_pretrained(folder / "c" / "image_encoder")
    from PIL import Image

    size = {"shortest_edge": 16}
    processor = transformers.CLIPImageProcessorPil(size=size, crop_size={"height": 16, "width": 16})
    for k, name in enumerate(("content", "style")):
        picture = Image.open(folder / f"{name}.png")
        pixels = processor(picture, return_tensors="pt").pixel_values
        with torch.no_grad():
            torch.testing.assert_close(prior.prompt.images[k], encoder(pixels).image_embeds[0], rtol=0, atol=1e-5)
    assert not prior.negative.images.any() and prior.negative.images.shape == prior.prompt.images.shape
    assert preprocess(torch.zeros(3, 20, 40), 16).shape == (3, 16, 16)


@pytest.fixture
def embedding(folder, tmp_path):
    save_file({"style": torch.linspace(-1, 1, text_models.IMAGE_WIDTH)}, tmp_path / "style.safetensors")
    return str(tmp_path / "style.safetensors")


def test_an_embedding_may_come_from_a_file(folder, embedding, x_t):
    prior = make(folder, attention=Concatenate(embedding))
    style = load_file(embedding)["style"]
    assert torch.equal(prior.prompt.images, style[None])
    images = style.expand(2, 1, -1)
    r = literal_ratio(literal_alpha_bar(0.5, 2.0))
    wanted, _ = written_outputs(folder, prior, x_t, r, images)
    t = torch.tensor(0.5, dtype=torch.float64)
    torch.testing.assert_close(prior.predict(x_t, t).eps_hat, wanted, rtol=0, atol=1e-5)
    assert prior.fingerprint() != make(folder).fingerprint()
    short = embedding.replace("style", "short")
    save_file({"a": torch.zeros(3)}, short)
    with pytest.raises(ValueError, match=r"attention.style=.*\[3\], and the network takes \[20\]"):
        make(folder, attention=Concatenate(short))
    with pytest.raises(FileNotFoundError, match="attention.style="):
        make(folder, attention=AFA(str(folder / "no.png")))


def test_only_the_network_is_in_reduced_precision_and_the_time_is_not(folder, x_t):
    full, half = (make(folder, memory=Memory(precision=p)) for p in ("float32", "bfloat16"))
    t = torch.tensor(0.5, dtype=torch.float64)
    told = []
    half.denoiser.network.model.register_forward_pre_hook(lambda _, given: told.append(given[1]))
    exact, est = full.predict(x_t, t).eps_hat, half.predict(x_t, t).eps_hat
    gap = (est - exact).norm() / exact.norm()
    assert est.dtype == told[0].dtype == torch.float32 and 1e-5 < gap < 0.05
    assert {p.dtype for p in half.denoiser.network.parameters()} == {torch.bfloat16}
    embed = full.denoiser.network.model.get_timestep_ratio_embedding
    assert (embed(told[0]) - embed(told[0].bfloat16()).float()).abs().max() > 0.1  # what a cast would do
    with pytest.raises(ValueError, match="overflows in fp16"):
        make(folder, memory=Memory(precision="float16"))


def test_a_row_does_not_see_the_others(folder, x_t):
    prior = make(folder, guidance=Guidance(4.0, 0.7), attention=AFA(str(folder / "style.png")))
    t = torch.tensor(0.5, dtype=torch.float64)
    whole = prior.predict(x_t, t).x0_hat
    torch.testing.assert_close(whole[1:], prior.predict(x_t[1:], t).x0_hat, rtol=0, atol=1e-4)


def test_the_previewer_has_the_published_layout(folder):
    state = text_models.previewer(128).state_dict()
    learned = sum(value.numel() for name, value in state.items() if name.endswith(("weight", "bias")))
    assert learned == 3_979_651  # 3.98 M
    assert {name.split(".")[1] for name in state} == {
        *(str(3 * k) for k in range(9)),
        *(str(3 * k + 2) for k in range(8)),
    }
    assert state["blocks.6.weight"].shape == (512, 256, 2, 2) and state["blocks.24.weight"].shape == (3, 128, 1, 1)
    codec = make(folder).codec
    z = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(codec.decode(z), 2 * text_models.previewer()(z).detach() - 1)
    assert codec.decode(z).shape == (1, 3, 24, 24) and torch.equal(codec.render(z), codec.decode(z))
    for method in (codec.encode, codec.preview.encode):
        with pytest.raises(ValueError, match="only decode"):
            method(z)


def test_a_previewer_that_does_not_fit_is_refused(folder, tmp_path):
    state = text_models.previewer().state_dict()
    state["blocks.3.extra"] = state.pop("blocks.3.bias")
    save_file(state, tmp_path / "previewer.safetensors")
    with pytest.raises(ValueError, match=r"1 missing \(blocks.3.bias\), 1 unknown \(blocks.3.extra\)"):
        make(folder, preview=str(tmp_path / "previewer.safetensors"))
    with pytest.raises(FileNotFoundError, match="prior.preview="):
        make(folder, preview=str(tmp_path / "none.safetensors"))


def test_a_tiny_autoencoder_may_stand_in_for_the_previewer(folder, tmp_path):
    channels = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8), "latent_channels": 16}
    blocks = {"num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)}
    tiny = text_models.seeded(lambda: diffusers.AutoencoderTiny(**channels, **blocks).eval())
    tiny.save_pretrained(tmp_path / "tiny")
    codec = make(folder, preview=str(tmp_path / "tiny")).codec
    assert isinstance(codec.preview, Autoencoder) and not isinstance(codec.preview, Previewer)
    z = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(codec.decode(z), tiny.decode(z).sample.detach())


def test_the_result_is_rendered_by_stages_b_and_a_written_out(folder):
    """DDPM on stage B, guided from no text and no latent, and the decoder of the VQGAN on its last estimate."""
    prior = make(folder, decoder=str(folder / "b"))
    assert prior.codec.decoded_shape((3, 128, 256)) == (3, 24, 48)
    assert prior.state_shape((3, 128, 256)) == (16, 3, 6) and prior.state_shape((3, 1024, 1024)) == (16, 24, 24)
    latent = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(1))
    rng = ImageRNG(0, (("image", 0),))
    image = prior.codec.render(latent, rng)
    network, x = text_models.stage_b(), rng.normal("stage_b/init", (4, 32, 32)) * math.sqrt(1 - 1e-4)
    for i in range(10):
        a, b = (literal_alpha_bar(1 - k / 10, 1.0) for k in (i, i + 1))
        r = torch.full((1,), literal_ratio(a))
        with torch.no_grad():
            wanted, unwanted = (
                network(x, r, embedding.pooled[None, None], effnet=z).sample
                for embedding, z in ((prior.prompt, latent), (prior.negative, torch.zeros_like(latent)))
            )
        eps = unwanted + 1.1 * (wanted - unwanted)
        x0 = (x - math.sqrt(1 - a) * eps) / math.sqrt(a)
        s = math.sqrt((1 - b) / (1 - a)) * math.sqrt(1 - a / b)
        x = math.sqrt(b) * x0 + math.sqrt(1 - b - s**2) * eps + s * rng.normal(f"stage_b/{i}", (4, 32, 32))
    with torch.no_grad():
        written = 2 * text_models.stage_a().decode(0.43 * x0).sample - 1
    torch.testing.assert_close(image, written, rtol=1e-4, atol=1e-4)
    assert image.shape == (1, 3, 128, 128)
    other = prior.codec.render(latent, ImageRNG(1, (("image", 0),)))
    assert (image - other).abs().max() > 1e-3
    with pytest.raises(ValueError, match="stage B draws noise"):
        prior.codec.render(latent)
    with pytest.raises(ValueError, match="multiples of 128 px"):
        prior.state_shape((3, 100, 128))


def test_what_does_not_fit_is_refused(folder, tmp_path):
    other = text_models.save_cascade(tmp_path / "other", s=0.01)
    with pytest.raises(
        ValueError, match="s=0.01; Stable Cascade's is DDPMWuerstchenScheduler with scaler=1 and s=0.008"
    ):
        make(other)
    with pytest.raises(ValueError, match="size is 'full' or 'lite'"):
        make(folder, size="small")
    prior = stable_cascade("/no/such/folder", preview="/no/previewer.safetensors", attention=AFA("/no/style.png"))
    places = [file.place for file in prior.files()]
    assert places == ["/no/such/folder", "/no/style.png", "/no/previewer.safetensors"]


def test_without_references_it_is_the_text_only_prior(folder):
    assert make(folder).attention == NoAttention() and isinstance(make(folder).denoiser, NetworkPrior)
    assert make(folder).prompt.images.shape == (1, text_models.IMAGE_WIDTH)
