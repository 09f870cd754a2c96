"""The images of one cell on several devices, each a process of its own, started by Lightning Fabric.

Process k of n computes batches k, k + n, ... of the full list, so every batch is the one that a single process would
form, and writes its rows itself. Images whose samples fell to several processes leave them in partial/; the process
that called computes their means when the others are done, and they are the same bit for bit as those of one process.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch


def spread(study: Path, record: Mapping[str, object], devices: int, device: torch.device) -> None:
    """Computes the missing samples of a cell on so many devices; returns when all are done.

    Args:
        study: folder of the study.
        record: with the resolved config of the cell.
        devices: how many.
        device: of the run; its type decides between processes on CPUs and on GPUs.

    Raises:
        ValueError: there are fewer GPUs.
    """
    from lightning.fabric import Fabric

    if device.type == "cuda" and torch.cuda.device_count() < devices:
        raise ValueError(f"devices={devices} was asked for and torch sees {torch.cuda.device_count()} here")
    fabric = Fabric(accelerator=device.type, devices=devices, strategy="ddp_spawn")
    fabric.launch(_share, Path(study), dict(record))


def _share(fabric, study: Path, record: dict) -> None:  # noqa: ANN001  (a Fabric, which is imported late)
    from rbctrl.reuse import build_experiment

    device = "cpu" if fabric.device.type == "cpu" else f"cuda:{fabric.local_rank}"
    experiment = build_experiment({**record["config"], "device": device, "devices": 1, "logger": {}})
    experiment.run_share(study, record, (fabric.global_rank, fabric.world_size))
    fabric.barrier()
