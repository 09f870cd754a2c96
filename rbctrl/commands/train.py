"""`rbctrl train [codec|latent] key=value ...`: conf/train*.yaml, instantiated and run."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path

from hydra.utils import instantiate

from rbctrl.commands.run import compose
from rbctrl.config import CONF_DIR

RECIPES = {
    "photo": "train",
    "codec": "train_codec",
    "latent": "train_latent",
    "shapes_codec": "train_shapes_codec",
    "shapes_descriptor": "train_shapes_descriptor",
    "shapes_classifier": "train_shapes_classifier",
    "shapes": "train_shapes",
}


def run(args: list[str]) -> int:
    """Trains a network of a shipped prior and prints the path of its weights.

    The first argument may name the recipe: photo (the default), codec or latent. `--help` prints what can be
    overridden.

    Raises:
        ValueError: there is no such recipe.
    """
    recipe, overrides = "photo", args
    if args and "=" not in args[0] and not args[0].startswith("-"):
        recipe, overrides = args[0], args[1:]
    if recipe not in RECIPES:
        raise ValueError(f"there is no recipe {recipe!r} to train: {', '.join(RECIPES)}")
    if "--help" in overrides or "-h" in overrides:
        print((CONF_DIR / f"{RECIPES[recipe]}.yaml").read_text(encoding="utf-8"))
        return 0
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    training = instantiate(compose(overrides, RECIPES[recipe]), _convert_="all")
    weights: Path = training.run(command=shlex.join(["rbctrl", "train", *args]))
    print(weights)
    return 0
