"""Measurement operators A in y = A(x) + noise."""

from rbctrl.operators.base import LinearOperator, Operator
from rbctrl.operators.blur import Blur, KernelBlur, MotionBlur
from rbctrl.operators.identity import Identity
from rbctrl.operators.inpainting import BoxMask, FreeformMask, HalfMask, Mask, MaskFile, RandomMask
from rbctrl.operators.separable import Downsample, DownsampleBicubic, GaussianBlur, Separable
from rbctrl.operators.svd import SVD

__all__ = [
    "SVD",
    "Blur",
    "BoxMask",
    "Downsample",
    "DownsampleBicubic",
    "FreeformMask",
    "GaussianBlur",
    "HalfMask",
    "Identity",
    "KernelBlur",
    "LinearOperator",
    "Mask",
    "MaskFile",
    "MotionBlur",
    "Operator",
    "RandomMask",
    "Separable",
]
