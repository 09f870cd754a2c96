"""Distances to the truth: PSNR = 10 log10(4 / mean squared error) and SSIM, both on [-1, 1]."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rbctrl.metrics.base import FullReference

_RANGE = 2.0  # images are in [-1, 1]
_WINDOW = 11  # 3.5 standard deviations of 1.5 pixels to each side


class PSNR(FullReference):
    """Peak signal-to-noise ratio in dB; inf for equal images."""

    def compare(self, image: Tensor, truth: Tensor) -> Tensor:
        """PSNR in dB."""
        from torchmetrics.functional.image import peak_signal_noise_ratio

        return peak_signal_noise_ratio(image, truth, data_range=_RANGE)


class SSIM(FullReference):
    """Wang, Bovik, Sheikh and Simoncelli, Image quality assessment, IEEE TIP 2004: Gaussian window of 1.5 pixels.

    Averaged over the windows that lie inside the image, and over channels, as in the paper and in scikit-image with
    `gaussian_weights=True, sigma=1.5, use_sample_covariance=False`. torchmetrics' default differs: it averages
    over mirrored borders too. So does scikit-image's: a uniform window of 7 pixels. NaN for images of fewer than 11
    pixels on a side.
    """

    def compare(self, image: Tensor, truth: Tensor) -> Tensor:
        """SSIM, at most 1."""
        from torchmetrics.functional.image import structural_similarity_index_measure

        if min(image.shape[2:]) < _WINDOW:
            return torch.tensor(math.nan)
        _, local = structural_similarity_index_measure(
            image, truth, gaussian_kernel=True, sigma=1.5, data_range=_RANGE, return_full_image=True
        )
        border = _WINDOW // 2
        return local[..., border:-border, border:-border].mean()
