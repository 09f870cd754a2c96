"""The mixture benchmark of MCGDiff: 25 Gaussians in d dimensions, of which a few noisy numbers are measured.

Cardoso, Janati El Idrissi, Moulines and Le Corff, Monte Carlo guided Diffusion for Bayesian linear inverse problems,
ICLR 2024, https://arxiv.org/abs/2308.07983. A problem is

    x_0 ~ sum_k w_k N(m_k, I),   m_(i,j) = 8 (i, j, i, j, ...), i, j = -2..2,   w_k = u_k^2 / sum u^2, u ~ N(0, 1),
    y = A x_0 + sigma_y n,       A = U diag(s) V^T, U and V those of a Gaussian matrix, s sorted uniform numbers,
                                 sigma_y = max(s) times a uniform number,

20 for each d in {8, 80, 800} and d_y in {1, 2, 4}, under a DDPM whose 999 betas *fall* from 0.02 to 1e-4.

Note:
    The released script draws the weights before it seeds its generator, once per d and number of steps, so its problems
    cannot be drawn again. Here the weights follow from (seed, d) and all else from (seed, d, d_y, index): numbers can
    be compared with published ones only as means over problems.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from rbctrl.data.base import Data, Item
from rbctrl.grids import EqualAlpha
from rbctrl.noise import GaussianNoise
from rbctrl.operators.matrix import Matrix
from rbctrl.priors.isotropic import IsotropicMixture
from rbctrl.rng import ImageRNG
from rbctrl.schedules import DiscreteVP, NoiseSchedule


@dataclass(frozen=True, eq=False)
class Problem:
    """One problem; tensors are fp64.

    Attributes:
        name: names its random streams.
        matrix: A, [d_y, d].
        singular_values: s, [d_y], descending.
        sigma_y: standard deviation of each entry of y.
        x_0: the truth, [d].
        y: [d_y].
    """

    name: str
    matrix: Tensor
    singular_values: Tensor
    sigma_y: float
    x_0: Tensor
    y: Tensor

    @property
    def matched(self) -> tuple[float, ...]:
        """log(s_i^2 / sigma_y^2): at this log-SNR x_t is as noisy along v_i as the measurement, tau_i of the paper."""
        return tuple((2 * (self.singular_values / self.sigma_y).log()).tolist())


@lru_cache(maxsize=64)
def problem(d: int = 8, d_y: int = 1, index: int = 0, seed: int = 0) -> Problem:
    """Problem number `index` of dimension d, d_y numbers of it measured.

    Args:
        d: even; 8, 80 or 800 in the paper.
        d_y: 1 to d; 1, 2 or 4 in the paper.
        index: 0 to 19 are the benchmark, others are free for tuning.
        seed: of the benchmark.

    Raises:
        ValueError: a number out of range.
    """
    if not 1 <= d_y <= d or index < 0:
        raise ValueError(f"a problem needs 1 <= d_y <= d and index >= 0, got d={d}, d_y={d_y}, index={index}")
    name = f"mcgdiff/d{d}/dy{d_y}/{index:02d}"
    rng = ImageRNG(seed, ((name, 0),), torch.float64)
    u, _, vh = torch.linalg.svd(rng.normal("problem/matrix", (d_y, d))[0], full_matrices=False)
    s = rng.uniform("problem/singular values", (d_y,))[0].sort(descending=True).values
    matrix, sigma_y = u * s @ vh, float(s[0] * rng.uniform("problem/sigma_y")[0])
    x_0 = prior(schedule(), d, seed).sample(rng, "problem/x0")[0]
    y = matrix @ x_0 + sigma_y * rng.normal("problem/measurement", (d_y,))[0]
    return Problem(name, matrix, s, sigma_y, x_0, y)


def schedule() -> DiscreteVP:
    """999 betas from 0.02 down to 1e-4: alpha_bar is 1 at t = 0, 0.98 after one step and 4e-5 at t = 1."""
    return DiscreteVP.linear(999, 0.02, 1e-4)


def prior(schedule: NoiseSchedule, d: int = 8, seed: int = 0) -> IsotropicMixture:
    """The mixture, which all problems of one d share.

    Raises:
        ValueError: d is not even.
    """
    if d < 2 or d % 2:
        raise ValueError(f"the means of this mixture are pairs (i, j) repeated: d is even, got {d}")
    places = torch.arange(-2, 3, dtype=torch.float64)
    weights = ImageRNG(seed, ((f"mcgdiff/d{d}", 0),), torch.float64).normal("problem/weights", (25,))[0].square()
    return IsotropicMixture(schedule, weights, 8 * torch.cartesian_prod(places, places).repeat(1, d // 2))


def operator(d: int = 8, d_y: int = 1, index: int = 0, seed: int = 0) -> Matrix:
    """A of a problem."""
    return Matrix(problem(d, d_y, index, seed).matrix)


def noise(d: int = 8, d_y: int = 1, index: int = 0, seed: int = 0) -> GaussianNoise:
    """The noise of a problem."""
    return GaussianNoise(problem(d, d_y, index, seed).sigma_y)


def grid(d: int = 8, d_y: int = 1, index: int = 0, seed: int = 0) -> EqualAlpha:
    """The times of a problem, its matched times among them."""
    return EqualAlpha(999, problem(d, d_y, index, seed).matched)


class ProblemData(Data):
    """One problem as data: one item with its truth [d] and its measurement [d_y].

    Args:
        d: as in `problem`; so are the others.
        d_y: numbers measured.
        index: which problem.
        seed: of the benchmark.
    """

    def __init__(self, d: int = 8, d_y: int = 1, index: int = 0, seed: int = 0) -> None:
        super().__init__()
        self.problem = problem(d, d_y, index, seed)

    def __len__(self) -> int:
        return 1

    def items(self) -> Iterator[Item]:
        yield Item(self.problem.name, self.problem.x_0, self.problem.y)
