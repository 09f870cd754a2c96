"""Metrics: metric(image, truth, observation) -> [B]."""

from rbctrl.metrics.base import FullReference, Metric
from rbctrl.metrics.consistency import NLL, Chi2
from rbctrl.metrics.lpips import LPIPS
from rbctrl.metrics.restoration import PSNR, SSIM

__all__ = ["LPIPS", "NLL", "PSNR", "SSIM", "Chi2", "FullReference", "Metric"]
