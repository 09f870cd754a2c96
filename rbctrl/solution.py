"""What a batch gave, and its rows of the table of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rbctrl.observation import Evaluations, Observation
from rbctrl.sampling import Result


@dataclass(frozen=True, eq=False)
class Solution:
    """What one batch gave; every tensor has a leading B.

    Attributes:
        image: restored images [B, C, H, W]; not clamped.
        obs: their measurements.
        result: energies and final states.
        paths: scores of the controlled paths, by name.
        final_cost: the cost at the image; NaN where it is undefined for this measurement (`Cost.check`).
        evaluations: of the networks, per image.
        seconds: per image, batch time over B.
        peak_memory: MiB; of the device on a GPU, else the high-water mark of the process (NaN on Windows).
    """

    image: Tensor
    obs: Observation
    result: Result
    paths: Mapping[str, Tensor]
    final_cost: Tensor
    evaluations: Evaluations
    seconds: float
    peak_memory: float

    def spent(self) -> dict[str, float]:
        """The columns of a row that say what it cost."""
        e = self.evaluations
        return {
            "nfe": e.nfe,
            "vjp": e.vjp,
            "decoder_vjp": e.decoder_vjp,
            "encoder_vjp": e.encoder_vjp,
            "seconds_per_image": self.seconds,
            "peak_memory": self.peak_memory,
        }

    @property
    def reported(self) -> tuple[str, ...]:
        """Names of the columns that the controller itself adds."""
        return tuple(self.result.columns)

    def rows(self, keys: Sequence[tuple[str, int]], seed: int, scores: Mapping[str, Tensor]) -> list[dict[str, object]]:
        """The rows of the table of results, one per (item, sample) of the batch; one that is not alive has no values.

        Args:
            keys: (item, sample) of each row.
            seed: of the run.
            scores: [B] each, by name. The controller's own columns, final cost and control energy come after them.
        """
        result = self.result
        columns = {
            **scores,
            **self.paths,
            **result.columns,
            "final_cost": self.final_cost,
            "control_energy": result.control_energy,
        }
        values = {name: _of_living(column, result.alive).tolist() for name, column in columns.items()}  # one copy each
        shared = self.spent() | {"batch_size": len(keys)}
        return [
            {"item": item, "sample": sample, "seed": seed, "alive": alive}
            | {name: column[k] for name, column in values.items()}
            | shared
            for k, ((item, sample), alive) in enumerate(zip(keys, result.alive.tolist(), strict=True))
        ]


def _of_living(column: Tensor, alive: Tensor) -> Tensor:
    """NaN where a row is not alive; counts stay."""
    return column.where(alive.to(column.device), torch.nan) if column.is_floating_point() else column
