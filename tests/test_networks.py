import torch

from rbctrl.networks import SIGMA_DATA, ConvUNet


def network():
    generator = torch.Generator().manual_seed(0)
    net = ConvUNet(channels=(8, 16), blocks=1, embedding=16).double()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(0.3 * torch.randn(p.shape, generator=generator, dtype=torch.float64))
    return net


def test_a_new_network_is_the_best_linear_guess():
    """The head starts at zero, so D = c_skip x = s_d^2 / (sigma^2 + s_d^2) x."""
    x, sigma = torch.ones(2, 3, 8, 8), torch.tensor([0.5, 2.0])
    out = ConvUNet(channels=(8, 16), blocks=1, embedding=16)(x, sigma)
    expected = SIGMA_DATA**2 / (sigma**2 + SIGMA_DATA**2)
    torch.testing.assert_close(out, expected.view(2, 1, 1, 1).expand_as(out))


def test_rows_do_not_see_each_other():
    net, x = network(), torch.linspace(-1, 1, 3 * 3 * 64, dtype=torch.float64).view(3, 3, 8, 8)
    sigma = torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)
    whole = net(x, sigma)
    for k in range(3):
        torch.testing.assert_close(net(x[k : k + 1], sigma[k : k + 1])[0], whole[k], rtol=1e-9, atol=1e-9)
    assert not torch.allclose(net(x, sigma.flip(0))[0], whole[0])


def test_any_multiple_of_the_stride_runs_and_the_middle_does_not_see_the_size():
    net = network()
    assert net.stride == 4
    x = torch.linspace(-1, 1, 3 * 96 * 96, dtype=torch.float64).view(1, 3, 96, 96).sin()
    sigma = torch.tensor([0.3], dtype=torch.float64)
    small, large = net(x[..., 16:80, 16:80], sigma), net(x, sigma)
    torch.testing.assert_close(small[..., 28:36, 28:36], large[..., 44:52, 44:52])
