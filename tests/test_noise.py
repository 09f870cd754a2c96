from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from rbctrl.config import build, options
from rbctrl.noise import GaussianNoise, Noise, NoNoise, PoissonNoise
from rbctrl.operators.deepinv import DeepinvLinear, DeepinvPhysics
from rbctrl.operators.matrix import Matrix

CONF = Path(__file__).parents[1] / "conf"
N_ITEMS, SHAPE = 1500, (3, 2, 2)
NOISES = {"gaussian": GaussianNoise(0.05), "poisson": PoissonNoise(30.0)}


def draws(noise: Noise, make_rng) -> tuple[torch.Tensor, torch.Tensor]:
    """The same clean image [1, ...] measured for many items [N, ...]."""
    clean = torch.linspace(-0.9, 1, 12, dtype=torch.float64).view(1, *SHAPE)
    return clean, noise.add(clean.expand(N_ITEMS, *SHAPE), make_rng(N_ITEMS))


def variance(noise: Noise, clean: torch.Tensor) -> torch.Tensor:
    if isinstance(noise, GaussianNoise):
        return torch.full_like(clean, noise.sigma_y**2)
    return 4 / noise.peak * (clean + 1) / 2


def moment_gaps(y: torch.Tensor, clean: torch.Tensor, var: torch.Tensor) -> tuple[float, float]:
    """Largest gap of the mean and of the variance, in standard errors."""
    z = (y - clean) / var.sqrt()
    mean_gap = z.mean(0).abs() * N_ITEMS**0.5
    square = z.square()
    variance_gap = (square.mean(0) - 1).abs() * N_ITEMS**0.5 / square.std(0)
    return mean_gap.max().item(), variance_gap.max().item()


@pytest.mark.parametrize("name", NOISES)
def test_mean_and_variance_are_right_within_five_standard_errors(name: str, make_rng) -> None:
    noise = NOISES[name]
    clean, y = draws(noise, make_rng)
    var = variance(noise, clean)
    assert max(moment_gaps(y, clean, var)) < 5
    assert moment_gaps(y, clean + 0.25 * var.sqrt(), var)[0] > 5  # negative controls: a bias, another sigma
    assert moment_gaps(y, clean, 0.7 * var)[1] > 5


@pytest.mark.parametrize("name", NOISES)
def test_nll_is_minus_the_log_density_of_scipy(name: str, make_rng) -> None:
    noise = NOISES[name]
    clean, y = draws(noise, make_rng)
    if isinstance(noise, GaussianNoise):
        expected = -scipy.stats.norm.logpdf(y, clean, noise.sigma_y)
    else:
        counts = np.rint(noise.peak * (y.numpy() + 1) / 2)
        expected = -scipy.stats.poisson.logpmf(counts, noise.peak * (clean.numpy() + 1) / 2)
    torch.testing.assert_close(noise.nll(y, clean), torch.from_numpy(expected))


def test_poisson_measurements_are_counts(make_rng) -> None:
    _, y = draws(PoissonNoise(30.0), make_rng)
    counts = 30 * (y + 1) / 2
    torch.testing.assert_close(counts, counts.round())
    assert y.max() > 1  # not clipped: clipping biases bright pixels


def test_black_pixels_have_no_photons_and_a_finite_nll(make_rng) -> None:
    noise, black = PoissonNoise(30.0), torch.full((2, *SHAPE), -1.2, dtype=torch.float64)
    y = noise.add(black, make_rng(2))
    assert (y == -1).all()
    assert noise.nll(y, black).isfinite().all()


@pytest.mark.parametrize("name", NOISES)
def test_a_row_is_the_same_in_any_batch(name: str, make_rng) -> None:
    rng, clean = make_rng(4), torch.rand(4, *SHAPE, dtype=torch.float64)
    together = NOISES[name].add(clean, rng)
    order = torch.tensor([3, 1])
    assert torch.equal(NOISES[name].add(clean[order], rng.take(order)), together[order])


def test_no_noise_is_exact_and_has_no_likelihood(make_rng) -> None:
    clean = torch.zeros(2, *SHAPE)
    assert torch.equal(NoNoise().add(clean, make_rng(2)), clean)
    assert NoNoise().nll(clean, clean).isnan().all()


def test_poisson_sigma_is_that_of_mid_grey() -> None:
    noise = PoissonNoise(100.0)
    assert noise.sigma_y**2 == pytest.approx(variance(noise, torch.zeros(1)).item())


def test_describe_gives_three_units() -> None:
    assert GaussianNoise(0.05).describe() == "sigma_y 0.05 on [-1, 1] = 0.025 on [0, 1] = 6.375 of 255"


@pytest.mark.parametrize(
    "make",
    [lambda: NoNoise(0.1), lambda: GaussianNoise(0.0), lambda: GaussianNoise(float("inf")), lambda: PoissonNoise(0.0)],
)
def test_impossible_levels_are_refused(make) -> None:
    with pytest.raises(ValueError, match="noise="):
        make()


class Physics(torch.nn.Module):
    """What `rbctrl.operators.deepinv` asks for."""

    A = A_adjoint = A_dagger = staticmethod(lambda x: x)


ELSEWHERE = {
    "custom",
    "kernel_blur",
    "mask_file",
    "mcgdiff",
    "matrix",
    "nonlinear_blur",
    "parallel",
    "style",
}  # need a file or vectors
OTHERS = ("deepinv", "style", "composition")  # need a physics, or weights
MEASURING_IMAGES = [
    name for name in options("operator") if name not in ELSEWHERE and not any(word in name for word in OTHERS)
]


@pytest.mark.parametrize("name", MEASURING_IMAGES)
def test_poisson_noise_is_refused_where_y_leaves_the_range_of_images_and_only_there(name: str, make_rng) -> None:
    waves = torch.linspace(0, 9, 128, dtype=torch.float64).sin()
    image = torch.outer(waves, waves).expand(1, 3, 128, 128)
    operator = build("operator", name).draw(make_rng(1), (3, 128, 128))
    y = operator(image)
    reason = PoissonNoise().check(operator)
    assert (reason is not None) == bool(y.abs().max() > 1.2), reason  # bicubic overshoots a bit
    assert reason is None or re.search(r"counts photons, and y of \w+ is [a-zF ]+, no image: use ", reason)
    assert GaussianNoise().check(operator) is NoNoise().check(operator) is None


@pytest.mark.parametrize("operator", [Matrix([[1.0, 0.0]]), DeepinvPhysics(Physics()), DeepinvLinear(Physics())])
def test_poisson_noise_is_refused_where_nobody_knows_that_y_is_an_image(operator) -> None:
    assert "no image" in PoissonNoise().check(operator)


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "noise").glob("*.yaml")))
def test_every_option_instantiates(name: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(overrides=[f"+noise={name}"])
    assert isinstance(instantiate(cfg.noise, _convert_="all"), Noise)
