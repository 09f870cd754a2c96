"""A GPU's memory that is too small, played by a solver that refuses large batches."""

from dataclasses import dataclass, field

import pytest
import torch

from rbctrl.data.base import Batch
from rbctrl.halving import solve_halving


@dataclass
class Small:
    """Holds so many rows."""

    limit: int
    solved: list = field(default_factory=list)

    def solve(self, batch, seed, paths):
        if len(batch.rows) > self.limit:
            raise torch.cuda.OutOfMemoryError("full")
        self.solved.append([sample for _, sample in batch.rows])
        return "solution"


def batch(n):
    return Batch(tuple(("a", k) for k in range(n)), torch.zeros(n, 1, 2, 2), None)


@pytest.mark.parametrize(("limit", "cloud", "parts"), [(8, 1, [7]), (3, 1, [3, 2, 2]), (2, 2, [2, 2, 2])])
def test_halves_are_solved_in_order_and_clouds_stay_whole(limit, cloud, parts):
    solver, n = Small(limit), sum(parts)
    assert len(list(solve_halving(solver, batch(n), 0, {}, cloud))) == len(parts)
    assert [len(part) for part in solver.solved] == parts and sum(solver.solved, []) == list(range(n))


@pytest.mark.parametrize(("cloud", "sentence"), [(1, "a single image"), (4, "one cloud")])
def test_what_cannot_be_halved_is_refused(cloud, sentence):
    with pytest.raises(ValueError, match=sentence):
        list(solve_halving(Small(0), batch(4), 0, {}, cloud))


def test_nothing_is_solved_for_no_rows():
    assert list(solve_halving(Small(0), batch(0), 0, {})) == []
