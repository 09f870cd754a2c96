"""What a classical baseline is: an image computed once from y, in the clothes of a controller.

The image is the mean of every step, with std = 0 and eps_hat = 0, so the last step leaves it as the result. The prior
is never asked (nfe = 0), so there is no uncontrolled step to compare with and the control energy is undefined (NaN).
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from rbctrl.controllers.base import Controller, Run, Setup, State
from rbctrl.observation import Observation
from rbctrl.priors.base import Estimate
from rbctrl.process import Step


class Classical(Controller):
    """A reconstruction that needs the measurement alone. Its energy is undefined."""

    @abstractmethod
    def reconstruct(self, obs: Observation, shape: tuple[int, ...]) -> Tensor:
        """The image [B, C, H, W] of a measurement, row by row; shape is [C, H, W], dtype and device are those of y."""

    def start(self, run: Run) -> tuple[Tensor, State]:
        """x_T, which nothing depends on, and the image."""
        x_t, _ = super().start(run)
        return x_t, {"image": self.reconstruct(run.obs, run.process.shape)}

    def __call__(self, run: Run, x_t: Tensor, i: int, state: State) -> tuple[Step, State]:
        """The image again, whatever x_t is."""
        image = state["image"]
        return Step(Estimate(image, torch.zeros_like(image)), image, 0.0, None), state


def needs_images(setup: Setup, name: str) -> str | None:
    """The reason if the operator does not measure images [C, H, W]."""
    if len(setup.operator.image_shape((3, 8, 8))) == 3:
        return None
    return (
        f"{name} looks at the neighbours of a pixel, and {type(setup.operator).__name__} measures vectors, not images"
    )


def non_negative(name: str, value: float) -> None:
    """Refuses a negative setting.

    Raises:
        ValueError: value < 0.
    """
    if not value >= 0:
        raise ValueError(f"{name} must be 0 or more, got {value}")


def positive(name: str, value: float) -> None:
    """Refuses a setting that is not above 0.

    Raises:
        ValueError: value <= 0.
    """
    if not value > 0:
        raise ValueError(f"{name} must be above 0, got {value}")
