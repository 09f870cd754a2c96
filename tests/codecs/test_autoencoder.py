"""Codecs of diffusers autoencoders, on tiny ones with random weights."""

import diffusers
import pytest
import torch

from rbctrl.codecs import Autoencoder, Previewed

TINY = {"block_out_channels": (8, 16), "norm_num_groups": 4, "latent_channels": 4}


def seeded(build, seed=0):
    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(seed)
        return build()


def kl(**kwargs):
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    settings = {"sample_size": 16, "scaling_factor": 0.3, "shift_factor": 0.1}
    return seeded(lambda: diffusers.AutoencoderKL(**(blocks | TINY | settings | kwargs)))


def vq(**kwargs):
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    settings = {"num_vq_embeddings": 16, "vq_embed_dim": 3, "scaling_factor": 0.7}
    return seeded(lambda: diffusers.VQModel(**(blocks | TINY | settings | kwargs)))


def tiny():
    channels = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    return seeded(lambda: diffusers.AutoencoderTiny(**channels, num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1)))


CODECS = {
    "kl": lambda **kwargs: Autoencoder(kl(), **kwargs),
    "vq": lambda **kwargs: Autoencoder(vq(), quantize="straight_through", **kwargs),
    "tiny": lambda **kwargs: Autoencoder(tiny(), **kwargs),
}


@pytest.fixture
def image():
    return 2 * torch.rand(3, 3, 16, 24, generator=torch.Generator().manual_seed(0)) - 1


def gradient(codec, z):
    with torch.enable_grad():
        z = z.clone().requires_grad_()
        return torch.autograd.grad(codec.decode(z).square().sum(), z)[0]


@pytest.mark.parametrize("name", CODECS)
def test_shapes_follow_the_blocks(name, image):
    codec = CODECS[name]()
    shape = (3 if name == "vq" else 4, 8, 12)
    assert codec.state_shape((3, 16, 24)) == shape == tuple(codec.encode(image).shape[1:])
    assert codec.decode(codec.encode(image)).shape == image.shape
    with pytest.raises(ValueError, match="multiples of 2 px, got 15x24"):
        codec.state_shape((3, 15, 24))
    with pytest.raises(ValueError, match=r"images \[3, H, W\]"):
        codec.state_shape((1, 16, 24))


def test_kl_latents_are_the_scaled_and_shifted_mean(image):
    model, codec = kl(), Autoencoder(kl())
    mean = model.encode(image).latent_dist.mean
    torch.testing.assert_close(codec.encode(image), (mean - 0.1) * 0.3)
    torch.testing.assert_close(codec.decode(codec.encode(image)), model.decode(mean).sample)
    drawn = (model.encode(image).latent_dist.sample(torch.Generator().manual_seed(0)) - 0.1) * 0.3
    assert not torch.allclose(codec.encode(image), drawn, atol=1e-2)  # PSLD's released code encodes a sample
    assert torch.equal(codec.encode(image), codec.encode(image))


def test_per_channel_statistics_and_a_scale_of_ones_own(image):
    statistics = {"latents_mean": [0.1, 0.2, 0.3, 0.4], "latents_std": [1.0, 2.0, 3.0, 4.0], "shift_factor": None}
    mean, std = (torch.tensor(statistics[name]).view(4, 1, 1) for name in ("latents_mean", "latents_std"))
    own = kl().encode(image).latent_dist.mean
    torch.testing.assert_close(Autoencoder(kl(**statistics)).encode(image), (own - mean) / std * 0.3)
    torch.testing.assert_close(Autoencoder(kl(), scaling_factor=2.0).encode(image), (own - 0.1) * 2.0)


def test_straight_through_decodes_codes_and_passes_the_gradient_of_the_code(image):
    model, codec = vq(), Autoencoder(vq(), quantize="straight_through")
    z = codec.encode(image)
    torch.testing.assert_close(z, 0.7 * model.encode(image).latents)
    h = (z / 0.7).permute(0, 2, 3, 1)
    codes = model.quantize.embedding.weight
    nearest = codes[(h[..., None, :] - codes).square().sum(-1).argmin(-1)].permute(0, 3, 1, 2)
    torch.testing.assert_close(codec.decode(z), model.decode(nearest, force_not_quantize=True).sample)
    with torch.enable_grad():
        q = nearest.detach().requires_grad_()
        (expected,) = torch.autograd.grad(model.decode(q, force_not_quantize=True).sample.square().sum(), q)
    torch.testing.assert_close(gradient(codec, z), expected / 0.7, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(gradient(codec, z), gradient(Autoencoder(vq(), quantize="none"), z), rtol=0.1, atol=0.1)


def test_unquantised_decoding_differs_from_quantised(image):
    model, codec = vq(), Autoencoder(vq(), quantize="none")
    z = codec.encode(image)
    torch.testing.assert_close(codec.decode(z), model.decode(z / 0.7, force_not_quantize=True).sample)
    assert not torch.allclose(codec.decode(z), CODECS["vq"]().decode(z), atol=1e-3)


@pytest.mark.parametrize("name", CODECS)
def test_rows_do_not_see_each_other(name, image):
    codec = CODECS[name]()
    z = codec.encode(image)
    alone = torch.cat([codec.encode(image[k : k + 1]) for k in range(3)])
    torch.testing.assert_close(z, alone, rtol=1e-5, atol=1e-5)
    decoded = torch.cat([codec.decode(z[k : k + 1]) for k in range(3)])
    torch.testing.assert_close(codec.decode(z), decoded, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", [{"checkpoint": True}, {"slicing": True}, {"checkpoint": True, "slicing": True}])
@pytest.mark.parametrize("name", CODECS)
def test_saving_memory_changes_no_result(name, options, image):
    plain, saving = CODECS[name](), CODECS[name](**options)
    z = plain.encode(image)
    torch.testing.assert_close(saving.encode(image), z, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(saving.decode(z), plain.decode(z), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient(saving, z), gradient(plain, z), rtol=1e-4, atol=1e-4)


def count_decoder_passes(checkpoint, name, image):
    codec, seen = CODECS[name](checkpoint=checkpoint), []
    convolution = [module for module in codec.model.decoder.modules() if isinstance(module, torch.nn.Conv2d)][3]
    convolution.register_forward_pre_hook(lambda *_: seen.append(1))
    gradient(codec, codec.encode(image))
    return len(seen)


@pytest.mark.parametrize("name", CODECS)
def test_checkpointing_runs_blocks_again_in_the_backward_pass(name, image):
    passes = 2 if name == "tiny" else 3  # the whole of it; blocks, and layers in them
    assert (count_decoder_passes(False, name, image), count_decoder_passes(True, name, image)) == (1, passes)


def saved_for_backward(codec, z):
    """How many numbers the backward pass of a decoded batch keeps."""
    saved = []
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()), lambda t: t):
        codec.decode(z.requires_grad_())
    return sum(saved)


@pytest.mark.parametrize("name", CODECS)
def test_slices_with_checkpointing_keep_latents_and_not_activations(name, image):
    plain, sliced, both = (
        CODECS[name](**options) for options in ({}, {"slicing": True}, {"slicing": True, "checkpoint": True})
    )
    z = plain.encode(image)
    assert saved_for_backward(both, z) < saved_for_backward(plain, z) / 20
    assert saved_for_backward(sliced, z) > saved_for_backward(plain, z) / 2


def test_tiles_have_a_gradient_and_are_near_the_whole(image):
    codec, whole = Autoencoder(kl(sample_size=8), tiling=True), Autoencoder(kl(sample_size=8))
    z = whole.encode(image)
    assert codec.decode(z).shape == image.shape and not torch.equal(codec.decode(z), whole.decode(z))
    assert gradient(codec, z).flatten(1).norm(dim=1).min() > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_weights_are_fp32_whatever_they_were_and_states_keep_their_precision(dtype, image):
    codec, exact = Autoencoder(kl().to(torch.bfloat16)), Autoencoder(kl().to(torch.bfloat16).float())
    assert {p.dtype for p in codec.parameters()} == {torch.float32}
    assert not any(p.requires_grad for p in codec.parameters())
    z = codec.encode(image.to(dtype))
    assert z.dtype == codec.decode(z).dtype == gradient(codec, z).dtype == dtype
    torch.testing.assert_close(codec.decode(z), exact.decode(z.float()).to(dtype))


def test_preview_decodes_and_the_full_one_renders(image):
    full, preview = Autoencoder(kl()), Autoencoder(tiny())
    codec = Previewed(full, preview)
    z = codec.encode(image)
    assert torch.equal(z, full.encode(image)) and torch.equal(codec.render(z), full.decode(z))
    assert torch.equal(codec.decode(z), preview.decode(z)) and not torch.allclose(codec.decode(z), full.decode(z))
    assert codec.state_shape((3, 16, 16)) == (4, 8, 8)
    with pytest.raises(ValueError, match="no pair"):
        Previewed(full, CODECS["vq"]()).state_shape((3, 16, 16))


def test_weights_are_read_by_load_only_and_named():
    built = []
    codec = Autoencoder(lambda: built.append(1) or kl(), fingerprint=lambda: "abc")
    with pytest.raises(RuntimeError, match="load"):
        codec.decode(torch.zeros(1, 4, 8, 8))
    pair = Previewed(codec, Autoencoder(tiny(), fingerprint="def"))
    pair.load()
    pair.load()
    assert built == [1] and pair.fingerprint() == "abc+def"


def test_what_cannot_work_is_refused():
    for build, kwargs, word in (
        (vq, {}, "straight_through"),
        (vq, {"quantize": "gumbel"}, "gumbel"),
        (kl, {"quantize": "none"}, "leave it out"),
        (vq, {"quantize": "none", "tiling": True}, "cannot be tiled"),
        (lambda: vq(lookup_from_codebook=True), {"quantize": "none"}, "code indices"),
        (lambda: torch.nn.Conv2d(3, 3, 1), {}, "Conv2d"),
    ):
        with pytest.raises(ValueError, match=word):
            Autoencoder(build(), **kwargs)
