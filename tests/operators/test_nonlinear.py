"""What holds for every non-linear operator: the contract, its gradient, and the controllers that take it."""

from __future__ import annotations

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from operators.nonlinear import NONLINEAR, PINV, SMOOTH, STEPS, images
from worlds import image_run, setup, tiny_prior, unit_prior

from rbctrl.config import CONF_DIR, options
from rbctrl.controllers import DAPS, DPS, NoControl, PseudoinverseGuidance, RBModulation, REDdiff
from rbctrl.noise import NoNoise
from rbctrl.operators.jpeg import JPEG
from rbctrl.sampling import sample
from rbctrl.testing import check_operator

TAKES_ANY = "none dps gml_dps rb_modulation rb_modulation_exact daps red_diff shooting guess".split()
TAKES_PINV = "guidance pinv".split()
NEEDS_LINEAR = """proximal ddnm ddnm_plus diffpir ddrm moment_matching moment_matching_dense rb_modulation_prox mcgdiff
                  psld doob exact_posterior tv wiener bicubic biharmonic""".split()
every = pytest.mark.parametrize("name", NONLINEAR)


@every
def test_keeps_the_contract(name):
    make, shape = NONLINEAR[name]
    report = dict(check_operator(make(), shape))
    assert {"take", "draw", "again", "gradient", "fp32"} <= set(report)
    assert ("pinv" in report) == (name in PINV)
    assert report.get("pinv", 0) < 1e-12


@every
def test_is_not_linear(name, make_rng):
    make, shape = NONLINEAR[name]
    operator, x = make().double().draw(make_rng(3), shape), images(make_rng, shape)
    other = x.flip(-1)
    assert (operator(x + other) - operator(x) - operator(other) + operator(0 * x)).abs().max() > 0.01


@pytest.mark.parametrize("name", SMOOTH)
def test_gradient_is_the_derivative_away_from_kinks(name, make_rng):
    make, shape = SMOOTH[name]
    operator, x = make().double().draw(make_rng(3), shape), images(make_rng, shape)
    kink = 1 / operator.factor if name == "hdr" else 2.0
    x = torch.where((x.abs() - kink).abs() < 0.01, 0.1, x).requires_grad_()
    assert torch.autograd.gradcheck(operator, x, atol=1e-7, fast_mode=True)


@pytest.mark.parametrize("name", STEPS)
def test_gradient_is_that_of_the_map_without_its_steps(name, make_rng):
    make, shape = STEPS[name]
    operator, x = make().double().draw(make_rng(3), shape), images(make_rng, shape)
    direction = make_rng(3, seed=1).normal("direction", shape)
    _, slope = torch.autograd.functional.jvp(operator, x, direction)
    fine = build_fine(operator)
    found = (fine(x + 1e-3 * direction) - fine(x - 1e-3 * direction)) / 2e-3
    inside = (x.abs() < 0.9).to(x) if name == "quantize" else torch.ones_like(x)
    gap = (inside * (slope - found)).abs().max() / slope.abs().max()
    assert gap < 0.01
    stepped = (operator(x + 1e-9 * direction) - operator(x - 1e-9 * direction)) / 2e-9
    assert (stepped - slope).norm() > 0.5 * slope.norm()  # the true derivative is another one: 0 almost everywhere


def build_fine(operator):
    """The same operator with steps too small to see."""
    if hasattr(operator, "bits"):
        return type(operator)(16)
    fine = JPEG(100, operator.subsampling, operator.upsampling)
    fine._kept[("tables", torch.float64, torch.device("cpu"))] = torch.full((2, 8, 8), 1e-6, dtype=torch.float64)
    return fine


@every
@pytest.mark.parametrize("controller", [DPS(), RBModulation(), DAPS(2, langevin_steps=5, tau=0.5), REDdiff()])
def test_controllers_that_take_any_operator_bring_the_measurement_nearer(name, controller):
    run = image_run(NONLINEAR[name][0](), size=16, n_steps=12, prior=unit_prior())
    free, controlled = (run.obs.residual(sample(run, c).x0_hat).norm() for c in (NoControl(), controller))
    assert controller.check(run.setup) is None
    assert controlled < free


@pytest.fixture(scope="module")
def controllers():
    files = {option: OmegaConf.load(CONF_DIR / "controller" / f"{option}.yaml") for option in options("controller")}
    return {k: instantiate(cfg, _convert_="all") for k, cfg in files.items() if "defaults" not in cfg and k != "custom"}


@every
def test_controllers_that_need_more_refuse_in_one_sentence(name, controllers):
    operator = NONLINEAR[name][0]()
    for option, controller in controllers.items():
        reason = controller.check(setup(tiny_prior(), operator))
        if option in TAKES_ANY or (option in TAKES_PINV and name in PINV):
            assert reason is None, (option, reason)
        if option in NEEDS_LINEAR or (option in TAKES_PINV and name not in PINV):
            assert reason is not None, option
        if reason is not None:
            assert "\n" not in reason and len(reason) < 300


@pytest.mark.parametrize("name", PINV)
def test_pseudoinverse_guidance_is_the_published_update_of_a_nonlinear_inverse(name):
    """J^T (A^+ y - A^+ A x0_hat) / r_t^2 without noise, moved by sigma^2 / alpha (Song et al., section 3.3)."""
    run = image_run(NONLINEAR[name][0](), size=16, noise=NoNoise())
    process, i, operator = run.process, 1, run.obs.operator
    x_t = process.init(run.rng).requires_grad_()
    with torch.enable_grad():
        x0_hat = process.prior.predict(x_t, process.times[i]).x0_hat
        v = (operator.pinv(run.obs.y) - operator.pinv(operator(x0_hat))).detach()
        (pulled,) = torch.autograd.grad((v * x0_hat).sum(), x_t)
    alpha, sigma = process.alpha[i], process.sigma[i]
    spread = sigma**2 / (alpha**2 + sigma**2)
    x0 = (x0_hat + sigma**2 / alpha * pulled / spread).detach()
    eps = (x_t.detach() - alpha * x0) / sigma
    c_x0, c_eps, _ = process.coefficients[i]
    step, _ = PseudoinverseGuidance()(run, x_t.detach(), i, {})
    torch.testing.assert_close(step.mean, c_x0 * x0 + c_eps * eps, rtol=0, atol=1e-10)
