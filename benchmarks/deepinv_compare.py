"""DPS, DiffPIR and DDRM of rbctrl beside those of deepinv: the same network weights, mask, measurements and steps.

    OMP_NUM_THREADS=1 python benchmarks/deepinv_compare.py --clock cpu          (benchmarks/README.md: the environment)

In one process, for each size and batch, rounds of the two libraries alternate; printed is the median of the ratio
rbctrl / deepinv of a step with its quartiles. deepinv is given its fastest settings: states in fp32 (its default is
fp64) and, for DPS, the network's own range [-1, 1]. Peak memory is that of all tensors that are alive, counted.
`--quality` compares the restorations of the held-out photographs, at settings that the training photographs chose.

The two differ where the papers leave room: in deepinv DPS's gradient goes through the score, and DDRM's noise is
divided by sqrt(2); DiffPIR starts from A^T y. So the quality is that of the implementations, not only of their speed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from live_bytes import LiveBytes
from timing import CLOCKS, save, seconds, spread
from torch import Tensor

from rbctrl.controllers import DDRM, DPS, Proximal
from rbctrl.controllers.base import Controller, Run
from rbctrl.costs import ResidualNorm
from rbctrl.data import Photos
from rbctrl.grids import PolyRho, SquareRoot, Uniform
from rbctrl.memory import keep_freed_memory
from rbctrl.noise import GaussianNoise
from rbctrl.observation import Objective, Observation, observe
from rbctrl.operators import RandomMask
from rbctrl.priors import photo
from rbctrl.priors.network import NetworkPrior
from rbctrl.process import ReverseProcess, ddim, renoise
from rbctrl.rng import ImageRNG
from rbctrl.sampling import sample
from rbctrl.schedules import VE

SIGMA_Y = 0.05  # on [-1, 1]
ETA_DDRM, SIGMAS = 0.85, (10.0, 0.02)  # noise levels of DDRM on [-1, 1]
ZETA_DIFFPIR = 0.3
T_START = 0.9  # sigma / alpha is 59 there; the network was trained up to 80. deepinv's DiffPIR starts at 1
GRIDS = {  # what --quality chooses from, for each library
    "dps": ((3.0, 10.0, 30.0), (300.0, 1000.0, 3000.0)),
    "diffpir": ((0.3, 1.0, 3.0, 10.0), (1.0, 3.0, 10.0, 30.0)),
    "ddrm": ((1.0,), (1.0,)),
}


def import_deepinv():  # noqa: ANN201
    """deepinv, or None with a sentence. A torchvision built for another torch lacks its C++ operators, unused here."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    try:
        import torchvision  # noqa: F401
    except ImportError:
        pass  # deepinv says so itself
    except RuntimeError:
        sys.modules.pop("torchvision", None)
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import_deepinv.library = library  # type: ignore[attr-defined]  # it lives as long as its definitions
    try:
        import deepinv
    except ImportError as error:
        print(f"skipped: deepinv is not installed here ({error}); benchmarks/README.md says how to install it")
        return None
    return deepinv


@dataclass(frozen=True)
class Problem:
    """The same measurements for both: y on [-1, 1] with 0 where nothing was observed."""

    prior: NetworkPrior
    rng: ImageRNG
    obs: Observation
    shape: tuple[int, ...]

    def ours(self, method: str, n_steps: int, weight: float) -> Callable[[], Tensor]:
        controller, process = _ours(method, self.prior, self.shape, n_steps, weight)
        run = Run(process, Objective(ResidualNorm(), self.obs), self.rng)
        return lambda: sample(run, controller).x0_hat

    def theirs(self, dinv, method: str, n_steps: int, weight: float) -> Callable[[], Tensor]:  # noqa: ANN001
        mask = self.obs.operator.observed.expand(-1, *self.shape).contiguous()
        physics = dinv.physics.Inpainting(self.shape, mask=mask, noise_model=dinv.physics.GaussianNoise(SIGMA_Y / 2))
        assert torch.equal(physics.A(self.obs.y), self.obs.operator(self.obs.y))
        unit = mask * (self.obs.y + 1) / 2
        network = _denoiser(dinv, self.prior.network)
        if method == "dps":
            times = torch.linspace(T_START, 0, n_steps + 1)
            kind = {"dtype": torch.float32, "minus_one_one": False, "solver": dinv.sampling.DDPMSolver(times)}
            model = dinv.sampling.DPS(network(False), weight=weight, **kind)
            return lambda: model(self.obs.y, physics)
        if method == "diffpir":
            kind = {"sigma": SIGMA_Y / 2, "max_iter": n_steps, "zeta": ZETA_DIFFPIR, "lambda_": weight}
            model = dinv.sampling.DiffPIR(network(True), dinv.optim.data_fidelity.L2(), **kind)
        else:
            sigmas = np.geomspace(*SIGMAS, n_steps) / 2
            model = dinv.sampling.DDRM(network(True), sigmas=sigmas, eta=ETA_DDRM, etab=weight)
        return lambda: 2 * model(unit, physics) - 1


def _ours(
    method: str, prior: NetworkPrior, shape: tuple[int, ...], n_steps: int, weight: float
) -> tuple[Controller, ReverseProcess]:
    if method == "dps":
        return DPS(weight), ddim(prior, shape, n_steps, Uniform(T_START))
    if method == "diffpir":
        return Proximal(weight), renoise(prior, shape, n_steps, SquareRoot(T_START), ZETA_DIFFPIR**0.5)
    levels = photo(schedule=VE(SIGMAS[0]))
    levels.network = prior.network
    return DDRM(weight), renoise(levels, shape, n_steps, PolyRho(*SIGMAS), ETA_DDRM)


def _denoiser(dinv, network: torch.nn.Module):  # noqa: ANN001, ANN202
    class Photo(dinv.models.Denoiser):
        """The shipped network under deepinv's convention: images in [0, 1] and sigma in their unit."""

        def __init__(self, unit_range: bool) -> None:
            super().__init__()
            self.network, self.unit_range = network, unit_range

        def forward(self, x: Tensor, sigma: Tensor | float, **kwargs: object) -> Tensor:
            sigma = torch.as_tensor(sigma, dtype=x.dtype).expand(len(x))
            if not self.unit_range:
                return self.network(x, sigma)
            return self.network(2 * x - 1, 2 * sigma).add_(1).div_(2)

    return Photo


def problem(images: Tensor, names: tuple[str, ...]) -> Problem:
    prior = photo()
    prior.load()
    rng = ImageRNG(0, tuple((name, 0) for name in names))
    shape = tuple(images.shape[1:])
    obs = observe(RandomMask(0.7).draw(rng, shape), GaussianNoise(SIGMA_Y), images, rng)
    return Problem(prior, rng, obs, shape)


def timings(dinv, given: argparse.Namespace) -> Iterator[dict[str, object]]:  # noqa: ANN001
    for size in given.sizes:
        for batch in given.batches:
            names = tuple(f"image {k}" for k in range(batch))
            images = ImageRNG(0, tuple((name, 0) for name in names)).uniform("x", (3, size, size)) * 2 - 1
            world = problem(images, names)
            for method in given.methods:
                if method == "ddrm" and batch > 1:
                    print(f"skipped: deepinv's DDRM takes one mask at a time, not a batch of {batch}")
                    continue
                ours = world.ours(method, given.n_steps, 1.0)
                theirs = world.theirs(dinv, method, given.n_steps, 1.0)
                memory = [peak_memory(call) for call in (ours, theirs)] if given.memory else [float("nan")] * 2
                rounds = [(seconds(ours, given.clock), seconds(theirs, given.clock)) for _ in range(given.repeats + 1)]
                low, middle, high = spread([mine / other for mine, other in rounds[1:]])
                yield {
                    "size": size,
                    "batch": batch,
                    "method": method,
                    "clock": given.clock,
                    "rbctrl_ms": round(1000 / given.n_steps * spread([mine for mine, _ in rounds[1:]])[1], 2),
                    "deepinv_ms": round(1000 / given.n_steps * spread([other for _, other in rounds[1:]])[1], 2),
                    "ratio": round(middle, 3),
                    "quartile_1": round(low, 3),
                    "quartile_3": round(high, 3),
                    "rbctrl_mib": round(memory[0], 1),
                    "deepinv_mib": round(memory[1], 1),
                }


def peak_memory(call: Callable[[], object]) -> float:
    """MiB of all tensors of a call at their peak, the weights apart; noise counts from when it was drawn."""
    draw = ImageRNG.normal

    def counted(*args, **kwargs):  # noqa: ANN002, ANN003, ANN202
        noise = draw(*args, **kwargs)
        live.add(noise)
        return noise

    with LiveBytes(device="cpu") as live, patch.object(ImageRNG, "normal", counted):
        call()
    return live.peak / 2**20


def quality(dinv, given: argparse.Namespace) -> Iterator[dict[str, object]]:  # noqa: ANN001
    """PSNR on the held-out photographs; each library's weight is the best of its grid on training photographs."""
    worlds: dict[str, list[tuple[Tensor, Problem]]] = {}
    for split in ("training", "held_out"):
        names = ["china", "rocket", "grace_hopper"] if split == "training" else split
        items = Photos(names, given.quality_size).items()
        worlds[split] = [(item.image[None], problem(item.image[None], (item.name,))) for item in items]

    def score(library: str, split: str, method: str, weight: float) -> float:
        values = []
        for image, world in worlds[split]:
            torch.manual_seed(0)  # noqa: TID251 - deepinv draws from the global generator
            run = world.ours if library == "rbctrl" else partial(world.theirs, dinv)
            values.append(psnr(run(method, given.quality_steps, weight)(), image))
        return statistics.mean(values)

    for method in given.methods:
        row: dict[str, object] = {"method": method, "size": given.quality_size, "steps": given.quality_steps}
        for library, grid in zip(("rbctrl", "deepinv"), GRIDS[method]):
            tried = {weight: score(library, "training", method, weight) for weight in grid}
            best = max(tried, key=tried.__getitem__)
            row |= {f"{library}_weight": best, f"{library}_psnr": round(score(library, "held_out", method, best), 2)}
        yield row


def psnr(image: Tensor, truth: Tensor) -> float:
    error = (image.clamp(-1, 1).float() - truth).square().flatten(1).mean(1)
    return float((10 * torch.log10(4 / error)).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    integers = partial(str.split, sep=",")
    parser.add_argument("--sizes", type=lambda text: list(map(int, integers(text))), default=[64, 128, 256])
    parser.add_argument("--batches", type=lambda text: list(map(int, integers(text))), default=[1, 8])
    parser.add_argument("--methods", nargs="+", choices=GRIDS, default=list(GRIDS))
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--n-steps", type=int, default=10)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--memory", action="store_true", help="peak memory, by counting")
    parser.add_argument("--quality", action="store_true", help="PSNR instead of time")
    parser.add_argument("--quality-size", type=int, default=128)
    parser.add_argument("--quality-steps", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    given = parser.parse_args()
    dinv = import_deepinv()
    if dinv is None:
        return
    keep_freed_memory()  # as the command does; for both
    print(f"torch {torch.__version__}, deepinv {dinv.__version__}, {torch.get_num_threads()} threads")
    rows = []
    for row in quality(dinv, given) if given.quality else timings(dinv, given):
        print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
        rows.append(row)
    save(rows, given.out / ("deepinv_quality.csv" if given.quality else "deepinv_compare.csv"))


if __name__ == "__main__":
    main()
