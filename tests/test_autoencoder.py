"""ConvAutoencoder: where it starts, what its latents look like, and that nothing crosses images."""

import numpy as np
import torch
import torch.nn.functional as F

from rbctrl.autoencoder import ConvAutoencoder

TINY = {"latent_channels": 5, "channels": (8, 8), "blocks": 1}


def images(count=16):
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(count, 3, 4, 4, generator=generator)
    fine = 0.1 * torch.randn(count, 3, 16, 16, generator=generator)
    return (F.interpolate(coarse, scale_factor=4, mode="bilinear", align_corners=False) + fine).float()


def test_it_starts_as_the_best_linear_code_of_blocks():
    net, x = ConvAutoencoder(**TINY), images()
    net.start_at_principal_components(x)
    z, decoded = net(x, torch.zeros(16, 5, 4, 4))
    blocks = x.view(16, 3, 4, 4, 4, 4).permute(0, 2, 4, 1, 3, 5).reshape(-1, 48).double().numpy()
    _, _, basis = np.linalg.svd(blocks, full_matrices=False)
    best = blocks @ basis[:5].T @ basis[:5]
    worse = blocks @ basis[1:6].T @ basis[1:6]
    ours = decoded.view(16, 3, 4, 4, 4, 4).permute(0, 2, 4, 1, 3, 5).reshape(-1, 48).detach().double().numpy()
    assert np.abs(ours - best).max() < 1e-5 < np.abs(ours - worse).max()
    torch.testing.assert_close(z.square().mean((0, 2, 3)), torch.full((5,), 0.25), rtol=1e-4, atol=0)


def test_standardized_latents_have_the_deviation_of_images_and_decode_to_the_same():
    net, x = ConvAutoencoder(**TINY), images()
    with torch.no_grad():
        net.encoder[-1].weight.normal_(generator=torch.Generator().manual_seed(1))
        net.encoder[-1].bias.fill_(0.7)
        before = net.decode(net.encode(x))
        net.standardize(x)
        net.standardize(x)  # of what is standardized already
        z = net.encode(x)
    torch.testing.assert_close(z.transpose(0, 1).flatten(1).std(1), torch.full((5,), 0.5), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(5), rtol=0, atol=1e-4)
    torch.testing.assert_close(net.decode(z), before, rtol=1e-4, atol=1e-4)


def test_an_image_is_coded_without_regard_to_the_others_or_to_its_frame():
    net, x = ConvAutoencoder(**TINY), images(4)
    net.start_at_principal_components(x)
    torch.testing.assert_close(net.encode(x)[2:3], net.encode(x[2:3]))
    assert net.encode(x[:, :, :8, :12]).shape == (4, 5, 2, 3)
