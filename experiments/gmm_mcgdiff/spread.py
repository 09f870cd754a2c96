"""How much the mean over 20 problems says: the benchmark's DPS in numpy, on many sets of 20 problems of the same law.

    python experiments/gmm_mcgdiff/spread.py [--sets 100]      # two minutes on one core

Nothing of rbctrl is used but for the last two lines, on the 60 problems of the table at d = 8 and 20 times: the
distances that this program finds there, and how far the step written out here is from that of `controller=dps`. The
sets have smaller samples than the table (500, 100 directions).
"""

from __future__ import annotations

import argparse

import numpy as np

D, N_TIMES, ETA, ZETA = 8, 20, 0.6, 0.1
MEANS = np.array([[8.0 * (i, j)[k % 2] for k in range(D)] for i in range(-2, 3) for j in range(-2, 3)])
ALPHA_BAR = np.concatenate([[1.0], np.cumprod(1 - np.linspace(0.02, 1e-4, 999))])
MEASURED = {1: (3.90, 4.87), 2: (3.97, 5.33), 4: (5.13, 2.48)}  # an independent measurement, and `dps_published`


def new_problem(
    rng: np.random.Generator, weights: np.ndarray, d_y: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """A, y, singular values and sigma_y."""
    u, _, vt = np.linalg.svd(rng.standard_normal((d_y, D)), full_matrices=False)
    s = np.sort(rng.uniform(size=d_y))[::-1]
    sigma_y, matrix = rng.uniform() * s[0], u * s @ vt
    x_0 = MEANS[rng.choice(25, p=weights)] + rng.standard_normal(D)
    return matrix, matrix @ x_0 + sigma_y * rng.standard_normal(d_y), s, sigma_y


def times(s: np.ndarray, sigma_y: float) -> np.ndarray:
    """Equal steps in sqrt(alpha_bar), the matched times among them; equal steps in t where it is below 0.01."""
    alpha = np.sqrt(ALPHA_BAR)
    end = int(np.argmax(alpha < 0.01))
    log_snr = np.log(ALPHA_BAR[1:] / (1 - ALPHA_BAR[1:]))
    matched = {int(np.abs(log_snr - 2 * np.log(value / sigma_y)).argmin()) + 1 for value in s}
    matched = {k for k in matched if k < end}
    fall, chosen = (1 - alpha[end]) / (N_TIMES - 1 - len(matched)), [0]
    for k in range(1, end):
        if k in matched or alpha[chosen[-1]] - alpha[k] >= fall:
            chosen.append(k)
    rest = np.ceil(np.linspace(chosen[-1], 999, N_TIMES + 1 - len(chosen)))[1:]
    return np.concatenate([chosen, rest]).astype(int)[::-1]


def step(x: np.ndarray, weights: np.ndarray, matrix: np.ndarray, y: np.ndarray, ab_t: float, ab_s: float) -> np.ndarray:
    """x_s without its noise: DDPM's mean minus (zeta / |r|) grad |r|^2, r = y - A x0_hat(x_t)."""
    logits = np.log(weights) + np.sqrt(ab_t) * x @ MEANS.T - ab_t / 2 * (MEANS**2).sum(1)
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    mean = p @ MEANS
    x0_hat = (x + (1 - ab_t) * (np.sqrt(ab_t) * mean - x)) / np.sqrt(ab_t)
    r = y - x0_hat @ matrix.T
    pulled = r @ matrix  # A^T r; the Jacobian of x0_hat is sqrt(ab) (I + (1 - ab) Cov[m | x_t])
    spread = (p * (pulled @ MEANS.T)) @ MEANS - mean * (mean * pulled).sum(1, keepdims=True)
    gradient = -2 * np.sqrt(ab_t) * (pulled + (1 - ab_t) * spread)
    c_x, c_0 = np.sqrt(ab_t / ab_s) * (1 - ab_s) / (1 - ab_t), np.sqrt(ab_s) * (1 - ab_t / ab_s) / (1 - ab_t)
    return c_x * x + c_0 * x0_hat - ZETA / np.linalg.norm(r, axis=1, keepdims=True) * gradient


def distance(
    rng: np.random.Generator,
    weights: np.ndarray,
    problem: tuple[np.ndarray, np.ndarray, np.ndarray, float],
    n: int = 500,
    slices: int = 100,
) -> float:
    """Sliced W1 between DPS and exact posterior draws."""
    matrix, y, s, sigma_y = problem
    x, levels = rng.standard_normal((n, D)), ALPHA_BAR[times(s, sigma_y)]
    for ab_t, ab_s in zip(levels, levels[1:]):
        noise = ETA * np.sqrt((1 - ab_s) / (1 - ab_t) * (1 - ab_t / ab_s))
        x = step(x, weights, matrix, y, ab_t, ab_s) + noise * rng.standard_normal(x.shape)
    theta = rng.standard_normal((slices, D))
    theta /= np.linalg.norm(theta, axis=1, keepdims=True)
    exact = posterior(rng, weights, matrix, y, sigma_y, n)
    return float(np.abs(np.sort(theta @ x.T, 1) - np.sort(theta @ exact.T, 1)).mean())


def posterior(
    rng: np.random.Generator, weights: np.ndarray, matrix: np.ndarray, y: np.ndarray, sigma_y: float, n: int
) -> np.ndarray:
    covariance = np.linalg.inv(np.eye(D) + matrix.T @ matrix / sigma_y**2)
    gaps = y - MEANS @ matrix.T
    evidence = np.linalg.inv(matrix @ matrix.T + sigma_y**2 * np.eye(len(y)))
    logits = np.log(weights) - np.einsum("ki,ij,kj->k", gaps, evidence, gaps) / 2
    p = np.exp(logits - logits.max())
    means = (MEANS + matrix.T @ y / sigma_y**2) @ covariance
    return means[rng.choice(25, n, p=p / p.sum())] + rng.standard_normal((n, D)) @ np.linalg.cholesky(covariance).T


def of_the_table(d_y: int) -> list[float]:
    """This program on rbctrl's problems, with the sample sizes of the table."""
    from rbctrl.data import mcgdiff

    rng, weights = np.random.default_rng(1), mcgdiff.prior(mcgdiff.schedule(), D).weights.numpy()
    problems = [mcgdiff.problem(D, d_y, index) for index in range(20)]
    parts = [(p.matrix.numpy(), p.y.numpy(), p.singular_values.numpy(), p.sigma_y) for p in problems]
    return [distance(rng, weights, part, 2000, 1000) for part in parts]


def largest_difference() -> float:
    """Between this step and rbctrl's, relative, over all steps of the 60 problems at d = 8."""
    import torch

    from rbctrl.controllers import DPS, Run
    from rbctrl.costs import ResidualNorm
    from rbctrl.data import mcgdiff
    from rbctrl.observation import Objective, given
    from rbctrl.process import scaled_ddpm
    from rbctrl.rng import ImageRNG

    prior, largest = mcgdiff.prior(mcgdiff.schedule(), D), 0.0
    for d_y in MEASURED:
        for index in range(20):
            p = mcgdiff.problem(D, d_y, index)
            process = scaled_ddpm(prior, (D,), N_TIMES - 1, mcgdiff.grid(D, d_y, index), ETA)
            rng = ImageRNG(0, tuple((p.name, k) for k in range(16)), torch.float64)
            obs = given(mcgdiff.operator(D, d_y, index), mcgdiff.noise(D, d_y, index), p.y.expand(16, -1))
            run = Run(process, Objective(ResidualNorm(), obs), rng)
            for i in range(process.n_steps):
                x_t = process.alpha[i] * prior.sample(rng, f"x0/{i}") + process.sigma[i] * rng.normal(f"{i}", (D,))
                ours = DPS(ZETA, rule="paper")(run, x_t, i, {})[0].mean.numpy()
                levels = process.alpha[i] ** 2, process.alpha[i + 1] ** 2
                here = step(x_t.numpy(), prior.weights.numpy(), p.matrix.numpy(), p.y.numpy(), *levels)
                largest = max(largest, float(np.abs(ours - here).max() / np.abs(here).max()))
    return largest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=100, help="of 20 problems, each with weights of its own")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    print("| d_y | mean | sd of a set | 95 % of sets | elsewhere: z, share below | ours: z, share below |")
    print("|---|---:|---:|---:|---:|---:|")
    for d_y, places in MEASURED.items():
        means = []
        for _ in range(given.sets):
            weights = rng.standard_normal(25) ** 2
            weights /= weights.sum()
            means.append(np.mean([distance(rng, weights, new_problem(rng, weights, d_y)) for _ in range(20)]))
        mean, sd = np.mean(means), np.std(means, ddof=1)
        words = [f"{v:.2f}: {(v - mean) / sd:+.1f}, {np.mean(np.array(means) < v):.0%}" for v in places]
        low, high = np.quantile(means, [0.025, 0.975])
        cells = [f"{d_y}", f"{mean:.2f} ± {1.96 * sd / given.sets**0.5:.2f}", f"{sd:.2f}", f"{low:.1f} to {high:.1f}"]
        print(f"| {' | '.join([*cells, *words])} |", flush=True)
    found = [f"{np.mean(of_the_table(d_y)):.2f}" for d_y in MEASURED]
    print(f"the table's own problems: {', '.join(found)}")
    print(f"largest relative difference of a step to rbctrl's: {largest_difference():.1g}")


if __name__ == "__main__":
    main()
