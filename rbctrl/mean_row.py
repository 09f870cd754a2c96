"""What a cell saves of an image besides its samples: truth and measurement, and the row and pictures of the mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from rbctrl.metrics import Metric, PathMetric, SampleMetric, of_kind
from rbctrl.observation import Observation
from rbctrl.posterior_mean import ItemSamples
from rbctrl.results import ResultStore
from rbctrl.work import has_picture

if TYPE_CHECKING:
    from rbctrl.experiment import Experiment

DIVERGED = "became non-finite: lower the controller's step size or take more steps"


def save_inputs(store: ResultStore, item: str, truth: Tensor | None, obs: Observation) -> None:
    """Saves the pictures of an image [C, H, W] and of its measurement, one row, where they are pictures."""
    if has_picture(truth):
        store.save_image(item, 0, "truth", truth)  # type: ignore[arg-type]
    y, observed = obs.y[0], obs.operator.observed
    if has_picture(y):
        store.save_image(item, 0, "measurement", y if observed is None else y * observed[0])


def mean_row(experiment: Experiment, store: ResultStore, samples: ItemSamples, content: str) -> dict[str, object]:
    """Scores the posterior mean of an image and saves its pictures."""
    e = experiment
    mean, sd = samples.mean_sd()
    truth = None if samples.truth is None else samples.truth[None].to(mean)
    images = of_kind(e.metrics, Metric).items()
    scores = {name: float(metric(mean[None], truth, samples.obs)[0]) for name, metric in images}  # type: ignore[arg-type]
    scores |= samples.averages((*of_kind(e.metrics, PathMetric), *samples.reported, "control_energy"))
    draws = samples.draws(e.prior, e.seed)
    scores |= {name: metric(draws) for name, metric in of_kind(e.metrics, SampleMetric).items()}
    scores["final_cost"] = float(e.solver.final_cost(mean[None], samples.obs)[0])  # type: ignore[arg-type]
    if has_picture(mean):
        store.save_image(samples.item, "mean", "mean", mean)
        store.save_image(samples.item, "mean", "sd", 4 * sd.mean(0, keepdim=True) - 1)  # white: sd 0.5
    row: dict[str, object] = {"item": samples.item, "sample": "mean", "seed": e.seed, "alive": not samples.diverged}
    if samples.diverged:
        row["error"] = f"{samples.diverged} of {len(samples)} samples {DIVERGED}"
    return row | scores | samples.totals | {"n_samples": len(samples), "content": content}
