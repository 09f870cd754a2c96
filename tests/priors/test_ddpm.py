"""Networks of diffusers, alone with their scheduler or in a pipeline."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from rbctrl.priors.ddpm import ddpm
from rbctrl.schedules import DiscreteVP

T = torch.tensor(0.3, dtype=torch.float64)


def tiny():
    from diffusers import UNet2DModel

    return UNet2DModel(
        sample_size=8,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=None,
        flip_sin_to_cos=False,
        freq_shift=1,
        norm_eps=1e-6,
    ).eval()


def scheduler(**changes):
    from diffusers import DDPMScheduler

    return DDPMScheduler(1000, beta_start=1e-4, beta_end=0.02, beta_schedule="linear", **changes)


@pytest.fixture
def folder(tmp_path):
    network = tiny()
    network.save_pretrained(tmp_path)
    scheduler().save_pretrained(tmp_path)
    return network, tmp_path


def prior(path, **changes):
    return ddpm(str(path), DiscreteVP.linear(), **({"stride": 2, "trained_at": 8} | changes))


def gap(found, network):
    x = torch.linspace(-1, 1, 192).view(1, 3, 8, 8)
    with torch.no_grad():
        return float((found.predict(x, T).eps_hat - network(x, torch.tensor([299.0])).sample).abs().max())


def test_folder_of_a_network_and_of_a_pipeline_are_read(folder, tmp_path):
    from diffusers import DDPMPipeline

    network, path = folder
    DDPMPipeline(network, scheduler()).save_pretrained(tmp_path / "pipeline")
    for place in (path, tmp_path / "pipeline"):
        found = prior(place)
        assert found.files()[0].present() and len(found.fingerprint()) == 16
        found.load()
        assert gap(found, network) < 1e-6
    assert gap(found, tiny()) > 1e-3  # another network of the same shape


def test_names_of_older_files_are_understood(folder):
    """Before 2023 attention was called query, key, value and proj_attn; the files of google/ddpm-* still are."""
    network, path = folder
    file = path / "diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = load_file(file)
    for new, name in old.items():
        state = {key.replace(f".{new}.", f".{name}."): value for key, value in state.items()}
    save_file(state, file)
    found = prior(path)
    found.load()
    assert gap(found, network) < 1e-6


def test_missing_tensors_are_not_random_numbers(folder):
    _, path = folder
    file = path / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    del state["conv_out.bias"]
    save_file(state, file)
    found = prior(path)
    with pytest.raises(ValueError, match=r"1 missing \(conv_out.bias\)"):
        found.load()
    assert found.network is None


def test_scheduler_that_says_otherwise_is_refused(folder):
    _, path = folder
    for change, word in (
        ({"beta_end": 0.012}, "another noise schedule"),
        ({"prediction_type": "v_prediction"}, "prediction_type=v_prediction"),
    ):
        config = json.loads((path / "scheduler_config.json").read_text()) | change
        (path / "scheduler_config.json").write_text(json.dumps(config))
        with pytest.raises(ValueError, match=word):
            prior(path).load()
        scheduler().save_pretrained(path)


def test_absent_folder_says_where_it_is_published(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match="huggingface.co/google/ddpm-celebahq-256"):
        prior("google/ddpm-celebahq-256", local_files_only=True).load()
