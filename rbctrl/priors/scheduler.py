"""What the scheduler's config of a model says of its noise schedule, against what a prior states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from rbctrl.priors.network import Parameterization
from rbctrl.schedules import Cosine, DiscreteVP

_PREDICTS: dict[str, Parameterization] = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}


def check_table(
    config: Mapping[str, Any], source: object, schedule: DiscreteVP, parameterization: Parameterization
) -> None:
    """Compares a beta table and a parameterisation with the scheduler's config.

    Raises:
        ValueError: they differ; says what the config has.
    """
    predicts = config.get("prediction_type", "epsilon")
    if _PREDICTS.get(predicts) != parameterization:
        raise ValueError(
            f"the scheduler of {source} says prediction_type={predicts} and this prior says {parameterization!r}: "
            f"prior.parameterization={_PREDICTS.get(predicts, '?')}"
        )
    theirs, own = _alpha_bar(config), schedule.alpha_bar(torch.arange(1, len(schedule) + 1) / len(schedule))
    if len(theirs) != len(own) or not torch.allclose(theirs, own, atol=1e-4):
        named = ("beta_schedule", "num_train_timesteps", "beta_start", "beta_end", "rescale_betas_zero_snr")
        said = ", ".join(f"{name}={config[name]}" for name in named if name in config)
        raise ValueError(
            f"the scheduler of {source} has another noise schedule ({said}) than this prior, whose last alpha_bar is "
            f"{float(own[-1]):.4g} where theirs is {float(theirs[-1]):.4g}: choose prior/schedule=... or its numbers"
        )


def check_flow(config: Mapping[str, Any], source: object) -> None:
    """Whether the config is that of a rectified flow.

    Raises:
        ValueError: it is not.
    """
    name = str(config.get("_class_name", "nothing"))
    if not name.startswith("FlowMatch"):
        raise ValueError(f"the scheduler of {source} is {name}, not a flow-matching one: this is no rectified flow")


def check_cosine(config: Mapping[str, Any], source: object, schedule: Cosine) -> None:
    """Whether the config is that of Stable Cascade's cosine schedule; a shift is of the process, not of the training.

    Raises:
        ValueError: it is not.
    """
    said = tuple(config.get(name) for name in ("_class_name", "scaler", "s"))
    if said != ("DDPMWuerstchenScheduler", 1.0, schedule.offset):
        raise ValueError(
            f"the scheduler of {source} is {said[0]} with scaler={said[1]} and s={said[2]}; Stable Cascade's is "
            f"DDPMWuerstchenScheduler with scaler=1 and s={schedule.offset}"
        )


def _alpha_bar(config: Mapping[str, Any]) -> torch.Tensor:
    from diffusers import DDIMScheduler

    named = (
        "num_train_timesteps",
        "beta_start",
        "beta_end",
        "beta_schedule",
        "trained_betas",
        "rescale_betas_zero_snr",
    )
    return DDIMScheduler(**{name: config[name] for name in named if name in config}).alphas_cumprod.double()
