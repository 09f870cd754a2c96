"""Drawn masks, kernels and latents in a file, so that others measure with the same ones.

What an operator draws is a function of (seed, item), so a run repeats itself without any file. Another code base,
another version of rbctrl or another seed does not. `rbctrl draw operator=inpaint_freeform data=photos --out=masks.npz`
writes what a run would draw, and `operator.file=masks.npz` reads it: the same measurements, bit for bit.

The file is a plain .npz without pickles: `items` (names), `value_0`, `value_1` ... (one array per item, masks as
booleans, kernels in fp64), `kind` (mask, kernel, latent) and `provenance` (JSON: how it was made).
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rbctrl.operators.base import Operator
from rbctrl.rng import ImageRNG


@dataclass(frozen=True, eq=False)
class Draws:
    """What was drawn for some items.

    Attributes:
        kind: mask, kernel or latent.
        values: by item, without batch dimension.
        provenance: how they were made.
        source: the file, for messages.
    """

    kind: str
    values: Mapping[str, np.ndarray]
    provenance: Mapping[str, object]
    source: str = ""

    def of(self, rng: ImageRNG, shape: tuple[int, ...]) -> Tensor:
        """The values of the rows of `rng`, [B, *shape].

        Raises:
            ValueError: an item is not in the file, or its value has another shape.
        """
        for item in dict.fromkeys(item for item, _ in rng.rows):
            if item not in self.values:
                known = ", ".join(list(self.values)[:5]) + (", ..." if len(self.values) > 5 else "")
                raise ValueError(f"{self.source} holds no {self.kind} of item {item!r}, only of {known}")
            found = self.values[item].shape
            if found != shape:
                raise ValueError(
                    f"{self.source}: the {self.kind} of {item!r} has shape {found}, and {shape} is needed: "
                    "draw a file for images of this size and for this operator"
                )
        stacked = np.stack([self.values[item] for item, _ in rng.rows])
        return torch.from_numpy(stacked).to(rng.device, rng.dtype)


def draw_item(operator: Operator, item: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """What the operator draws for an item and images [C, H, W]; masks as booleans, everything else in fp64.

    Raises:
        ValueError: nothing of this operator is random.
    """
    drawn = operator.draw(ImageRNG(seed, ((item, 0),), torch.float64), shape)
    if operator.drawn is None:
        raise ValueError(f"{type(operator).__name__} draws nothing per image: there is nothing to save")
    value = drawn.get_buffer(operator.drawn)[0].numpy()
    return value.astype(bool) if kind_of(operator) == "mask" else value.astype(np.float64)


def kind_of(operator: Operator) -> str:
    """mask, kernel or latent: the name of the buffer that is drawn."""
    return str(operator.drawn).rpartition(".")[2]


def save_draws(file: str | Path, draws: Draws) -> None:
    """Writes a file; one that exists is replaced only when the new one is complete."""
    file = Path(file)
    arrays = {f"value_{k}": value for k, value in enumerate(draws.values.values())}
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(file.name + ".partial.npz")
    np.savez_compressed(
        partial, items=np.array(list(draws.values)), kind=draws.kind, provenance=json.dumps(draws.provenance), **arrays
    )
    partial.replace(file)


def read_draws(file: str | Path, operator: Operator) -> Draws:
    """What `save_draws` wrote, for this operator.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such file, or holds another kind of thing than the operator draws.
    """
    name, kind = type(operator).__name__, kind_of(operator)
    if not Path(file).is_file():
        raise FileNotFoundError(f"{name}: there is no file {str(file)!r}: write one with rbctrl draw ... --out={file}")
    try:
        with np.load(file, allow_pickle=False) as saved:
            values = {str(item): saved[f"value_{k}"] for k, item in enumerate(saved["items"])}
            draws = Draws(str(saved["kind"]), values, json.loads(str(saved["provenance"])), str(file))
    except (KeyError, ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{name}: {str(file)!r} is not a file that rbctrl draw wrote ({error})") from error
    if draws.kind != kind:
        raise ValueError(f"{name} draws a {kind} per image, and {str(file)!r} holds one {draws.kind} per image")
    return draws
