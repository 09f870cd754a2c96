"""The loading code of the shipped prior, on tiny checkpoints made here."""

import pytest
import torch
from safetensors.torch import save_file

from rbctrl.networks import ConvUNet
from rbctrl.priors.photographs import photo
from rbctrl.shipped import load_shipped

TINY = {"channels": (8, 16), "blocks": 1, "patch": 2, "embedding": 16, "image_channels": 3}


def checkpoint(path, state=None, config=None):
    state = state or {name: w.half() for name, w in ConvUNet(**TINY).state_dict().items()}
    save_file(state, path, {name: repr(v) for name, v in (config or TINY).items()})
    return path


def test_weights_are_read_as_they_were_written(tmp_path):
    net = ConvUNet(**TINY)
    with torch.no_grad():
        net.head.weight.fill_(0.25)
    path = checkpoint(tmp_path / "w.safetensors", {name: w.half() for name, w in net.state_dict().items()})
    prior = photo(str(path), stride=4)
    prior.load()
    x = torch.ones(1, 3, 8, 8)
    t = torch.tensor(0.3, dtype=torch.float64)
    alpha, sigma = (float(v) for v in prior.schedule.levels(t))
    expected = net.half().float()(x / alpha, torch.tensor([sigma / alpha]))
    torch.testing.assert_close(prior.predict(x, t).x0_hat, expected, rtol=1e-5, atol=1e-5)
    assert len(prior.fingerprint()) == 16


def test_nothing_but_a_fitting_file_is_loaded(tmp_path):
    with pytest.raises(FileNotFoundError, match="rbctrl train"):
        load_shipped(tmp_path / "none.safetensors", ConvUNet)
    garbage = tmp_path / "garbage.safetensors"
    garbage.write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="not a readable safetensors"):
        load_shipped(garbage, ConvUNet)
    save_file({"a": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ValueError, match="does not name its architecture"):
        load_shipped(tmp_path / "foreign.safetensors", ConvUNet)
    state = {name: w for name, w in ConvUNet(**TINY).state_dict().items() if name != "head.weight"}
    with pytest.raises(ValueError, match=r"differing tensors: head\.weight"):
        load_shipped(checkpoint(tmp_path / "short.safetensors", state), ConvUNet)
    wider = {**TINY, "channels": (8, 32)}
    with pytest.raises(ValueError, match="does not fit"):
        load_shipped(checkpoint(tmp_path / "wide.safetensors", config=wider), ConvUNet)


@pytest.mark.parametrize("shape", [(1, 16, 16), (4, 16, 16), (2,), (16, 16)])
def test_images_that_are_not_rgb_are_refused_in_a_sentence(shape):
    with pytest.raises(ValueError, match=r"3 channels, \[3, H, W\], got .*: convert the images"):
        photo().state_shape(shape)
    assert photo().state_shape((3, 16, 16)) == (3, 16, 16)


def test_missing_weights_are_found_out_by_load_and_not_before(tmp_path):
    prior = photo(str(tmp_path / "none.safetensors"))
    assert prior.state_shape((3, 16, 16)) == (3, 16, 16) and prior.fingerprint() == ""
    with pytest.raises(FileNotFoundError):
        prior.load()
