"""Class labels: a class-conditional network, bound to one class, is a network of x and time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ClassLabel:
    """One class, as a network wants to be told it.

    Args:
        index: of the class, from 0.
        classes: how many there are.
        argument: the name under which the network takes it: class_labels (EDM, diffusers), y (guided-diffusion).
        form: "index", an integer [B]; or "one_hot", floats [B, classes] (EDM).
    """

    index: int
    classes: int
    argument: str = "class_labels"
    form: Literal["index", "one_hot"] = "index"

    def __post_init__(self) -> None:
        if self.form not in ("index", "one_hot"):
            raise ValueError(f"form is 'index' or 'one_hot', got {self.form!r}")
        if not 0 <= self.index < self.classes:
            raise ValueError(f"the class label is 0 to {self.classes - 1}, got {self.index}")

    def of(self, x: Tensor) -> Tensor:
        """The label of each row of x [B, ...]."""
        if self.form == "index":
            return torch.full((len(x),), self.index, device=x.device)
        one_hot = x.new_zeros(len(x), self.classes)
        one_hot[:, self.index] = 1
        return one_hot


class Labelled(nn.Module):
    """network(x, time, label) as a function of x and time."""

    def __init__(self, network: nn.Module, label: ClassLabel) -> None:
        super().__init__()
        self.network, self.label = network, label

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x [B, ...] and time [B] to what the network puts out."""
        return self.network(x, time, **{self.label.argument: self.label.of(x)})


def labelled(network: nn.Module, label: ClassLabel | None) -> nn.Module:
    """The network, bound to a label if there is one."""
    return network if label is None else Labelled(network, label)
