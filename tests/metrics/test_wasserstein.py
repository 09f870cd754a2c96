"""Sliced Wasserstein distance and mode weights against scipy and against what is known."""

import math
from dataclasses import replace

import pytest
import torch
from scipy.stats import wasserstein_distance
from worlds import plane, tiny_prior

from rbctrl.codecs import Identity
from rbctrl.metrics import Draws, Floor, ModeWeightTV, SlicedWasserstein
from rbctrl.metrics.wasserstein import quantile_distance
from rbctrl.noise import GaussianNoise
from rbctrl.observation import given
from rbctrl.operators.matrix import Matrix
from rbctrl.rng import ImageRNG

PRIOR = plane()


def draws(n=500, prior=PRIOR, shift=0.0):
    obs = given(Matrix([[1.0, 0.0]]), GaussianNoise(0.2), torch.full((1, 1), 0.4, dtype=torch.float64))
    empty = Draws(torch.zeros(0, 2, dtype=torch.float64), None, obs, prior, ImageRNG(0, (("a", 0),), torch.float64))
    return replace(empty, samples=empty.posterior(n, "samples") + shift) if n else empty


class Noisy(Identity):
    """Renders with noise, as the stages of Stable Cascade do."""

    def render(self, x0, rng=None):
        return x0 + rng.normal("render", tuple(x0.shape[1:]))


def test_exact_draws_are_rendered_with_the_numbers_of_their_rows():
    noisy, plain = (draws(0, prior) for prior in (plane(), PRIOR))
    noisy.prior.codec = Noisy()
    moved = noisy.posterior(3) - plain.posterior(3)
    alone = replace(noisy.rng, rows=(("a", 1),)).normal("render", (2,))
    assert torch.allclose(moved[1:2], alone, atol=1e-12)
    assert not torch.allclose(moved[:1], alone, atol=1e-3)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("m", [50, 75, 7])
def test_distance_of_numbers_is_scipys(m):
    a, b = random(5, 50), 1 + 2 * random(5, m, seed=1)
    theirs = [wasserstein_distance(u.numpy(), v.numpy()) for u, v in zip(a, b)]
    assert quantile_distance(a, b) == pytest.approx(theirs, abs=1e-12)
    assert quantile_distance(a, b + 1e-6) != pytest.approx(theirs, abs=1e-12)


def test_a_common_shift_costs_its_length_in_any_order():
    """W_p(a, a + s) = |s|; and of order 2 between two points and one, by hand."""
    a = random(3, 40)
    for order in (1.0, 2.0):
        assert quantile_distance(a, a + 0.3, order) ** (1 / order) == pytest.approx([0.3] * 3)
    two, one = torch.tensor([[-1.0, 3.0]], dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    assert quantile_distance(two, one, 2.0) == pytest.approx([5.0])
    assert quantile_distance(two, one, 1.0) == pytest.approx([2.0])


def test_sliced_distance_of_a_shift_is_its_mean_projection():
    """In the plane E|theta . s| = 2 |s| / pi; a shift along a measured coordinate is far above the floor."""
    shift = torch.tensor([0.0, 3.0], dtype=torch.float64)
    exact = draws()
    moved = replace(exact, samples=exact.posterior(500) + shift)  # the very draws that it is compared with
    assert SlicedWasserstein(n_slices=2000)(moved) == pytest.approx(2 * 3 / math.pi, rel=0.05)
    assert SlicedWasserstein(n_slices=2000)(replace(moved, samples=exact.posterior(500))) == 0.0


def test_exact_samples_score_the_floor_and_wrong_ones_do_not():
    metric = SlicedWasserstein(n_slices=200)
    floor = Floor(metric)(draws())
    assert 0 < floor < 0.1 and 0 < metric(draws()) < 0.1
    assert metric(draws(shift=0.5)) > 0.2  # 0.32 for draws without number
    assert Floor(metric)(draws(50)) > 2 * Floor(metric)(draws(5000))
    assert SlicedWasserstein(200, n_reference=5000)(draws()) < 0.1


def test_directions_do_not_depend_on_the_samples():
    assert SlicedWasserstein(150)(draws(shift=1.0)) == SlicedWasserstein(150)(draws(shift=1.0))
    assert SlicedWasserstein(150)(draws(shift=1.0)) != SlicedWasserstein(151)(draws(shift=1.0))


def test_slices_serve_all_methods_that_leave_as_many_samples():
    metric, one, other = SlicedWasserstein(150), draws(shift=1.0), draws(shift=2.0)
    slices = list(metric.slices(one))
    assert [metric.distance(x.samples, slices) for x in (one, other)] == [metric(one), metric(other)]
    assert metric(one) != metric(other)


def test_exact_draws_are_drawn_once_for_all_metrics(monkeypatch):
    exact, drawn = draws(20), []
    sample_given = type(PRIOR).sample_given
    monkeypatch.setattr(type(PRIOR), "sample_given", lambda *args: drawn.append(args[2:]) or sample_given(*args))
    for metric in (SlicedWasserstein(10), ModeWeightTV(), Floor(ModeWeightTV())):
        metric(exact)
    assert [key for _, key in drawn] == ["metric/exact", "floor"]
    of_another_y = replace(exact, obs=given(Matrix([[1.0, 0.0]]), GaussianNoise(0.2), -exact.obs.y))
    assert not torch.equal(of_another_y.posterior(20), exact.posterior(20))


def test_mode_weights_are_compared_by_nearest_mean():
    exact = draws()
    shares = torch.tensor([1.0, 0.0, 0.0])
    one_mode = replace(exact, samples=PRIOR.means[:1].expand(500, 2).clone())
    weights = exact.posterior(500)
    nearest = torch.cdist(weights, PRIOR.means).argmin(1)
    found = torch.bincount(nearest, minlength=3) / 500
    assert ModeWeightTV()(one_mode) == pytest.approx(float((shares - found).abs().sum() / 2))
    assert ModeWeightTV()(exact) < 0.1 < ModeWeightTV()(one_mode)
    assert Floor(ModeWeightTV())(exact) < 0.1


def test_undefined_scores_are_nan():
    for metric in (SlicedWasserstein(10), ModeWeightTV(), Floor(SlicedWasserstein(10))):
        assert math.isnan(metric(draws(0)))
        assert math.isnan(metric(replace(draws(10), prior=tiny_prior())))


def test_numbers_below_one_are_refused():
    for word, settings in {"n_slices": {"n_slices": 0}, "order": {"order": 0.5}, "n_ref": {"n_reference": 0}}.items():
        with pytest.raises(ValueError, match=word):
            SlicedWasserstein(**settings)
    with pytest.raises(ValueError, match="ModeWeightTV needs n_reference of at least 1, got 0"):
        ModeWeightTV(n_reference=0)
