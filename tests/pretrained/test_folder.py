"""Folders in diffusers' layout are read to the last tensor, or not at all."""

import json

import diffusers
import pytest
import text_models
import torch
import transformers
from safetensors.torch import load_file, save_file

from rbctrl.pretrained import Folder, SingleFile, source

UNET = diffusers.UNet2DConditionModel


@pytest.fixture
def folder(tmp_path):
    text_models.save(tmp_path / "model", {}, unet=text_models.unet(), text_encoder=text_models.clip())
    return tmp_path / "model"


def read(folder, kind=UNET, name="unet", dtype=torch.float32, **kwargs):
    return source(str(folder), published="org/model", **kwargs).part(kind, name, dtype)


def change(path, edit):
    """Rewrites a safetensors file."""
    state = load_file(path)
    edit(state)
    save_file(state, path, metadata={"format": "pt"})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_arrive_in_the_precision_asked_for(folder, dtype, capfd):
    for kind, name, model in (
        (UNET, "unet", text_models.unet()),
        (transformers.CLIPTextModel, "text_encoder", text_models.clip()),
    ):
        read_model, expected = read(folder, kind, name, dtype), model.state_dict()
        assert not read_model.training
        assert {key: value.dtype for key, value in read_model.state_dict().items()} == dict.fromkeys(expected, dtype)
        assert all(torch.equal(value, expected[key].to(dtype)) for key, value in read_model.state_dict().items())
    assert not capfd.readouterr().err  # no progress bars


def test_a_missing_tensor_is_named(folder):
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    change(path, lambda state: state.pop("conv_in.weight"))
    with pytest.raises(ValueError, match=r"unet does not fit UNet2DConditionModel.*1 missing \(conv_in.weight\)"):
        read(folder)


def test_a_tensor_too_many_is_named(folder):
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    change(path, lambda state: state.update(control=torch.zeros(1)))
    with pytest.raises(ValueError, match=r"unet does not fit UNet2DConditionModel.*1 unknown \(control\)"):
        read(folder)


def test_a_tensor_of_another_shape_is_named(folder):
    config = folder / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"in_channels": 9}))
    with pytest.raises(ValueError, match=r"unet does not fit UNet2DConditionModel: .*conv_in.weight"):
        read(folder)


def test_text_encoders_are_as_strict_and_know_position_ids(folder):
    path = folder / "text_encoder" / "model.safetensors"
    name = sorted(load_file(path))[0]
    change(path, lambda state: state.update({"text_model.embeddings.position_ids": torch.arange(12)[None]}))
    read(folder, transformers.CLIPTextModel, "text_encoder")
    change(path, lambda state: state.pop(name))
    with pytest.raises(ValueError, match="text_encoder does not fit CLIPTextModel: .*1 missing"):
        read(folder, transformers.CLIPTextModel, "text_encoder")


def test_variants_and_shards_are_found(folder, tmp_path):
    UNET.from_pretrained(folder / "unet").half().save_pretrained(folder / "unet", variant="fp16")
    read(folder, variant="fp16")
    with pytest.raises(FileNotFoundError, match="no safetensors of the variant bf16 in it, present are diffusion"):
        read(folder, variant="bf16")
    text_models.unet().save_pretrained(tmp_path / "shards" / "unet", max_shard_size="100kB")
    assert len(list((tmp_path / "shards" / "unet").glob("*.safetensors"))) > 1
    expected = text_models.unet().state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in read(tmp_path / "shards").state_dict().items())


def test_pickles_are_refused(folder):
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(path), path.with_suffix(".bin"))
    path.unlink()
    with pytest.raises(ValueError, match="pickles only"):
        read(folder)


def test_what_is_absent_says_where_it_is_published(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no_such.*huggingface.co/org/model.*prior.model=") as caught:
        read(tmp_path / "no_such" / "folder")
    assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match="has no folder vae: .*huggingface.co/org/model"):
        read(folder, diffusers.AutoencoderKL, "vae")
    with pytest.raises(FileNotFoundError, match="scheduler_config.json"):
        (folder / "scheduler" / "scheduler_config.json").unlink()
        source(str(folder), published="org/model").settings("scheduler")


def test_a_repository_that_is_not_in_the_cache_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"no weights at nobody/nothing.*org/model"):
        read("nobody/nothing", local_files_only=True)


def test_a_repository_is_read_from_the_cache(folder, tmp_path, monkeypatch):
    seen = []

    def snapshot_download(repository, allow_patterns, local_files_only):
        seen.append((repository, tuple(allow_patterns), local_files_only))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    read("org/cached", local_files_only=True, variant=None)
    ((repository, patterns, offline),) = seen
    assert repository == "org/cached" and offline and all(pattern.startswith("unet/") for pattern in patterns)
    assert "unet/*model.safetensors" in patterns and not any("bin" in pattern for pattern in patterns)


def test_fingerprint_follows_the_weights_and_only_those_that_are_read(folder):
    parts = source(str(folder), published="org/model")
    before = parts.fingerprint("unet"), parts.fingerprint("text_encoder")
    change(folder / "unet" / "diffusion_pytorch_model.safetensors", lambda state: state["conv_in.bias"].add_(1))
    after = parts.fingerprint("unet"), parts.fingerprint("text_encoder")
    assert before[0] != after[0] and before[1] == after[1] and before[0] != before[1]


def test_one_file_is_told_from_a_folder():
    assert isinstance(source("a/b.safetensors", published="org/model"), SingleFile)
    assert isinstance(source("a/b", published="org/model"), Folder)
    with pytest.raises(ValueError, match="config=here is for a single file"):
        source("a/b", published="org/model", config="here")
