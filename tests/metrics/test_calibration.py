"""Calibration on a mixture: exact samples pass, what is too narrow, blind to y or no sample at all does not."""

import math
from dataclasses import replace

import pytest
import torch
from worlds import SIGMA_Y, exact_process, plane

from rbctrl.controllers import ExactPosterior, Run
from rbctrl.costs import ResidualNorm
from rbctrl.metrics import Coverage, Draws, RankStatistic, calibration_test
from rbctrl.metrics.calibration import directions
from rbctrl.noise import GaussianNoise
from rbctrl.observation import Objective, given, observe
from rbctrl.operators.identity import Identity
from rbctrl.operators.matrix import Matrix
from rbctrl.priors import Empirical
from rbctrl.rng import ImageRNG
from rbctrl.sampling import sample
from rbctrl.schedules import VP

IMAGES, SAMPLES, LEVEL, P = 400, 39, 0.9, 1e-3
BOUND = 4 * (LEVEL * (1 - LEVEL) / IMAGES) ** 0.5  # 4 standard errors of IMAGES yes or no answers
METRICS = (Coverage(LEVEL), Coverage(LEVEL, "projections"))
RANKS = (RankStatistic("projection"), RankStatistic("residual"))


def exact_draws(prior, operator, sigma_y, images=IMAGES, samples=SAMPLES):
    """Samples of the controller ExactPosterior for truths from the prior, as the experiment would gather them."""
    rows = tuple((f"draw/{item}", k) for item in range(images) for k in range(samples))
    rng = ImageRNG(0, rows, torch.float64)
    truth = prior_draws(prior, rng.of_items())
    obs = observe(operator, GaussianNoise(sigma_y), truth, rng)
    run = Run(exact_process(prior, 1), Objective(ResidualNorm(), obs, prior.codec), rng)
    x_0 = sample(run, ExactPosterior()).x0_hat
    return [
        Draws(x_0[k : k + samples], truth[k], obs.take(torch.tensor([k])), prior, ImageRNG(0, rows[k : k + 1]))
        for k in range(0, len(rows), samples)
    ]


def prior_draws(prior, rng):
    if isinstance(prior, Empirical):
        return prior.images[(rng.uniform("truth") * len(prior.images)).long()]
    return prior.sample(rng, "truth")


@pytest.fixture(scope="module")
def exact():
    return exact_draws(plane(), Matrix([[1.0, 0.0]]), SIGMA_Y)


def scaled(draws, factor):
    mean = draws.samples.mean(0)
    return replace(draws, samples=mean + factor * (draws.samples - mean))


def mean(metric, many):
    return sum(metric(draws) for draws in many) / len(many)


def test_of(rank, many):
    return calibration_test([rank(draws) for draws in many])


test_of.__test__ = False


@pytest.mark.parametrize("metric", METRICS, ids=lambda m: m.of)
def test_exact_samples_cover_the_level_and_half_of_their_variance_does_not(metric, exact):
    assert abs(mean(metric, exact) - LEVEL) < BOUND
    assert mean(metric, [scaled(draws, 0.5**0.5) for draws in exact]) < LEVEL - BOUND
    assert mean(metric, [scaled(draws, 2.0**0.5) for draws in exact]) > LEVEL + BOUND / 2


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_coverage_is_the_level_at_few_samples_too(level, exact):
    few = [replace(draws, samples=draws.samples[:20]) for draws in exact]
    assert abs(mean(Coverage(level), few) - level) < 4 * (level * (1 - level) / IMAGES) ** 0.5
    pairs = [replace(draws, samples=draws.samples[:3]) for draws in exact]
    assert abs(mean(Coverage(0.9), pairs) - 0.5) < 4 * 0.5 / IMAGES**0.5  # [min, max] of 3 covers (3 - 1) / (3 + 1)


@pytest.mark.parametrize("rank", RANKS, ids=lambda r: r.of)
def test_ranks_of_exact_samples_are_uniform_and_those_of_half_the_variance_are_not(rank, exact):
    right, narrow = test_of(rank, exact), test_of(rank, [scaled(draws, 0.5**0.5) for draws in exact])
    assert min(right.chi2_p, right.distance_p) > P and (right.n, right.lost) == (IMAGES, 0)
    assert min(narrow.chi2_p, narrow.distance_p) < P


def test_a_point_estimator_is_reported_as_uncalibrated(exact):
    for copies in (1, SAMPLES):
        point = [replace(draws, samples=draws.samples.mean(0).expand(copies, -1)) for draws in exact]
        assert all(mean(metric, point) == 0.0 for metric in METRICS)
        assert all(test_of(rank, point).chi2_p < P for rank in RANKS)


def test_one_exact_sample_is_no_interval(exact):
    alone = [replace(draws, samples=draws.samples[:1]) for draws in exact]
    assert mean(Coverage(), alone) == 0.0
    assert test_of(RankStatistic(), alone).distance_p < P


def test_only_the_residual_sees_a_sampler_that_is_blind_to_y(exact):
    rng = ImageRNG(1, tuple((str(k), 0) for k in range(IMAGES * SAMPLES)), torch.float64)
    prior_samples = plane().sample(rng, "blind").view(IMAGES, SAMPLES, 2)
    blind = [replace(draws, samples=samples) for draws, samples in zip(exact, prior_samples)]
    assert all(abs(mean(metric, blind) - LEVEL) < BOUND for metric in METRICS)
    assert test_of(RankStatistic("projection"), blind).chi2_p > P
    assert test_of(RankStatistic("residual"), blind).chi2_p < P


def test_projections_see_a_wrong_correlation_that_pixels_do_not():
    """8 equal pixels; the samples of each pixel are turned by another number, so every marginal stays."""
    rng = ImageRNG(0, tuple((str(k), 0) for k in range(IMAGES * 64)), torch.float64)
    line = rng.normal("z", (1,)).expand(-1, 8).reshape(IMAGES, 64, 8)
    obs = given(Identity(), GaussianNoise(1.0), torch.zeros(1, 8, dtype=torch.float64))
    right = [Draws(x[1:], x[0], obs, plane(), ImageRNG(0, (("a", 0),))) for x in line]
    wrong = [replace(d, samples=torch.stack([x.roll(k) for k, x in enumerate(d.samples.T)], 1)) for d in right]
    pixels, projections = Coverage(0.5), Coverage(0.5, "projections")
    bound = 4 * 0.5 / IMAGES**0.5
    assert abs(mean(pixels, wrong) - 0.5) < bound and abs(mean(projections, right) - 0.5) < bound
    assert abs(mean(projections, wrong) - 0.5) > bound


def test_atoms_are_calibrated_although_truth_and_samples_coincide():
    """A finite set of images: the truth is often among the samples, and ties are broken at random."""
    prior = Empirical(VP(), ImageRNG(0, (("set", 0),), torch.float64).normal("images", (12, 3))[0])
    many = exact_draws(prior, Matrix([[1.0, 0.0, 0.0]]), 0.3, images=200, samples=19)
    bound = 4 * (LEVEL * (1 - LEVEL) / 200) ** 0.5
    assert sum(bool((d.samples == d.truth).all(1).any()) for d in many) > 100
    assert abs(mean(Coverage(LEVEL), many) - LEVEL) < bound
    assert all(test_of(rank, many).chi2_p > P for rank in RANKS)
    nudged = [replace(d, samples=d.samples - 1e-9) for d in many]  # rounding is no bias
    assert mean(Coverage(LEVEL), nudged) == mean(Coverage(LEVEL), many)
    assert mean(Coverage(LEVEL, atol=0.0), nudged) < LEVEL - bound


def numbers(samples, truth=0.0):
    obs = given(Identity(), GaussianNoise(1.0), torch.zeros(1, 1, dtype=torch.float64))
    column = torch.tensor(samples, dtype=torch.float64).view(-1, 1)
    return Draws(column, torch.tensor([truth], dtype=torch.float64), obs, plane(), ImageRNG(0, (("a", 0),)))


def test_values_are_those_computed_by_hand():
    """9 samples make bins of 1/10; the interval of 0.5 is [0.25, 0.75], so bins 3 and 7 lie inside by half."""
    for below, share in ((0, 0.0), (1, 0.0), (2, 0.5), (3, 1.0), (6, 1.0), (7, 0.5), (8, 0.0)):
        assert Coverage(0.5)(numbers([-1.0] * below + [1.0] * (9 - below))) == pytest.approx(share)
        rank = RankStatistic()(numbers([-1.0] * below + [1.0] * (9 - below)))
        low = below / 10 if directions(1, 1) > 0 else (9 - below) / 10
        assert low <= rank <= low + 0.1
    assert Coverage(0.9)(numbers([0.0] * 9)) == pytest.approx(0.8)  # u anywhere in [0, 1]; the widest is [0.1, 0.9]


def test_scores_are_a_function_of_the_image_and_not_of_the_order_of_its_samples(exact):
    for metric in (*METRICS, *RANKS):
        assert metric(exact[0]) == metric(replace(exact[0], samples=exact[0].samples.flip(0)))


def test_the_undefined_is_nan_and_a_lost_image_is_not_covered(exact):
    unknown = replace(exact[0], truth=None)
    assert all(math.isnan(metric(unknown)) for metric in (*METRICS, *RANKS))
    lost = replace(exact[0], samples=exact[0].samples[:0])
    assert Coverage()(lost) == 0.0 and math.isnan(RankStatistic()(lost))
    found = calibration_test([math.nan, *torch.linspace(0.001, 0.999, 100).tolist()])
    assert (found.n, found.lost) == (100, 1) and found.chi2_p == pytest.approx(1.0)


def test_wrong_arguments_are_refused():
    for wrong, message in (({"level": 1.0}, "1.0"), ({"of": "modes"}, "'modes'"), ({"n_projections": 0}, "got 0")):
        with pytest.raises(ValueError, match=message):
            Coverage(**wrong)
    with pytest.raises(ValueError, match="'norm'"):
        RankStatistic("norm")
    with pytest.raises(ValueError, match="negative"):
        RankStatistic(atol=-1.0)
    with pytest.raises(ValueError, match="5 ranks"):
        calibration_test([0.5] * 50)
    with pytest.raises(ValueError, match="0, 1"):
        calibration_test([1.5] * 200)
