"""Diffusion priors: x_t and t to E[x_0 | x_t]."""

from rbctrl.priors.affine import AffineLatent
from rbctrl.priors.base import Estimate, ExactPrior, Prior
from rbctrl.priors.empirical import Empirical
from rbctrl.priors.isotropic import IsotropicMixture
from rbctrl.priors.mixture import GaussianMixture
from rbctrl.priors.network import NetworkPrior
from rbctrl.priors.photo_latent import photo_latent
from rbctrl.priors.photographs import photo

__all__ = [
    "AffineLatent",
    "Empirical",
    "Estimate",
    "ExactPrior",
    "GaussianMixture",
    "IsotropicMixture",
    "NetworkPrior",
    "Prior",
    "photo",
    "photo_latent",
]
