"""Between two styles: the control follows y on the way from the features of one reference to those of another, and the
attention averages branches on the tokens of both, weighted by 1 - share and share.

    python experiments/stylization/interpolate.py [--method soc|afa|afa+soc] [--pairs 16] [--shares 5] [--out FILE]

For each pair of references with palettes that have no name, one prompt and one noise; writes FILE.png (one row per
pair, the two references at the ends) and FILE.csv: palette error to the first and to the second reference, and whether
the content is as the prompt says, as the classifier reads it, mean and standard error over pairs.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from rbctrl.config import build
from rbctrl.controllers import NoControl, RBModulation, Window
from rbctrl.costs import Cosine
from rbctrl.data.base import Item
from rbctrl.data.shapes import References
from rbctrl.data.sources import Memory
from rbctrl.descriptors.shapes import Shapes
from rbctrl.metrics.shapes import PaletteError, Said
from rbctrl.noise import NoNoise
from rbctrl.operators import Style
from rbctrl.pictures import save_picture, to_picture
from rbctrl.priors.base import Prior
from rbctrl.solver import Solver

METHODS = ("soc", "afa", "afa+soc")
SOC = Window(RBModulation(lr=0.03), 0.0, 0.6)


def attending(method: str, share: float) -> Prior:
    """The prior, attending to the two styles that an item brings along, if the method does."""
    if method == "soc":
        return build("prior", "shapes")
    weights = f"attention.style_weights=[{1 - share},{share}]"
    return build("prior", "shapes", ["+attention=afa", "attention.style=[item,item]", weights])


def restyled(prior: Prior, method: str, item: Item, first: Path, second: Path, share: float) -> Tensor:
    """The item's prompt in the style between two pictures, [1, 3, H, W]."""
    operator = Style(Shapes(), reference=str(first), towards=str(second), share=share)
    sampler = build("sampler", "ddim", ["sampler/grid=uniform", "sampler.n_steps=20"])
    controller, device = NoControl() if method == "afa" else SOC, torch.device("cpu")
    solver = Solver(prior, operator, NoNoise(), Cosine(), sampler, controller, device, torch.float32)
    solver.check()
    solver.load()
    return solver.solve(next(iter(Memory([item]).batches(1, 1))), 0).image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=METHODS, default="soc")
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--shares", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("experiments/stylization/interpolation"))
    args = parser.parse_args()
    items, shares = list(References(2 * args.pairs).items()), np.linspace(0, 1, args.shares).tolist()
    priors, rows, strips = {share: attending(args.method, share) for share in shares}, [], []
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{item.name}.png" for item in items]
        for path, item in zip(paths, items):
            save_picture(path, item.image)
        for k in range(args.pairs):
            first, second = items[2 * k : 2 * k + 2]
            item, tiles = replace(first, references={"style": first.image, "style_2": second.image}), [first.image]
            for share, prior in priors.items():
                image = restyled(prior, args.method, item, paths[2 * k], paths[2 * k + 1], share)
                tiles.append(image[0])
                rows.append({"share": share} | read(image, first, second))
            strips.append(np.concatenate([np.asarray(to_picture(tile)) for tile in (*tiles, second.image)], axis=1))
    grouped = pd.DataFrame(rows).groupby("share")
    table = grouped.mean().join(grouped.sem().add_suffix("_se"))
    table.insert(0, "n", grouped.size())
    print(table.round(3).to_string())
    table.round(4).to_csv(args.out.with_suffix(".csv"))
    Image.fromarray(np.concatenate(strips[:8])).save(args.out.with_suffix(".png"))


def read(image: Tensor, first: Item, second: Item) -> dict[str, float]:
    """What the classifier says."""
    from rbctrl.observation import Observation

    obs = Observation(image, Style(Shapes()), NoNoise(), (first.prompt,))
    error = PaletteError()
    to_first, to_second = (float(error(image, item.image[None], obs)) for item in (first, second))
    return {"to_first": to_first, "to_second": to_second, "prompt_fidelity": float(Said()(image, None, obs))}


if __name__ == "__main__":
    main()
