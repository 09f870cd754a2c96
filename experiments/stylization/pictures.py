"""The pictures of experiments/stylization: one column per pair, one row per method, from the results of run.sh.

python experiments/stylization/pictures.py [outputs/stylization] [--n 10] [--out experiments/stylization/methods.png]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf
from PIL import Image, ImageDraw
from table import ORDER, _setting

from rbctrl.data.shapes import References
from rbctrl.pictures import image_path, to_picture

SCALE, LABEL = 2, 110


def strip(name: str, tiles: Sequence[np.ndarray]) -> np.ndarray:
    """A row of tiles behind its name."""
    row = np.concatenate([np.asarray(tile) for tile in tiles], axis=1).repeat(SCALE, 0).repeat(SCALE, 1)
    label = Image.new("RGB", (LABEL, row.shape[0]), "white")
    ImageDraw.Draw(label).text((6, row.shape[0] // 2 - 6), name, fill="black")
    return np.concatenate([np.asarray(label), row], axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("outputs/stylization"))
    parser.add_argument("--n", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("experiments/stylization/methods.png"))
    args = parser.parse_args()
    items = list(References(args.n).items())
    rows = {"reference": [to_picture(item.image) for item in items]}
    for file in sorted(args.folder.rglob("config.yaml")):
        setting = _setting(OmegaConf.load(file))
        if setting["words"]:
            continue
        paths = [image_path(file.parent, item.name, 0, "image") for item in items]
        if all(path.is_file() for path in paths):
            rows[str(setting["method"])] = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    strips = [strip(name, rows[name]) for name in ("reference", *ORDER[:-1]) if name in rows]
    Image.fromarray(np.concatenate(strips)).save(args.out)
    for item in items:
        print(f"{item.name}: {item.prompt}")
    print(args.out)


if __name__ == "__main__":
    main()
