from __future__ import annotations

import pytest
import torch

from rbctrl.operators import Identity
from rbctrl.operators.common import CUTOFF, check_boundary, damped_inverse, with_buffers


def test_a_copy_with_buffers_leaves_the_original() -> None:
    original = Identity()
    original.register_buffer("a", torch.zeros(1))
    copied = with_buffers(original, a=torch.ones(1), b=torch.ones(2))
    assert original.a.item() == 0
    assert not hasattr(original, "b")
    assert copied.double().b.dtype == torch.float64


def test_the_damped_inverse_drops_what_lies_below_the_cut_off() -> None:
    values = torch.tensor([1.0, 2 * CUTOFF**2, CUTOFF**2 / 2, 0.0], dtype=torch.float64)
    inverse = damped_inverse(values, 0.0, 1.0)
    torch.testing.assert_close(inverse, torch.tensor([1, 1 / (2 * CUTOFF**2), 0, 0], dtype=torch.float64))
    torch.testing.assert_close(damped_inverse(values, 0.1, 1.0), 1 / (values + 0.1))


def test_an_unknown_boundary_is_named() -> None:
    with pytest.raises(ValueError, match="Identity has no boundary 'mirror': use one of reflect, circular, zero"):
        check_boundary("mirror", Identity())
