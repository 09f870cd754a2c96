"""Which way a metric is better. A metric of one's own is named `--metric NAME:higher` or `--metric NAME:lower`.

Metrics whose best value is neither the largest nor the smallest (chi2: 1), what a run cost, and `control_energy`, which
scores no image, have no direction: nothing of theirs is set in bold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Direction = Literal["higher", "lower"]
KNOWN: dict[str, Direction] = {
    "psnr": "higher",
    "ssim": "higher",
    "similarity": "higher",
    "similarity_gram": "higher",
    "lpips": "lower",
    "fid": "lower",
    "kid": "lower",
    "nll": "lower",
    "excess": "lower",
    "price": "lower",
    "control_error": "lower",
    "mean_error": "lower",
    "covariance_error": "lower",
    "sliced_wasserstein": "lower",
    "mode_weight_tv": "lower",
}


def parse_metrics(words: Sequence[str]) -> tuple[list[str], dict[str, Direction]]:
    """Names and directions of `psnr`, `mine:higher`, ...; names without a direction may be known.

    Raises:
        ValueError: a direction is neither higher nor lower.
    """
    names, directions = [], dict(KNOWN)
    for word in words:
        name, colon, direction = word.partition(":")
        if colon and direction not in ("higher", "lower"):
            raise ValueError(f"--metric {word!r}: write {name}:higher or {name}:lower, whichever is better")
        names.append(name)
        if colon:
            directions[name] = direction  # type: ignore[assignment]
    return names, directions
