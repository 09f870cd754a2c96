import math

import numpy as np
import pytest

from rbctrl.report.bootstrap import MIN_UNITS, interval


def coverage(n, expanded, repeats=200):
    generator = np.random.default_rng(n)
    found = [interval(generator.standard_normal(n), expanded=expanded) for _ in range(repeats)]
    return np.mean([one.low <= 0 <= one.high for one in found])


def test_the_interval_covers_the_mean_and_the_plain_one_does_not():
    assert coverage(6, True) > 0.90
    assert coverage(6, False) < 0.90  # the negative control: too short


def test_it_agrees_with_students_interval_for_many_gaussian_values():
    values = np.random.default_rng(3).normal(2.0, 3.0, 200)
    found = interval(values)
    half = 1.972 * values.std(ddof=1) / math.sqrt(200)
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.05 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.05 * half)


def test_the_same_values_give_the_same_interval_and_a_shift_shifts_it():
    values = np.random.default_rng(0).normal(size=30)
    assert interval(values) == interval(values)
    assert interval(values + 5).low == pytest.approx(interval(values).low + 5)


def test_blocks_of_many_units_cover_too():
    values = np.random.default_rng(1).normal(0.5, 1.0, 3000)
    found = interval(values)
    assert found.excludes_zero and found.high - found.low == pytest.approx(2 * 1.96 / math.sqrt(3000), rel=0.06)


def test_few_units_have_a_mean_and_no_interval():
    found = interval(np.arange(MIN_UNITS - 1.0))
    assert found.mean == 1.5 and math.isnan(found.low) and not found.excludes_zero
    assert math.isnan(interval(np.array([])).mean)


def test_the_sign_is_certain_where_every_unit_agrees():
    assert interval(np.full(8, 0.1)).excludes_zero
    assert not interval(np.array([-1.0, 1.0, -1.0, 1.0, -1.0, 1.0])).excludes_zero
