"""Fixtures that every test may use."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from rbctrl.rng import ImageRNG


@pytest.fixture
def make_rng() -> Callable[..., ImageRNG]:
    """rows(n_items, n_samples) of an ImageRNG; fp64 unless told."""

    def make(n_items: int, n_samples: int = 1, seed: int = 0, dtype: torch.dtype = torch.float64) -> ImageRNG:
        rows = tuple((f"item{i}", sample) for i in range(n_items) for sample in range(n_samples))
        return ImageRNG(seed, rows, dtype)

    return make
