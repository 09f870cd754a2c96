import torch
from worlds import exact_process, plane, plane_run, setup, tiny_prior

from rbctrl.controllers import ExactPosterior, NoControl
from rbctrl.operators.matrix import Matrix
from rbctrl.sampling import sample


def test_its_samples_have_the_moments_of_the_posterior():
    prior = plane()
    run = plane_run(prior, exact_process(prior, 3), 4000)
    mean, variance = prior.moments_given(run.obs.take(torch.tensor([0])))

    def z(controller):
        x_0 = sample(run, controller).x0_hat
        return ((x_0.mean(0) - mean[0]).abs() / (variance[0] / len(x_0)).sqrt()).max()

    assert z(ExactPosterior()) < 4.5
    assert z(NoControl()) > 8


def test_state_and_image_agree_and_no_network_is_asked():
    prior = plane()
    run = plane_run(prior, exact_process(prior, 3), 4)
    result = sample(run, ExactPosterior())
    assert torch.allclose(result.x / run.process.alpha[-1], result.x0_hat)
    assert run.process.evaluations.nfe == 0 and result.control_energy.isnan().all()


def test_a_prior_without_a_known_posterior_is_refused():
    assert "closed form" in ExactPosterior().check(setup(tiny_prior(), Matrix([[1.0, 0.0]])))
    assert ExactPosterior().check(setup(plane(), Matrix([[1.0, 0.0]]))) is None
