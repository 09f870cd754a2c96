"""Costs: terminal ones, cost(image, observation) -> [B], and running ones, of what happens on the way."""

from rbctrl.costs.base import Cost
from rbctrl.costs.features import Cosine, SquaredDistance
from rbctrl.costs.measurement import GaussianNLL, PoissonNLL, ResidualNorm
from rbctrl.costs.parts import Parts
from rbctrl.costs.regularizers import TotalVariation
from rbctrl.costs.running import OutOfRange, RunningCost
from rbctrl.costs.weighted_sum import WeightedSum

__all__ = [
    "Cosine",
    "Cost",
    "GaussianNLL",
    "OutOfRange",
    "Parts",
    "PoissonNLL",
    "ResidualNorm",
    "RunningCost",
    "SquaredDistance",
    "TotalVariation",
    "WeightedSum",
]
