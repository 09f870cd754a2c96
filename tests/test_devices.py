"""Devices: what a GPU rounds, and what is left alone elsewhere."""

import pytest
import torch

from rbctrl.devices import full_fp32, pick_device


def test_convolutions_are_fp32_on_a_gpu_and_nothing_is_touched_elsewhere(monkeypatch):
    cudnn = torch.backends.cudnn

    def flags():
        return cudnn.allow_tf32, cudnn.enabled, cudnn.benchmark, cudnn.deterministic

    monkeypatch.setattr(cudnn, "benchmark", True)
    before = flags()
    assert before[0]  # torch's default, what the context manager is for
    with full_fp32(torch.device("cpu")):
        assert flags() == before
    with full_fp32(torch.device("cuda", 0)):
        assert flags() == (False, *before[1:])
    assert flags() == before


@pytest.mark.parametrize("name", ["meta", "nonsense", "fpga"])
def test_a_device_that_computes_nothing_here_is_refused(name):
    with pytest.raises(ValueError, match=f"device={name} .*: use auto, cpu or cuda"):
        pick_device(name)
    assert pick_device("cpu").type == "cpu"
