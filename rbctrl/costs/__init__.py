"""Terminal costs: cost(image, observation) -> [B]."""

from rbctrl.costs.base import Cost
from rbctrl.costs.features import Cosine
from rbctrl.costs.measurement import GaussianNLL, PoissonNLL, ResidualNorm
from rbctrl.costs.regularizers import TotalVariation
from rbctrl.costs.weighted_sum import WeightedSum

__all__ = ["Cosine", "Cost", "GaussianNLL", "PoissonNLL", "ResidualNorm", "TotalVariation", "WeightedSum"]
