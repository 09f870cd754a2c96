"""The same table without sampling error, for controllers whose steps are affine in x_t.

    python experiments/gaussian_truth/exact.py

Under one Gaussian prior such a chain is Gaussian: x_s = M x_t + b + S z. One batch of D + 2 rows, the origin, the D
unit vectors and a random state that checks that the step is affine, gives M and b, and mean and covariance follow by
recursion. What is left is what the discretisation, the start and the method itself do.
"""

from __future__ import annotations

import shlex

import torch
from run import splice
from torch import Tensor

from rbctrl.cli import load_experiment
from rbctrl.controllers import Controller, Run
from rbctrl.data.base import Batch
from rbctrl.observation import Objective, observe
from rbctrl.process import Step
from rbctrl.rng import ImageRNG

CONVERGED = "controller.max_steps=64 controller.tol=1e-12"
CASES = [
    "controller=none",
    *(f"controller=doob sampler.n_steps={n}" for n in (50, 200, 800)),
    *(f"controller=doob controller.exact_variance=true sampler.n_steps={n}" for n in (50, 200, 800)),
    *(f"controller=moment_matching {CONVERGED} sampler.n_steps={n}" for n in (50, 200, 800)),
    "controller=doob sampler.grid.start=-6",
    "controller=doob sampler.grid.end=9",
    "controller=doob controller.exact_variance=true sampler.grid.start=-3 sampler.grid.end=10",
    "controller=guidance",
    "controller=guidance sampler.n_steps=800",
    "controller=proximal",
    "controller=rb_modulation_prox",
]


def run_of(words: str) -> tuple[Run, Controller]:
    experiment = load_experiment("experiment=gaussian_truth", "device=cpu", *shlex.split(words))
    item = next(iter(experiment.data.items()))
    dim = item.image.numel()
    batch = Batch(tuple((item.name, k) for k in range(dim + 2)), item.image.expand(dim + 2, -1, -1, -1), None)
    rng = ImageRNG(experiment.seed, batch.rows, torch.float64)
    image = batch.image.double()
    obs = observe(experiment.operator.double().draw(rng, tuple(item.image.shape)), experiment.noise, image, rng)
    process = experiment.sampler(experiment.prior, shape=tuple(item.image.shape))
    return Run(process, Objective(experiment.cost, obs), rng), experiment.controller


def affine(rows: Tensor, probe: Tensor) -> tuple[Tensor, Tensor]:
    """M [D, D] and b [D] of rows f(0), f(e_1), ..., f(e_D), f(probe)."""
    rows = rows.flatten(1)
    matrix, shift = (rows[1:-1] - rows[0]).T, rows[0]
    error = (matrix @ probe + shift - rows[-1]).abs().max() / (1 + rows[-1].abs().max())
    if error > 1e-6:
        raise ValueError(f"this controller is not affine in x_t: off by {float(error):.1e}")
    return matrix, shift


def noise_covariance(step: Step, dim: int) -> Tensor:
    eye = torch.eye(dim, dtype=torch.float64)
    if isinstance(step.std, float | int):
        return step.std**2 * eye
    unit = torch.cat([eye, eye[:2]]).view_as(step.mean)
    scaled = (step.std * unit).flatten(1)[:dim]  # row k: S e_k
    return scaled.T @ scaled


@torch.no_grad()
def law(words: str) -> tuple[Tensor, Tensor, Run]:
    """Mean [D] and covariance [D, D] of the image, and the run."""
    run, controller = run_of(words)
    process, prior = run.process, run.process.prior
    dim = prior.means.shape[1]
    eye = torch.eye(dim, dtype=torch.float64)
    mean, cov = process.alpha[0] * prior.means[0], process.alpha[0] ** 2 * prior.covariances[0]
    cov = cov + process.sigma[0] ** 2 * eye
    probe = run.rng.normal("probe", (dim,))[0]
    states = torch.cat([torch.zeros(1, dim, dtype=torch.float64), eye, probe[None]]).view(-1, *prior.shape)
    for i in range(process.n_steps):
        step, _ = controller(run, states, i, {})
        image, image_shift = affine(step.est.x0_hat, probe)
        image_law = image @ mean + image_shift, image @ cov @ image.T
        matrix, shift = affine(step.mean, probe)
        mean, cov = matrix @ mean + shift, matrix @ cov @ matrix.T + noise_covariance(step, dim)
    return *image_law, run


def main() -> None:
    lines = [
        "| words | bias | variance, observed | variance, unobserved | covariance error |",
        "|---|---:|---:|---:|---:|",
    ]
    for words in CASES:
        mean, cov, run = law(words)
        _, means, covariances = run.process.prior.posterior(run.obs)
        exact_mean, exact = means[0, 0], covariances[0, 0]
        seen = run.obs.operator.observed[0].flatten() > 0
        bias = ((mean - exact_mean).square() / exact.diagonal()).mean().sqrt()
        ratios = [cov.diagonal()[part].mean() / exact.diagonal()[part].mean() for part in (seen, ~seen)]
        error = (cov - exact).norm() / exact.norm()
        lines.append(f"| `{words}` | {bias:.3f} | {ratios[0]:.3f} | {ratios[1]:.3f} | {error:.3f} |")
        print(lines[-1], flush=True)
    splice("\n".join(lines), "exact", "end exact")


if __name__ == "__main__":
    main()
