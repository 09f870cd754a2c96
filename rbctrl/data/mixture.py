"""Draws from a mixture as data."""

from __future__ import annotations

from collections.abc import Iterator

from rbctrl.data.base import Data, Item
from rbctrl.priors.affine import AffineLatent
from rbctrl.priors.isotropic import IsotropicMixture
from rbctrl.priors.mixture import GaussianMixture
from rbctrl.rng import ImageRNG


class MixtureSamples(Data):
    """Images of x_0 ~ the mixture; item k depends on its name and the seed alone.

    Args:
        prior: the mixture, in pixels or in latents.
        n: number of items.
        seed: of the draws.

    Raises:
        ValueError: n is below 1, or the prior cannot be drawn from.
    """

    def __init__(self, prior: GaussianMixture | IsotropicMixture | AffineLatent, n: int, seed: int = 0) -> None:
        super().__init__()
        if n < 1:
            raise ValueError(f"data.n is at least 1, got {n}")
        if not isinstance(prior, GaussianMixture | IsotropicMixture | AffineLatent):
            raise ValueError(
                f"data=gmm draws its truths from the prior, a mixture, and {type(prior).__name__} is none: "
                "use prior=gmm2d, gaussian_field or mcgdiff, or other data"
            )
        self.prior, self.n, self.seed = prior, n, seed

    def __len__(self) -> int:
        return self.n

    def items(self) -> Iterator[Item]:
        for k in range(self.n):
            name = f"draw/{k:04d}"
            x_0 = self.prior.sample(ImageRNG(self.seed, ((name, 0),)), "data/x0")
            yield Item(name, self.prior.codec.decode(x_0)[0])
