"""ConvCodec: the autoencoder of a latent prior, on a tiny checkpoint made here."""

import pytest
import torch
from safetensors.torch import save_file

from rbctrl.autoencoder import ConvAutoencoder
from rbctrl.codecs import ConvCodec

TINY = {"latent_channels": 5, "channels": (8, 8), "blocks": 1, "image_channels": 3}


@pytest.fixture
def checkpoint(tmp_path):
    net = ConvAutoencoder(**TINY)
    save_file(net.state_dict(), tmp_path / "codec.safetensors", {name: repr(v) for name, v in TINY.items()})
    return tmp_path / "codec.safetensors", net


def test_it_runs_the_network_of_the_file(checkpoint):
    path, net = checkpoint
    codec = ConvCodec(path, latent_channels=5)
    with pytest.raises(RuntimeError, match="load"):
        codec.encode(torch.zeros(1, 3, 8, 8))
    codec.load()
    image = torch.linspace(-1, 1, 3 * 8 * 12, dtype=torch.float64).view(1, 3, 8, 12)
    z = codec.encode(image)
    assert z.dtype == torch.float64 and z.shape[1:] == codec.state_shape((3, 8, 12)) == (5, 2, 3)
    torch.testing.assert_close(z.float(), net.encode(image.float()))
    torch.testing.assert_close(codec.decode(z).float(), net.decode(z.float()))
    assert codec.fingerprint() and not any(p.requires_grad for p in codec.parameters())


def test_gradients_flow_in_both_directions(checkpoint):
    codec = ConvCodec(checkpoint[0], latent_channels=5)
    codec.load()
    z = torch.zeros(1, 5, 2, 2, requires_grad=True)
    assert torch.autograd.grad(codec.decode(z).sum(), z)[0].abs().sum() > 0
    image = torch.zeros(1, 3, 8, 8, requires_grad=True)
    assert torch.autograd.grad(codec.encode(image).sum(), image)[0].abs().sum() > 0


def test_what_does_not_fit_is_refused_in_a_sentence(checkpoint, tmp_path):
    with pytest.raises(ValueError, match="codec.latent_channels=5"):
        ConvCodec(checkpoint[0]).load()
    with pytest.raises(FileNotFoundError, match="rbctrl train"):
        ConvCodec(tmp_path / "none.safetensors").load()
    codec = ConvCodec(checkpoint[0])
    for shape, word in (((1, 8, 8), "RGB"), ((3, 8, 10), "multiples of 4 px, got 8x10")):
        with pytest.raises(ValueError, match=word):
            codec.state_shape(shape)
