from __future__ import annotations

import pytest
import torch

from rbctrl.codecs import Codec
from rbctrl.costs import ResidualNorm
from rbctrl.noise import GaussianNoise, NoNoise, PoissonNoise
from rbctrl.observation import Objective, given, observe
from rbctrl.operators import BoxMask, Downsample, MotionBlur, RandomMask

SHAPE = (3, 8, 8)
NOISES = [NoNoise(), GaussianNoise(0.1), PoissonNoise(50.0)]


def images(make_rng, n: int) -> torch.Tensor:
    return 2 * make_rng(n).uniform("image", SHAPE) - 1


@pytest.mark.parametrize("noise", NOISES, ids=repr)
@pytest.mark.parametrize("operator", [BoxMask(3), MotionBlur(5, 0.5), Downsample(2)])
def test_y_is_the_same_for_any_batch_split(operator, noise, make_rng) -> None:
    rng, image = make_rng(4), images(make_rng, 4)
    together = observe(operator.draw(rng, SHAPE), noise, image, rng).y
    for rows in (torch.tensor([0, 2]), torch.tensor([3])):
        part = rng.take(rows)
        y = observe(operator.draw(part, SHAPE), noise, image[rows], part).y
        torch.testing.assert_close(y, together[rows], rtol=1e-12, atol=1e-12)


def test_all_samples_of_an_item_share_y_and_items_do_not(make_rng) -> None:
    rng, image = make_rng(2, 3), images(make_rng, 1).expand(6, *SHAPE)
    y = observe(RandomMask(0.5).draw(rng, SHAPE), GaussianNoise(0.1), image, rng).y
    assert torch.equal(y[0], y[1])
    assert torch.equal(y[0], y[2])
    assert not torch.equal(y[0], y[3])


@pytest.mark.parametrize("noise", NOISES[1:], ids=repr)
def test_what_is_not_observed_counts_nowhere(noise, make_rng) -> None:
    rng, image = make_rng(2), images(make_rng, 2)
    operator = RandomMask(0.75).draw(rng, SHAPE)
    obs = observe(operator, noise, image, rng)
    hidden = (operator.observed == 0).expand_as(image)
    assert (obs.y[hidden] == 0).all()
    assert (obs.residual(image)[hidden] == 0).all()
    elsewhere = torch.where(hidden, image + 0.7, image)
    assert torch.equal(obs.nll(elsewhere), obs.nll(image))
    assert torch.equal(obs.residual(elsewhere), obs.residual(image))
    seen = torch.where(hidden, image, image + 0.2)
    assert (obs.nll(seen) != obs.nll(image)).all()  # negative control
    assert obs.n_measured.tolist() == [3 * 16, 3 * 16]


def test_a_given_y_may_hold_anything_where_it_was_not_observed(make_rng) -> None:
    operator = BoxMask(4, "centre").draw(make_rng(1), SHAPE)
    y = images(make_rng, 1)
    broken = torch.where(operator.observed > 0, y, torch.nan)
    assert torch.equal(given(operator, NoNoise(), broken).y, operator(y))


def test_nll_is_the_density_of_the_measured_entries(make_rng) -> None:
    rng, image = make_rng(2), images(make_rng, 2)
    operator = RandomMask(0.5).draw(rng, SHAPE)
    obs = observe(operator, GaussianNoise(0.1), image, rng)
    for k in range(2):
        seen = operator.observed[k].expand(SHAPE) > 0
        density = torch.distributions.Normal(image[k][seen], 0.1).log_prob(obs.y[k][seen])
        torch.testing.assert_close(obs.nll(image)[k], -density.sum())


def test_taking_rows_takes_mask_and_measurement(make_rng) -> None:
    rng, image = make_rng(3), images(make_rng, 3)
    obs = observe(RandomMask(0.5).draw(rng, SHAPE), GaussianNoise(0.1), image, rng)
    rows = torch.tensor([2, 2, 0])
    assert torch.equal(obs.take(rows).nll(image[rows]), obs.nll(image)[rows])


class Doubling(Codec):
    def encode(self, image: torch.Tensor) -> torch.Tensor:
        return image / 2

    def decode(self, x0: torch.Tensor) -> torch.Tensor:
        return 2 * x0


def test_objective_decodes_and_counts_gradients_through_the_codec(make_rng) -> None:
    rng, image = make_rng(2), images(make_rng, 2)
    obs = observe(Downsample(2), GaussianNoise(0.1), image, rng)
    latent, pixel = Objective(ResidualNorm(), obs, Doubling()), Objective(ResidualNorm(), obs)
    torch.testing.assert_close(latent(image / 2), pixel(image))
    x0 = (image / 2).requires_grad_()
    latent(x0).sum().backward()
    assert (latent.evaluations.decoder_vjp, latent.evaluations.encoder_vjp) == (1, 0)
    torch.testing.assert_close(latent.encode(latent.decode(x0)), x0)
    latent.encode(latent.decode(x0)).sum().backward()
    assert (latent.evaluations.decoder_vjp, latent.evaluations.encoder_vjp) == (2, 1)
    latent.encode(image)  # nobody differentiates this one
    pixel.encode(pixel.decode(image.clone().requires_grad_())).sum().backward()
    assert latent.evaluations.encoder_vjp == 1
    assert (pixel.evaluations.decoder_vjp, pixel.evaluations.encoder_vjp) == (0, 0)
