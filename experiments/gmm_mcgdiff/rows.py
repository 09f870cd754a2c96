"""The rows of the table, its columns, and how a place of it is written as words of the command line."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

STEPS = {20: "sampler.n_steps=19 sampler.eta=0.6", 100: "sampler.n_steps=99 sampler.eta=0.85"}  # the two published ones
DDIM = "sampler=ddim sampler/grid=mcgdiff"
DDPM = "sampler=ddpm sampler/grid=mcgdiff sampler.eta=1"
RENOISE = "sampler=renoise sampler/grid=mcgdiff sampler.eta=0.85"
FLOOR = "floor"  # exact draws in place of samples; there are no steps, so it stands with the 20 times alone
ROWS = {
    FLOOR: "controller=none",
    "doob": "controller=doob",
    "doob_ddim": f"controller=doob {DDIM}",
    "doob_marginal": f"controller=doob {DDIM} sampler.start=marginal",
    "none": "controller=none",
    "dps_published": "controller=dps controller.rule=paper controller.zeta=0.1",
    "dps": "controller=dps controller.rule=paper controller.zeta=0.05,0.1,0.2,0.5,1,2",
    "guidance": f"controller=guidance {DDIM}",
    "moment_matching": f"controller=moment_matching_dense {DDIM}",
    "ddrm": f"controller=ddrm {RENOISE}",
    "rb_modulation": f"controller=rb_modulation {DDIM} controller.lr=0.3,1,3,10",
    "rb_modulation_prox": f"controller=rb_modulation_prox {DDIM} controller.strength=1,3,10,30",
    "rb_modulation_exact": f"controller=rb_modulation_exact {DDIM} controller.lr=0.03,0.1,0.3,1",
    "red_diff": "controller=red_diff cost=gaussian_nll cost.sigma_y=1 controller.lr=1,3,10 controller.weight=0.25,1",
    "daps": "controller=daps controller.tau=null controller.langevin_steps=10 controller.lr=1e-4,1e-3,1e-2,1e-1",
    "mcgdiff": f"controller=mcgdiff controller.particles=1000 {DDIM}",
    "tds": f"controller=tds controller.particles=1000 {DDPM}",
    "mcgdiff_wide": f"controller=mcgdiff controller.particles=1000 controller.kappa=0.5 {DDIM}",
    "particles": f"controller=particles controller.particles=20 {DDIM} sampler.eta=0.6,0.85,1",
}
LARGEST = {"daps": 80}  # d; it draws noise for every Langevin step, at d = 800 for half as long as all other rows take
SIZES = {"d": (8, 80, 800), "d_y": (1, 2, 4)}
SAMPLES = {8: 2000, 80: 2000, 800: 1000}  # 2000 in the paper
SLICES = 1000
PROBLEMS = 20
TUNING = range(100, 104)  # problems of the same law that no table shows
TUNING_SAMPLES, TUNING_SLICES = 500, 200
KEYS = ("d", "d_y", "n_times", "controller")
COLUMNS = (*KEYS, "problem", "setting", "sliced_wasserstein", "mode_weight_tv", "alive", "nfe", "vjp", "seconds")


@dataclass(frozen=True)
class Task:
    """One problem, and what is left to run on it.

    Attributes:
        problem: its index; those of `TUNING` are for settings.
        rows: (name of `ROWS`, setting of its knobs) each.
    """

    d: int
    d_y: int
    n_times: int
    problem: int
    rows: tuple[tuple[str, str], ...]

    @property
    def tunes(self) -> bool:
        return self.problem in TUNING

    @property
    def samples(self) -> int:
        return TUNING_SAMPLES if self.tunes else SAMPLES[self.d]

    def words(self, row: str, setting: str) -> tuple[str, ...]:
        """Of the command line, but for the problem."""
        fixed = [word for word in ROWS[row].split() if "," not in word]
        return ("experiment=mcgdiff", "device=cpu", *STEPS[self.n_times].split(), *fixed, *setting.split())

    def key(self, row: str) -> dict[str, object]:
        return {"d": self.d, "d_y": self.d_y, "n_times": self.n_times, "controller": row, "problem": self.problem}


def knobs(row: str) -> tuple[str, ...]:
    """Settings to choose from, each a few words; one empty one: nothing to choose."""
    names, values = zip(*[word.split("=") for word in row.split() if "," in word]) if "," in row else ((), ())
    grid = itertools.product(*[value.split(",") for value in values])
    return tuple(" ".join(f"{name}={value}" for name, value in zip(names, point)) for point in grid)
