from __future__ import annotations

import numpy as np
import pytest

from rbctrl.operators.motion import motion_kernel


def kernels(intensity: float, count: int = 60, size: int = 61) -> list[np.ndarray]:
    return [motion_kernel(np.random.default_rng(seed), size, intensity) for seed in range(count)]


@pytest.mark.parametrize("size", [3, 5, 31, 61])
@pytest.mark.parametrize("intensity", [0.0, 0.5, 1.0])
def test_kernels_are_distributions(size: int, intensity: float) -> None:
    for kernel in kernels(intensity, 20, size):
        assert kernel.shape == (size, size)
        assert (kernel >= 0).all()
        assert abs(kernel.sum() - 1) < 1e-12


def test_kernels_are_thin_traces_around_the_centre() -> None:
    def mean_offset(traces: list[np.ndarray]) -> float:
        y, x = np.indices((61, 61)) - 30
        return float(np.mean([np.hypot((k * x).sum(), (k * y).sum()) for k in traces]))

    traces = kernels(0.5)
    assert mean_offset(traces) < 2.5  # the joints are centred, which is not quite the centre of the line
    assert mean_offset([np.roll(k, 4, 0) for k in traces]) > 2.5  # negative control
    assert max(np.count_nonzero(k) for k in traces) < 0.15 * 61**2


def residual_share(kernel: np.ndarray) -> float:
    """Variance across the main direction over the whole variance: 0 for a straight line."""
    y, x = np.indices(kernel.shape)
    points = np.stack([y.ravel(), x.ravel()])
    values = np.linalg.eigvalsh(np.cov(points, aweights=kernel.ravel()))
    return values[0] / values.sum()


def test_intensity_bends_the_path() -> None:
    long = [k for k in kernels(0.0) if np.count_nonzero(k) > 80]
    assert len(long) > 20
    straight = np.mean([residual_share(k) for k in long])
    bent = np.mean([residual_share(k) for k in kernels(1.0)])
    assert straight < 0.02
    assert bent > 3 * straight


def test_directions_cover_the_half_turn() -> None:
    angles = []
    for kernel in kernels(0.0):
        y, x = np.indices(kernel.shape)
        _, vectors = np.linalg.eigh(np.cov(np.stack([y.ravel(), x.ravel()]), aweights=kernel.ravel()))
        angles.append(np.arctan2(vectors[0, 1], vectors[1, 1]) % np.pi)
    counts, _ = np.histogram(angles, 4, (0, np.pi))
    assert counts.min() >= 5
