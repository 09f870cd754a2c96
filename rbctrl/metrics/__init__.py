"""Metrics: metric(image, truth, observation) -> [B]."""

from rbctrl.metrics.base import (
    AnyMetric,
    Draws,
    FullReference,
    Metric,
    PathMetric,
    SampleMetric,
    check_metrics,
    of_kind,
)
from rbctrl.metrics.best_of import BestOf, Residual
from rbctrl.metrics.calibration import CalibrationTest, Coverage, RankStatistic, calibration_test
from rbctrl.metrics.consistency import NLL, Chi2
from rbctrl.metrics.control import ControlError, Excess, Price, Surprise
from rbctrl.metrics.distribution import FID, KID, Features, SetMetric
from rbctrl.metrics.lpips import LPIPS
from rbctrl.metrics.moments import CovarianceError, MeanError, VarianceRatio
from rbctrl.metrics.restoration import PSNR, SSIM
from rbctrl.metrics.style import Similarity
from rbctrl.metrics.wasserstein import Floor, ModeWeightTV, SlicedWasserstein

__all__ = [
    "FID",
    "KID",
    "LPIPS",
    "NLL",
    "PSNR",
    "SSIM",
    "AnyMetric",
    "BestOf",
    "CalibrationTest",
    "Chi2",
    "ControlError",
    "CovarianceError",
    "Coverage",
    "Draws",
    "Excess",
    "Features",
    "Floor",
    "FullReference",
    "MeanError",
    "Metric",
    "ModeWeightTV",
    "PathMetric",
    "Price",
    "RankStatistic",
    "Residual",
    "SampleMetric",
    "SetMetric",
    "Similarity",
    "SlicedWasserstein",
    "Surprise",
    "VarianceRatio",
    "calibration_test",
    "check_metrics",
    "of_kind",
]
