"""Gaussian denoising of the four held-out photographs at 256 px: the shipped prior, one evaluation, against
scikit-image.

    python experiments/denoising/run.py [--seeds 4] [--out experiments/denoising/expected.csv]

The classical methods are tuned at each noise level on five training photographs; the prior has nothing to tune.
sigma is on [0, 255]. PSNR is of images clamped to [-1, 1], mean over photographs and noise seeds, with the standard
error over them.
"""

from __future__ import annotations

import argparse
import csv
import math
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle
from torch import Tensor
from tqdm import tqdm

from rbctrl.data import Item, Photos
from rbctrl.grids import LogSNR
from rbctrl.priors import photo
from rbctrl.rng import ImageRNG

SIGMAS = (5, 15, 25, 50, 100)
TRAINING = ["china", "grace_hopper", "rocket", "motorcycle_left", "camera"]
TV_WEIGHTS = (0.4, 0.6, 0.8, 1.0, 1.2, 1.5)  # times sigma on [-1, 1]
NLM = [(h, patch) for h in (0.5, 0.6, 0.7, 0.8, 1.0) for patch in (3, 5, 7)]  # h in units of sigma


def psnr(image: Tensor, truth: Tensor) -> float:
    return float(10 * torch.log10(4 / (image.clamp(-1, 1) - truth).square().mean()))


def classical(method: Callable[..., np.ndarray], y: Tensor, **settings: float) -> Tensor:
    cleaned = method(y.permute(1, 2, 0).double().numpy(), channel_axis=2, **settings)
    return torch.from_numpy(cleaned).permute(2, 0, 1).float()


def tv(y: Tensor, sigma: float, setting: float) -> Tensor:
    return classical(denoise_tv_chambolle, y, weight=setting * sigma)


def nlm(y: Tensor, sigma: float, setting: tuple[float, int]) -> Tensor:
    h, patch = setting
    return classical(denoise_nl_means, y, h=h * sigma, sigma=sigma, patch_size=patch, patch_distance=8, fast_mode=True)


class Network:
    """One evaluation of the prior at x_t = alpha y."""

    def __init__(self) -> None:
        self.prior = photo()
        self.prior.load()

    @torch.no_grad()
    def __call__(self, y: Tensor, sigma: float, setting: None) -> Tensor:
        t = LogSNR(-2 * math.log(sigma), 12).times(self.prior.schedule, 1)[0]
        alpha = float(self.prior.schedule.levels(t)[0])
        return self.prior.predict(alpha * y[None], t).x0_hat[0]


def noisy(item: Item, sigma: float, seed: int) -> Tensor:
    return item.image + sigma * ImageRNG(seed, ((item.name, 0),)).normal("measurement", tuple(item.image.shape))[0]


def tuned(method: Callable, settings: list, sigma: float, items: list[Item]) -> object:
    def score(setting: object) -> float:
        return statistics.fmean(psnr(method(noisy(i, sigma, 0), sigma, setting), i.image) for i in items)

    return max(settings, key=score)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--out", type=Path, default=Path("experiments/denoising/expected.csv"))
    given = parser.parse_args()
    training, held_out = list(Photos(TRAINING, given.size).items()), list(Photos("held_out", given.size).items())
    methods = {"tv": (tv, list(TV_WEIGHTS)), "nlm": (nlm, NLM), "photo": (Network(), [None])}
    rows = []
    bar = tqdm(total=len(SIGMAS) * len(methods), disable=None)
    for level in SIGMAS:
        sigma = level / 127.5
        for name, (method, settings) in methods.items():
            setting = settings[0] if len(settings) == 1 else tuned(method, settings, sigma, training)
            values = [
                psnr(method(noisy(item, sigma, seed), sigma, setting), item.image)
                for item in held_out
                for seed in range(given.seeds)
            ]
            error = statistics.stdev(values) / len(values) ** 0.5
            rows.append(
                {"sigma_255": level, "method": name, "setting": setting, "psnr": statistics.fmean(values), "se": error}
            )
            bar.update()
    bar.close()
    with open(given.out, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    print("| sigma of 255 | " + " | ".join(methods) + " |\n| ---: |" + " ---: |" * len(methods))
    for level in SIGMAS:
        cells = [f"{r['psnr']:.2f} ± {r['se']:.2f}" for r in rows if r["sigma_255"] == level]
        print(f"| {level} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
