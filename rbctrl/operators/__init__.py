"""Measurement operators A in y = A(x) + noise."""

from rbctrl.operators.base import LinearOperator, Operator, PseudoInvertible
from rbctrl.operators.blur import Blur, KernelBlur, MotionBlur
from rbctrl.operators.compressed import BlockSensing, Hadamard
from rbctrl.operators.fourier import UndersampledFourier
from rbctrl.operators.gamma_blur import GammaBlur
from rbctrl.operators.grayscale import Grayscale
from rbctrl.operators.identity import Identity
from rbctrl.operators.inpainting import BoxMask, FreeformMask, HalfMask, Mask, RandomMask
from rbctrl.operators.jpeg import JPEG
from rbctrl.operators.mask_file import MaskFile
from rbctrl.operators.nonlinear_blur import NonlinearBlur
from rbctrl.operators.parallel import Parallel
from rbctrl.operators.phase_retrieval import PhaseRetrieval
from rbctrl.operators.saturation import HighDynamicRange, Quantize
from rbctrl.operators.separable import Downsample, DownsampleBicubic, GaussianBlur, Separable
from rbctrl.operators.style import Style
from rbctrl.operators.svd import SVD

__all__ = [
    "JPEG",
    "SVD",
    "BlockSensing",
    "Blur",
    "BoxMask",
    "Downsample",
    "DownsampleBicubic",
    "FreeformMask",
    "GammaBlur",
    "GaussianBlur",
    "Grayscale",
    "Hadamard",
    "HalfMask",
    "HighDynamicRange",
    "Identity",
    "KernelBlur",
    "LinearOperator",
    "Mask",
    "MaskFile",
    "MotionBlur",
    "NonlinearBlur",
    "Operator",
    "Parallel",
    "PhaseRetrieval",
    "PseudoInvertible",
    "Quantize",
    "RandomMask",
    "Separable",
    "Style",
    "UndersampledFourier",
]
