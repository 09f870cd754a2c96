"""Batches that do not fit into the memory of a GPU are solved in halves."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

import torch

from rbctrl.data.base import Batch
from rbctrl.metrics.base import PathMetric
from rbctrl.solution import Solution
from rbctrl.solver import Solver
from rbctrl.work import rows_of

log = logging.getLogger("rbctrl.experiment")


def solve_halving(
    solver: Solver, batch: Batch, seed: int, paths: Mapping[str, PathMetric], cloud: int = 1
) -> Iterator[tuple[Batch, Solution]]:
    """The solution of a batch; where the GPU's memory does not hold it, of its halves. An empty batch has none.

    Args:
        solver: of the batch.
        batch: rows that run together.
        seed: of the rows.
        paths: scores of the controlled paths.
        cloud: rows that are never separated (`Controller.population`).

    Raises:
        ValueError: not even one image, or one cloud, fits.
    """
    if not batch.rows:
        return
    solution = _try(solver, batch, seed, paths, cloud)
    if solution is not None:
        yield batch, solution
        return
    torch.cuda.empty_cache()  # outside of the handler, whose traceback keeps the failed tensors alive
    log.warning("batch_size=%d does not fit into the GPU's memory: halving it", len(batch.rows))
    middle = max(len(batch.rows) // cloud // 2, 1) * cloud
    for part in (slice(0, middle), slice(middle, None)):
        yield from solve_halving(solver, rows_of(batch, part), seed, paths, cloud)


def _try(solver: Solver, batch: Batch, seed: int, paths: Mapping[str, PathMetric], cloud: int) -> Solution | None:
    try:
        return solver.solve(batch, seed, paths)
    except torch.cuda.OutOfMemoryError as error:
        if len(batch.rows) == 1:
            raise ValueError("a single image does not fit into the GPU's memory: use smaller images") from error
        if len(batch.rows) <= cloud:
            raise ValueError("one cloud of paths does not fit into the GPU's memory: take fewer") from error
        return None
