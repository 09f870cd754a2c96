"""The non-linear operators, shared by tests: each with the smallest images that it measures."""

from __future__ import annotations

import torch

from rbctrl.operators import JPEG, GammaBlur, GaussianBlur, HighDynamicRange, MotionBlur, PhaseRetrieval, Quantize

SMOOTH = {  # differentiable but for a set of kinks
    "phase_retrieval": (PhaseRetrieval, (2, 8, 6)),
    "phase_retrieval_signed": (lambda: PhaseRetrieval(2.0, "signed"), (2, 8, 6)),
    "hdr": (HighDynamicRange, (2, 4, 5)),
    "gamma_blur": (lambda: GammaBlur(MotionBlur(5, 0.5)), (2, 6, 8)),
    "gamma_blur_gauss": (lambda: GammaBlur(GaussianBlur(0.7)), (2, 6, 8)),
}
STEPS = {  # with the gradient of what lies under the steps
    "quantize": (lambda: Quantize(2), (2, 4, 5)),
    "jpeg_444": (lambda: JPEG(20, "4:4:4"), (3, 16, 8)),
    "jpeg_422": (lambda: JPEG(20, "4:2:2"), (3, 8, 16)),
    "jpeg_420": (lambda: JPEG(20), (3, 16, 32)),
    "jpeg_420_replicate": (lambda: JPEG(20, "4:2:0", "replicate"), (3, 16, 32)),
}
NONLINEAR = SMOOTH | STEPS
PINV = ("hdr", *STEPS)


def images(make_rng, shape: tuple[int, ...], n: int = 3) -> torch.Tensor:
    """Uniform images [n, *shape] in [-1, 1]."""
    return 2 * make_rng(n).uniform("image", shape) - 1
