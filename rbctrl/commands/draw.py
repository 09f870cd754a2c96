"""`rbctrl draw operator=inpaint_freeform data=photos seed=0 --out=masks.npz`: what a run would draw, in a file.

The masks, kernels or latents of the operator for each item of the data, by item name. `operator.file=masks.npz`
measures with them whatever the seed, bit for bit as the run they were drawn for (see `rbctrl.operators.stored`).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from rbctrl.commands.run import compose
from rbctrl.data.base import Data
from rbctrl.kinds import check_kinds
from rbctrl.literal import build
from rbctrl.operators.stored import Draws, draw_item, kind_of, save_draws
from rbctrl.versions import versions


def run(args: list[str]) -> int:
    """Draws for every item, writes the file and prints its name.

    Returns:
        The exit status: 1 if an image could not be read; the file holds the others.

    Raises:
        ValueError: there is no --out=FILE.npz, an unknown flag, or an operator that draws nothing.
    """
    words, file = _split(args)
    cfg = compose(words)
    check_kinds({"_target_": cfg._target_, "seed": cfg.seed})
    data = build(cfg, "data")
    made = draw(cfg, data, words)
    save_draws(file, made)
    for problem in data.skipped:
        print(f"rbctrl: {problem}", file=sys.stderr)
    print(f"{file}: one {made.kind} for each of {len(made.values)} items; operator.file={file} reads them")
    return 1 if data.skipped else 0


def draw(cfg: DictConfig, data: Data, words: Sequence[str]) -> Draws:
    """What cfg.operator draws for the items of the data and cfg.seed."""
    operator = build(cfg, "operator")
    values = {}
    for item in data.items():
        shape = item.y.shape if item.image is None else item.image.shape
        shape = operator.image_shape(tuple(shape)) if item.image is None else tuple(shape)
        values[item.name] = draw_item(operator, item.name, shape, cfg.seed)
    provenance = {
        "command": ["rbctrl", "draw", *words],
        "operator": OmegaConf.to_container(cfg.operator, resolve=True),
        "data": OmegaConf.to_container(cfg.data, resolve=True),
        "seed": cfg.seed,
        "versions": dict(versions()),
    }
    return Draws(kind_of(operator), values, provenance)


def _split(args: Sequence[str]) -> tuple[list[str], Path]:
    words = [word for word in args if not word.startswith("-")]
    files = [word.partition("=")[2] for word in args if word.startswith("--out=")]
    unknown = [word for word in args if word.startswith("-") and not word.startswith("--out=")]
    if unknown or len(files) != 1 or not files[0].endswith(".npz"):
        raise ValueError(f"rbctrl draw takes key=value and one --out=FILE.npz, got {' '.join(args)!r}")
    return words, Path(files[0])
