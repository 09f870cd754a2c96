"""What an operator A in y = A(x) + noise has to offer.

A linear operator needs `forward` and its exact transpose `adjoint`. Everything else follows from one solve in the
space of the measurement, `gram_solve(v, rho)` = (A A^T + rho I)^-1 v, by conjugate residuals (see `solve`) unless a
closed form is written:

    pinv(y)           = A^T (A A^T)^-1 y                                     the shortest image with A x nearest to y
    prox(x, y, rho)   = x + A^T (A A^T + rho I)^-1 (y - A x)                 argmin_z |A z - y|^2 + rho |z - x|^2

Images are [B, C, H, W] in [-1, 1]; rho is a float or a tensor [B, 1, ...].

A non-linear operator is `forward`, made of torch operations. Some have a pseudo-inverse in the sense of Song et al.
(ICLR 2023, section 3.3), A(A^+(A(x))) = A(x), and derive from `PseudoInvertible`.

What is random is drawn per item, from (seed, item), so that a run needs no file to be repeated. To share it with
others, `rbctrl draw` writes it to one and the operator's `file` reads it (see `stored`).

Where A is ill-conditioned and rho small or 0, the iteration ends before it has converged. The images above are then
regularised ones, in which small singular values of A are damped as by a larger rho. Where the relative residual is left
above `solve.USEFUL`, the log says so, once per operator. It is no error: the exact solution would amplify the noise of
y by up to 1 / (2 sqrt(rho)), and for rho = 0 by one over the smallest singular value.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from rbctrl.checkpoints import RequiredFile
from rbctrl.noise import IMAGE, Noise
from rbctrl.operators.solve import conjugate_residual
from rbctrl.operators.svd import SVD
from rbctrl.rng import ImageRNG

log = logging.getLogger(__name__)


class Operator(nn.Module, ABC):
    """A measurement, differentiable where a gradient exists. Drawn masks and kernels are buffers.

    Attributes:
        drawn: name of the buffer [B, ...] that `draw` fills per item; None: nothing is random.
        y_is: what y is. An `IMAGE` has brightness on [-1, 1], -1 black, and Poisson noise counts its photons; of
            anything else it has none to count.
    """

    drawn: ClassVar[str | None] = None
    y_is: ClassVar[str] = IMAGE

    @abstractmethod
    def forward(self, image: Tensor) -> Tensor:
        """Images [B, C, H, W] to measurements [B, ...]."""

    def measure(self, image: Tensor) -> Tensor:
        """What y is before noise, [B, ...]: A(image), unless the operator has a picture of its own to measure."""
        return self(image)

    def draw(self, rng: ImageRNG, shape: tuple[int, ...]) -> Operator:
        """The operator of one batch: what is random or depends on the image shape [C, H, W] is fixed, row by row."""
        return self

    def take(self, rows: Tensor) -> Operator:
        """The operator of the given rows; what was drawn per image is indexed."""
        return self

    def image_shape(self, y_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The image shape [C, H, W] that gives measurements of shape `y_shape` (no batch)."""
        return y_shape

    def guess(self, y: Tensor) -> Tensor:
        """A first image [B, C, H, W] for methods that start from one; mid-grey unless a subclass knows better."""
        return y.new_zeros(len(y), *self.image_shape(tuple(y.shape[1:])))

    @property
    def observed(self) -> Tensor | None:
        """1 where an entry of y is measured, 0 where it is not, broadcastable to y; None: everywhere."""
        return None

    def doubt(self, noise: Noise) -> str | None:
        """Why such a noise is hardly what is meant, in one sentence for the log; None if it may well be."""
        return None

    def load(self) -> None:
        """Reads the weights, once, after everything that can be checked without them has been checked."""

    def files(self) -> tuple[RequiredFile, ...]:
        """What is read and does not come with the package; the paths of the configuration are known without it."""
        return ()

    def fingerprint(self) -> str:
        """Identifies the weights, for the key of a result; empty where the configuration says it all."""
        return ""


class PseudoInvertible(Operator):
    """An operator with an A^+ such that A(A^+(A(x))) = A(x)."""

    @abstractmethod
    def pinv(self, y: Tensor) -> Tensor:
        """A^+(y), an image [B, C, H, W] that is measured as y, for every y = A(x)."""

    def guess(self, y: Tensor) -> Tensor:
        """A^+(y)."""
        return self.pinv(y)


class LinearOperator(PseudoInvertible):
    """A linear operator with its exact transpose.

    Attributes:
        way_out: what the log tells a user to change where `gram_solve` does not converge.
    """

    way_out = "a larger noise (and with it rho), or float64, which gets further than float32"

    def __init__(self) -> None:
        super().__init__()
        self._told: list[str] = []  # what was said; drawn copies share it

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y."""

    def gram_solve(self, v: Tensor, rho: float | Tensor = 0.0) -> Tensor:
        """(A A^T + rho I)^-1 v; for rho = 0 a least-squares solution.

        Here by conjugate residual steps, up to 500 in fp32 and 1000 in fp64, each row on its own: to a relative
        residual of 1e-6 and 1e-12 where that is within reach, else a regularised solution and, above 1e-3, one line in
        the log.
        """

        def gram(w: Tensor) -> Tensor:
            return self(self.adjoint(w)) + rho * w

        steps = 1000 if v.dtype == torch.float64 else 500
        return conjugate_residual(gram, v, self.preconditioner(v, rho), max_steps=steps, warn=self._tell)

    def preconditioner(self, v: Tensor, rho: float | Tensor) -> Callable[[Tensor], Tensor] | None:
        """A cheap symmetric positive definite map close to (A A^T + rho I)^-1, for measurements like v; None: none."""
        return None

    def _tell(self, message: str) -> None:
        if not self._told:
            self._told.append(f"{type(self).__name__}: {message}. Ways out: {self.way_out}. Said once")
            log.warning(self._told[0])

    def pinv(self, y: Tensor) -> Tensor:
        """A^+ y, the pseudo-inverse; where it is iterated and A ill-conditioned, a regularised one (see the module)."""
        return self.adjoint(self.gram_solve(y))

    def prox(self, image: Tensor, y: Tensor, rho: float | Tensor) -> Tensor:
        """argmin_z |A z - y|^2 + rho |z - image|^2; rho = 0 is the limit, the nearest image with A z = y."""
        return image + self.adjoint(self.gram_solve(y - self(image), rho))

    def svd(self, like: Tensor) -> SVD | None:
        """A = U S V^T for images of the shape, dtype and device of `like` [B, C, H, W]; None: it is not tractable."""
        return None
