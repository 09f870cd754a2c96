from __future__ import annotations

import numpy as np
import pytest

from rbctrl.operators.brush import brush_strokes


@pytest.mark.parametrize("coverage", [(0.0, 0.05), (0.5, 0.52), (0.9, 0.95)])
def test_coverage_holds_for_any_range(coverage: tuple[float, float]) -> None:
    for seed in range(5):
        share = brush_strokes(np.random.default_rng(seed), 40, 24, coverage).mean()
        assert coverage[0] <= share <= coverage[1]


def test_strokes_are_connected_areas_and_not_scattered_pixels() -> None:
    covered = brush_strokes(np.random.default_rng(0), 96, 96, (0.2, 0.3))
    inner = covered[1:-1, 1:-1]
    lonely = inner & ~(covered[:-2, 1:-1] | covered[2:, 1:-1] | covered[1:-1, :-2] | covered[1:-1, 2:])
    scattered = np.random.default_rng(0).random((96, 96)) < 0.25
    inner_scattered = scattered[1:-1, 1:-1]
    neighbours = scattered[:-2, 1:-1] | scattered[2:, 1:-1] | scattered[1:-1, :-2] | scattered[1:-1, 2:]
    assert lonely.sum() < 0.02 * inner.sum()
    assert (inner_scattered & ~neighbours).sum() > 0.02 * inner_scattered.sum()  # negative control


def test_the_same_generator_gives_the_same_strokes() -> None:
    first, second = (brush_strokes(np.random.default_rng(3), 32, 32, (0.1, 0.2)) for _ in range(2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, brush_strokes(np.random.default_rng(4), 32, 32, (0.1, 0.2)))
