"""Runs as an experiment leaves them, for tests of what reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from rbctrl.results import ResultStore


def made_run(
    folder: Path,
    psnr: Mapping[str, float | Sequence[float]],
    controller: str = "dps",
    operator: str = "sr4",
    seed: int = 0,
    zeta: float | None = None,
    alive: Mapping[str, bool] | None = None,
    images: bool = False,
    versions: Mapping[str, str] | None = None,
    **values: float,
) -> None:
    """One cell; `psnr` by item: a number, or one per sample. `values` are columns that all rows share."""
    store = ResultStore(folder)
    target = {"dps": "rbctrl.controllers.DPS", "tv": "rbctrl.controllers.classical.TV"}.get(controller, controller)
    own = {"_target_": target} | ({} if zeta is None else {"zeta": zeta})
    config = {"seed": seed, "operator": {"_target_": operator}, "controller": own}
    config |= {"noise": {"_target_": "gaussian", "sigma_y": 0.05}, "data": {"_target_": "Folder", "path": "photos"}}
    choices = {"operator": operator, "controller": controller, "noise": "gaussian", "data": "folder"}
    words = [f"operator={operator}", f"controller={controller}", f"seed={seed}"]
    words += [] if zeta is None else [f"controller.zeta={zeta}"]
    store.save_config({"choices": choices, "overrides": words, "config": config}, versions or {})
    rows = []
    for item, found in psnr.items():
        for sample, value in enumerate(found if isinstance(found, Sequence) else [found]):
            row = {"item": item, "sample": sample, "seed": seed, "alive": (alive or {}).get(item, True), "psnr": value}
            rows.append(row | values)
        if images:
            save_images(store, item)
    store.write(rows)
    store.close()


def save_images(store: ResultStore, item: str) -> None:
    """A white restoration, a gray measurement and a black truth."""
    for kind, level, size in (("image", 1.0, 8), ("measurement", 0.0, 2), ("truth", -1.0, 8)):
        store.save_image(item, 0, kind, torch.full((3, size, size), level))
