"""What holds for every controller."""

import pytest
import torch
from controllers.cases import EXACT, LATENT, PIXEL, WITH_TEXT, WITHOUT_NOISE
from controllers.latents import FakeText, latent_run
from worlds import exact_process, image_run, plane, plane_run, unit_prior

from rbctrl.controllers import NoControl, RBModulation
from rbctrl.operators.base import LinearOperator
from rbctrl.operators.matrix import Matrix
from rbctrl.operators.svd import SVD
from rbctrl.process import Step
from rbctrl.sampling import sample


class Half(LinearOperator):
    """A linear operator on images of 8 px that keeps the left half; small and without draws."""

    def forward(self, image):
        return image[..., :4]

    def adjoint(self, y):
        return torch.cat([y, torch.zeros_like(y)], dim=-1)

    def gram_solve(self, v, rho=0.0):
        return v / (1 + rho)

    def svd(self, like):
        seen = (torch.arange(like.shape[-1]) < 4).to(like)
        return SVD(seen, lambda x: x, lambda c: c, self.adjoint)


ALL = [*PIXEL, *EXACT, *(f"latent/{name}" for name in LATENT), *WITHOUT_NOISE, *WITH_TEXT]


def both(name):
    if name in EXACT:
        prior = plane()
        return plane_run(prior, exact_process(prior, 6), 5), EXACT[name]
    if name.startswith("latent/"):
        return latent_run(), LATENT[name.removeprefix("latent/")]
    if name in WITHOUT_NOISE:
        return latent_run(eta=0.0, n_steps=6), WITHOUT_NOISE[name]
    if name in WITH_TEXT:
        return latent_run(prior=FakeText()), WITH_TEXT[name]
    return image_run(Half()), PIXEL[name]


@pytest.mark.parametrize("name", ALL)
def test_rows_at_once_one_by_one_and_permuted_are_equal(name):
    run, controller = both(name)
    whole = sample(run, controller)
    n = len(whole.x)
    for rows in [torch.tensor([k]) for k in range(n)] + [torch.arange(n).flip(0)]:
        part = sample(run.take(rows), controller)
        torch.testing.assert_close(part.x0_hat, whole.x0_hat[rows], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(
            part.control_energy, whole.control_energy[rows], rtol=1e-6, atol=1e-6, equal_nan=True
        )


class OneDies(RBModulation):
    """Row 0 becomes non-finite at step 1."""

    def __init__(self, inner):
        object.__setattr__(self, "inner", inner)

    def start(self, run):
        return self.inner.start(run)

    def __call__(self, run, x_t, i, state):
        step, state = self.inner(run, x_t, i, state)
        if i == 1:
            mean = step.mean.clone()
            mean[0] = torch.nan
            step = Step(step.est, mean, step.std, step.free)
        return step, state


@pytest.mark.parametrize("name", ALL)
def test_a_row_that_diverges_is_frozen_and_changes_no_other(name):
    run, controller = both(name)
    healthy, sick = sample(run, controller), sample(run, OneDies(controller))
    assert sick.alive.tolist() == [False] + [True] * (len(healthy.x) - 1)
    assert torch.equal(sick.x0_hat[1:], healthy.x0_hat[1:])
    assert sick.x.isfinite().all() and sick.x0_hat.isfinite().all()
    assert sick.control_energy[0].isnan()
    torch.testing.assert_close(sick.control_energy[1:], healthy.control_energy[1:], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", ALL)
def test_no_graph_leaves_a_controller(name):
    run, controller = both(name)
    steps = []
    sample(run, controller, on_step=lambda i, x_t, step: steps.append(step))
    assert len(steps) == run.process.n_steps
    assert not any(
        t.requires_grad for s in steps for t in (s.mean, s.free, s.est.x0_hat, s.est.eps_hat) if t is not None
    )


@pytest.mark.parametrize(
    ("name", "nfe", "vjp"),
    [
        ("none", 4, 0),
        ("dps", 4, 4),
        ("rb_modulation", 4, 0),
        ("proximal_ddnm", 4, 0),
        ("ddrm", 4, 0),
        ("ddnm_plus", 4, 0),
        ("guidance", 4, 4),
        ("rb_modulation_exact", 16, 12),  # (M + 1) and M per step
        ("rb_modulation_exact_released", 16, 12),
        ("shooting", 19, 15),  # one, and inner_steps times 2, 2, 1 and 0 of the plans
        ("shooting_to_the_end", 16, 12),  # one, and inner_steps times 3, 2, 1 and 0
        ("red_diff", 4, 0),
        ("daps", 8, 0),  # n_ode per step
        ("window", 4, 2),
    ],
)
def test_evaluations_are_what_the_method_needs(name, nfe, vjp):
    run, controller = both(name)
    sample(run, controller)
    assert (run.process.evaluations.nfe, run.process.evaluations.vjp) == (nfe, vjp)


@pytest.mark.parametrize("name", PIXEL)
def test_control_draws_the_image_towards_the_measurement(name):
    run, controller = image_run(Half(), prior=unit_prior(), n_steps=20), PIXEL[name]
    free, controlled = (run.obs.residual(sample(run, c).x0_hat).norm() for c in (NoControl(), controller))
    assert controlled == free if name == "none" else controlled < 0.98 * free


def test_matrix_is_the_operator_of_the_plane():
    assert Matrix([[1.0, 0.0]]).image_shape((1,)) == (2,)
