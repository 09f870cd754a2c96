"""Stable Diffusion in one file under its original names gives the priors that its folder gives."""

import shutil

import pytest
import text_models
import torch
import transformers
from pretrained.originals import clip_tensors, open_clip_tensors, unet_tensors, vae_tensors
from safetensors.torch import save_file

from rbctrl.pretrained import source
from rbctrl.priors.guidance import Guidance
from rbctrl.priors.memory import Memory
from rbctrl.priors.stable_diffusion import stable_diffusion


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("single")
    text_models.save_sd(root / "sd")
    text_models.save_xl(root / "xl")
    for kind in ("sd", "xl"):
        shutil.copytree(root / kind, root / f"{kind}_layout", ignore=shutil.ignore_patterns("*.safetensors"))
    return root


@pytest.fixture
def sd():
    """Tensors of Stable Diffusion 1.x."""
    models = text_models.unet(), text_models.autoencoder(), text_models.clip()
    return unet_tensors(models[0]) | vae_tensors(models[1]) | clip_tensors(models[2])


@pytest.fixture
def xl():
    """Tensors of Stable Diffusion XL."""
    vae = text_models.autoencoder(scaling_factor=0.13025)
    first = clip_tensors(text_models.clip(), "conditioner.embedders.0.transformer.")
    second = open_clip_tensors(text_models.clip(True, 2))
    return unet_tensors(text_models.xl_unet()) | vae_tensors(vae) | first | second


def write(path, tensors):
    save_file({name: value.contiguous() for name, value in tensors.items()}, path)
    return str(path)


def estimate(model, family, **kwargs):
    options = {"prompt": "a cat", "negative_prompt": "dog", "guidance": Guidance(3.0), "local_files_only": True}
    prior = stable_diffusion(model, family=family, **(options | kwargs))
    prior.load()
    x_t = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    return prior.codec.decode(prior.predict(x_t, torch.tensor(0.5)).x0_hat), prior


@pytest.mark.parametrize("family", ["sd", "xl"])
def test_one_file_is_the_folder(family, folders, request, tmp_path):
    file = write(tmp_path / "model.safetensors", request.getfixturevalue(family))
    expected, _ = estimate(str(folders / family), family)
    image, prior = estimate(file, family, config=str(folders / f"{family}_layout"))
    torch.testing.assert_close(image, expected, rtol=1e-5, atol=1e-5)
    assert prior.fingerprint() and {required.setting for required in prior.files()} == {"prior.model", "prior.config"}
    half, _ = estimate(file, family, config=str(folders / f"{family}_layout"), memory=Memory(precision="bfloat16"))
    assert 0 < float((half - expected).norm() / expected.norm()) < 0.05


def test_a_checkpoint_of_torch_is_read_without_unpickling_objects(folders, sd, tmp_path):
    torch.save({"state_dict": sd, "global_step": 3}, tmp_path / "model.ckpt")
    image, _ = estimate(str(tmp_path / "model.ckpt"), "sd", config=str(folders / "sd_layout"))
    torch.testing.assert_close(image, estimate(str(folders / "sd"), "sd")[0], rtol=1e-5, atol=1e-5)


def test_averaged_weights_are_preferred(folders, sd, tmp_path):
    raw = {name: value + 1 if name.startswith("model.") else value for name, value in sd.items()}
    averaged = {
        "model_ema." + name.removeprefix("model.").replace(".", ""): value
        for name, value in sd.items()
        if name.startswith("model.")
    }
    file = write(tmp_path / "model.safetensors", raw | averaged)
    image, _ = estimate(file, "sd", config=str(folders / "sd_layout"))
    torch.testing.assert_close(image, estimate(str(folders / "sd"), "sd")[0], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(
        image, estimate(write(tmp_path / "raw.safetensors", raw), "sd", config=str(folders / "sd_layout"))[0]
    )


@pytest.mark.parametrize(
    ("gone", "word"),
    [
        ("model.diffusion_model.time_embed.0.weight", "time_embed.0.weight|time_embedding.linear_1.weight"),
        ("model.diffusion_model.middle_block.1.proj_in.bias", r"does not fit UNet2DConditionModel.*mid_block.*proj_in"),
        ("first_stage_model.decoder.conv_in.bias", "does not fit AutoencoderKL: .*1 missing .decoder.conv_in.bias"),
        (
            "cond_stage_model.transformer.text_model.final_layer_norm.bias",
            "does not fit CLIPTextModel: .*1 missing .*final_layer_norm.bias",
        ),
    ],
)
def test_a_missing_tensor_is_named(gone, word, folders, sd, tmp_path):
    del sd[gone]
    file = write(tmp_path / "model.safetensors", sd)
    with pytest.raises(ValueError, match=word):
        estimate(file, "sd", config=str(folders / "sd_layout"))


@pytest.mark.parametrize("extra", ["model.diffusion_model.control.weight", "first_stage_model.decoder.mid.extra.bias"])
def test_a_tensor_too_many_is_named(extra, folders, sd, tmp_path):
    file = write(tmp_path / "model.safetensors", sd | {extra: torch.zeros(1)})
    with pytest.raises(ValueError, match=f"model.safetensors does not fit .* 1 unknown .{extra}"):
        estimate(file, "sd", config=str(folders / "sd_layout"))


def test_another_model_is_refused(folders, sd, xl, tmp_path):
    file = write(tmp_path / "xl.safetensors", xl)
    with pytest.raises(ValueError, match=r"xl.safetensors does not fit UNet2DConditionModel: .*unknown .*label_emb"):
        estimate(file, "sd", config=str(folders / "sd_layout"))
    with pytest.raises(ValueError, match="no T5EncoderModel that can be read"):
        layout = source(file, published="org/model", config=str(folders / "xl_layout"))
        layout.part(transformers.T5EncoderModel, "text_encoder_3", torch.float32)


def test_what_is_absent_is_named(folders, sd, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.safetensors.*stable-diffusion-v1-5.*prior.model="):
        estimate("nowhere.safetensors", "sd", config=str(folders / "sd_layout"))
    file = write(tmp_path / "model.safetensors", sd)
    with pytest.raises(FileNotFoundError, match=r"no_layout.*prior.config="):
        estimate(file, "sd", config=str(tmp_path / "no_layout" / "here"))
    with pytest.raises(FileNotFoundError, match="has no weights"):
        estimate(str(folders / "sd_layout"), "sd")
