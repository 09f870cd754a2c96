"""What the row of a mean says of its samples: who is counted, and how sure the averages are."""

import math

import pytest
import torch

from rbctrl.posterior_mean import ItemSamples, clustered_mean


def samples_with(energies, cloud=1, dead=()):
    """Samples of one item with these energies, `dead` of them diverged."""
    samples = ItemSamples("a", cloud)
    for k, energy in enumerate(energies):
        alive = k not in dead
        row = {"sample": k, "alive": alive, "control_energy": energy if alive else math.nan}
        samples.add(row, torch.zeros(1))
    return samples


def test_a_dead_sample_is_left_out_of_the_averages_and_counted():
    averages = samples_with([1.0, 2.0, 6.0, 9.0], dead=(3,)).averages(["control_energy"])
    assert averages["n_alive"] == 3
    assert averages["control_energy"] == pytest.approx(3.0)
    assert averages["control_energy_se"] == pytest.approx(torch.tensor([1.0, 2.0, 6.0]).std().item() / 3**0.5)


def test_an_undefined_energy_of_the_living_stays_undefined():
    averages = samples_with([1.0, math.nan]).averages(["control_energy"])
    assert averages["n_alive"] == 2 and math.isnan(averages["control_energy"])
    averages = samples_with([1.0, 2.0], dead=(0, 1)).averages(["control_energy"])
    assert averages["n_alive"] == 0 and math.isnan(averages["control_energy"])


def test_one_sample_has_no_error_and_one_cloud_an_unknown_one():
    assert "control_energy_se" not in samples_with([1.0]).averages(["control_energy"])
    assert math.isnan(samples_with([1.0, 2.0], cloud=2).averages(["control_energy"])["control_energy_se"])


def test_the_error_of_clouds_is_that_over_clouds():
    energies = [1.0, 1.0, 3.0, 3.0, 8.0, 8.0]  # paths of one cloud agree: three numbers, not six
    found = samples_with(energies, cloud=2).averages(["control_energy"])["control_energy_se"]
    assert found == pytest.approx(torch.tensor([1.0, 3.0, 8.0]).std().item() / 3**0.5)
    apart = samples_with(energies).averages(["control_energy"])["control_energy_se"]
    assert found > 1.4 * apart


def test_the_error_of_uneven_clouds_is_that_of_their_mean():
    generator = torch.Generator().manual_seed(0)
    sizes = [1, 2, 3, 4, 5, 6, 7, 8] * 4
    clusters = [c for c, size in enumerate(sizes) for _ in range(size)]
    found = []
    for _ in range(2000):
        shared = torch.randn(len(sizes), generator=generator, dtype=torch.float64)[torch.tensor(clusters)]
        values = shared + 0.5 * torch.randn(len(clusters), generator=generator, dtype=torch.float64)
        found.append(clustered_mean(values.tolist(), clusters))
    means, errors = torch.tensor(found, dtype=torch.float64).T
    assert float(errors.square().mean().sqrt() / means.std()) == pytest.approx(1.0, abs=0.06)
    alone = [clustered_mean(values, range(4)) for values in ([1.0, 2.0, 4.0, 9.0],)][0]
    assert alone == pytest.approx((4.0, torch.tensor([1.0, 2.0, 4.0, 9.0]).std().item() / 2))
