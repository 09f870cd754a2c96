"""The adapter: any parameterisation, schedule, range and time input gives the same x0_hat."""

import pytest
import torch
from torch import nn
from worlds import TinyNet

from rbctrl.priors import NetworkPrior
from rbctrl.schedules import VE, VP, Cosine, DiscreteVP, RectifiedFlow

RADIUS, CENTER = 0.5, 0.5  # images in [0, 1]


class Gaussian(nn.Module):
    """The exact network of x_0 ~ N(m, c^2) on its own range, in any parameterisation of any schedule."""

    def __init__(self, schedule, parameterization, mean, std):
        super().__init__()
        self.schedule, self.parameterization, self.mean, self.std = schedule, parameterization, mean, std
        self.seen = []

    def forward(self, x, time):
        self.seen.append(float(time[0]))
        a, s = (float(v) for v in self.schedule.levels(torch.tensor(float(time[0]), dtype=torch.float64)))
        x0 = self.mean + a * self.std**2 * (x - a * self.mean) / (a**2 * self.std**2 + s**2)
        eps = (x - a * x0) / s
        return {"x0": x0, "eps": eps, "v": a * eps - s * x0, "flow": eps - x0}[self.parameterization]


def truth(x_t, schedule, t, mean, std):
    alpha, sigma = (float(v) for v in schedule.levels(t))
    return mean + alpha * std**2 * (x_t - alpha * mean) / (alpha**2 * std**2 + sigma**2)


@pytest.mark.parametrize("parameterization", ["x0", "eps", "v", "flow"])
@pytest.mark.parametrize(
    "native", [VP(), DiscreteVP.linear(), Cosine(), VE(), RectifiedFlow()], ids=lambda s: type(s).__name__
)
@pytest.mark.parametrize("process", [None, VP(), VE(), RectifiedFlow()], ids=lambda s: type(s).__name__)
def test_every_network_runs_in_every_process(parameterization, native, process):
    mean, std = 0.2, 0.6  # on [-1, 1]
    net = Gaussian(native, parameterization, RADIUS * mean + CENTER, RADIUS * std)
    prior = NetworkPrior(
        net,
        parameterization=parameterization,
        time_input="t",
        network_schedule=native,
        value_range=(0.0, 1.0),
        schedule=process,
    )
    t = torch.tensor(0.4, dtype=torch.float64)
    x_t = torch.linspace(-2, 2, 48, dtype=torch.float64).view(1, 3, 4, 4)
    est = prior.predict(x_t, t)
    torch.testing.assert_close(est.x0_hat, truth(x_t, prior.schedule, t, mean, std), rtol=1e-7, atol=1e-7)
    alpha, sigma = (float(v) for v in prior.schedule.levels(t))
    torch.testing.assert_close(alpha * est.x0_hat + sigma * est.eps_hat, x_t, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("wrong", ["eps", "v", "flow"])
def test_a_wrong_parameterization_is_seen(wrong):
    net = Gaussian(VP(), "x0", 0.0, 0.5)
    prior = NetworkPrior(net, parameterization=wrong, time_input="t", network_schedule=VP(), value_range=(-1, 1))
    t = torch.tensor(0.4, dtype=torch.float64)
    x_t = torch.ones(1, 3, 4, 4, dtype=torch.float64)
    assert not torch.allclose(prior.predict(x_t, t).x0_hat, truth(x_t, VP(), t, 0.0, 0.5), atol=1e-2)


@pytest.mark.parametrize("parameterization", ["x0", "eps", "v", "flow"])
def test_native_short_cut_equals_the_long_way(parameterization):
    """clip forces the long way; a clip that nothing reaches must change nothing."""
    schedule = RectifiedFlow() if parameterization == "flow" else VP()
    net = Gaussian(schedule, parameterization, 0.0, 0.5)
    t, x_t = torch.tensor(0.3, dtype=torch.float64), torch.linspace(-1, 1, 48, dtype=torch.float64).view(1, 3, 4, 4)
    both = [
        NetworkPrior(
            net,
            parameterization=parameterization,
            time_input="t",
            network_schedule=schedule,
            value_range=(-1, 1),
            clip=c,
        ).predict(x_t, t)
        for c in (None, (-9.0, 9.0))
    ]
    torch.testing.assert_close(both[0].x0_hat, both[1].x0_hat)
    torch.testing.assert_close(both[0].eps_hat, both[1].eps_hat)


@pytest.mark.parametrize(
    ("time_input", "expected"),
    [("t", 0.25), ("index", 249), ("sigma", None), ("log_sigma", None), ("log_snr", None)],
)
def test_network_is_told_the_time_it_asks_for(time_input, expected):
    schedule = DiscreteVP.linear()
    seen = []

    class Listener(nn.Module):
        def forward(self, x, time):
            seen.append(time)
            return x

    prior = NetworkPrior(
        Listener(), parameterization="x0", time_input=time_input, network_schedule=schedule, value_range=(-1, 1)
    )
    t = torch.tensor(0.25, dtype=torch.float64)
    prior.predict(torch.zeros(2, 3, 4, 4, dtype=torch.float64), t)
    alpha, sigma = (float(v) for v in schedule.levels(t))
    log_sigma = torch.tensor(sigma / alpha, dtype=torch.float64).log()
    expected = {"sigma": sigma / alpha, "log_sigma": log_sigma / 4, "log_snr": -2 * log_sigma}.get(time_input, expected)
    assert seen[0].shape == (2,) and float(seen[0][0]) == pytest.approx(float(expected))


def test_learned_variance_is_a_fraction_and_sample_attributes_are_read():
    class Six(nn.Module):
        def forward(self, x, time):
            class Output:
                sample = torch.cat([x, 0.5 * x], dim=1)

            return Output()

    prior = NetworkPrior(
        Six(), parameterization="x0", time_input="t", network_schedule=VP(), value_range=(-1, 1), learned_variance=True
    )
    x_t = torch.ones(1, 3, 4, 4)
    est = prior.predict(x_t, torch.tensor(0.5))
    assert torch.equal(est.x0_hat, x_t) and torch.equal(est.variance_fraction, 0.75 * x_t)


def test_sign_negates_the_output_but_not_the_variance():
    class Six(nn.Module):
        def forward(self, x, time):
            return torch.cat([-x, x], dim=1)

    def estimate(sign):
        settings = {"parameterization": "x0", "time_input": "t", "network_schedule": VP(), "value_range": (-1, 1)}
        prior = NetworkPrior(Six(), **settings, learned_variance=True, sign=sign)
        return prior.predict(torch.ones(1, 3, 4, 4), torch.tensor(0.5))

    assert torch.equal(estimate(-1).x0_hat, -estimate(1).x0_hat)
    assert torch.equal(estimate(-1).variance_fraction, estimate(1).variance_fraction)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_precision_of_the_network_stays_inside_it(dtype):
    net = nn.Conv2d(3, 3, 1).to(dtype)

    class WithTime(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x, time):
            assert x.dtype == dtype and time.dtype == torch.promote_types(dtype, torch.float32)
            assert float(time[0]) == 980  # bf16 knows no 981
            return self.net(x)

    prior = NetworkPrior(
        WithTime(),
        parameterization="x0",
        time_input="index",
        network_schedule=DiscreteVP.linear(),
        value_range=(-1, 1),
    )
    for state in (torch.float32, torch.float64):
        est = prior.predict(torch.zeros(1, 3, 8, 8, dtype=state), torch.tensor(0.981, dtype=torch.float64))
        assert est.x0_hat.dtype == est.eps_hat.dtype == state


def test_conditions_reach_the_network_and_an_output_can_be_changed_before_it_becomes_an_estimate():
    class Conditioned(nn.Module):
        def forward(self, x, time, shift):
            return x + shift[:, :, None, None]

    prior = NetworkPrior(
        Conditioned(), parameterization="v", time_input="t", network_schedule=VP(), value_range=(0, 1), schedule=VE()
    )
    x_t, t = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)), torch.tensor(0.3)
    shift = torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]])
    est, out = prior.predict(x_t, t, shift), prior.output(x_t, t, shift)
    assert torch.equal(est.x0_hat, prior.estimate(x_t, t, out).x0_hat)
    plain = prior.output(x_t, t, torch.zeros_like(shift))
    torch.testing.assert_close((out - plain)[1].mean((1, 2)), shift[1])
    assert torch.equal(out[0], plain[0])


def test_a_network_of_eps_is_not_asked_for_an_image_in_pure_noise():
    schedule = DiscreteVP.zero_snr(DiscreteVP.linear())
    x_t, end = torch.ones(1, 3, 4, 4), torch.tensor(1.0)

    def make(parameterization):
        return NetworkPrior(
            TinyNet(),
            parameterization=parameterization,
            time_input="index",
            network_schedule=schedule,
            value_range=(-1, 1),
        )

    with pytest.raises(ValueError, match="eps says nothing"):
        make("eps").predict(x_t, end)
    est = make("v").predict(x_t, end)
    assert torch.equal(est.eps_hat, x_t) and torch.isfinite(est.x0_hat).all()


def test_weights_are_frozen_and_built_by_load_only():
    built = []

    def build():
        built.append(1)
        return TinyNet()

    prior = NetworkPrior(
        build, parameterization="x0", time_input="t", network_schedule=VP(), value_range=(-1, 1), stride=8
    )
    assert not built and prior.state_shape((3, 16, 8)) == (3, 16, 8)
    with pytest.raises(RuntimeError, match="load"):
        prior.predict(torch.zeros(1, 3, 8, 8), torch.tensor(0.5))
    prior.load()
    prior.load()
    assert len(built) == 1 and not any(p.requires_grad for p in prior.parameters())


def test_what_cannot_run_is_refused():
    net = TinyNet()

    def make(**kwargs):
        settings = {"parameterization": "x0", "time_input": "t", "network_schedule": VP(), "value_range": (-1, 1)}
        return NetworkPrior(net, **(settings | kwargs))

    for kwargs, word in (
        ({"parameterization": "epsilon"}, "parameterization"),
        ({"time_input": "timestep"}, "time_input"),
        ({"time_input": "index"}, "DiscreteVP"),
        ({"value_range": (1, 0)}, "low < high"),
        ({"sign": 2}, "sign is"),
        ({"memory_format": "nhwc"}, "memory_format"),
    ):
        with pytest.raises(ValueError, match=word):
            make(**kwargs)
    with pytest.raises(ValueError, match="multiples of 8"):
        make(stride=8).state_shape((3, 12, 16))
    with pytest.raises(ValueError, match="runs at"):
        make(shape=(3, 16, 16)).state_shape((3, 8, 8))
    narrow = make(network_schedule=VE(sigma_max=5.0), schedule=VP())
    assert narrow.predict(torch.zeros(1, 3, 8, 8), torch.tensor(0.4, dtype=torch.float64)).x0_hat.shape == (1, 3, 8, 8)
    with pytest.raises(ValueError, match="above all that this network was trained for"):
        narrow.predict(torch.zeros(1, 3, 8, 8), torch.tensor(0.99, dtype=torch.float64))
    flow = make(network_schedule=VP(), schedule=RectifiedFlow())
    with pytest.raises(ValueError, match="t < 1"):
        flow.predict(torch.zeros(1, 3, 8, 8), torch.tensor(1.0, dtype=torch.float64))
