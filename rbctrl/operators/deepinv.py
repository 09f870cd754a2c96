"""Physics of deepinv as operators.

A linear one is applied to the image on [-1, 1] as it is: its A, A_adjoint and A_dagger are linear there, too. A y that
deepinv measured on [0, 1] is, in these units, 2 y - A(1). Another one gets the image on the range that it is made for.
Noise is that of `noise=`: the noise model of the physics is not used. deepinv is not imported here.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor, nn

from rbctrl.operators.base import LinearOperator, Operator

_UNKNOWN = "whatever its physics measures"


class DeepinvLinear(LinearOperator):
    """A linear physics of deepinv, or any module with A, A_adjoint and A_dagger.

    `rbctrl check operator=deepinv_linear ...` says whether its A_adjoint is the transpose.

    Args:
        physics: the module; the same for all images of a batch.
        image_shape: [C, H, W] of the image, where its measurements have another shape; None: the same.

    Raises:
        ValueError: the physics has no A_adjoint or A_dagger.
    """

    y_is: ClassVar[str] = _UNKNOWN

    def __init__(self, physics: nn.Module, image_shape: tuple[int, ...] | None = None) -> None:
        super().__init__()
        _needs(physics, "A", "A_adjoint", "A_dagger")
        self.physics = physics
        self._image_shape = None if image_shape is None else tuple(image_shape)

    def forward(self, image: Tensor) -> Tensor:
        return self.physics.A(image)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.physics.A_adjoint(y)

    def pinv(self, y: Tensor) -> Tensor:
        return self.physics.A_dagger(y)

    def image_shape(self, y_shape: tuple[int, ...]) -> tuple[int, ...]:
        return y_shape if self._image_shape is None else self._image_shape


class DeepinvPhysics(Operator):
    """Any physics of deepinv, or module with a differentiable A.

    Args:
        physics: the module; the same for all images of a batch.
        value_range: of the images that it is made for: "unit" is [0, 1], as deepinv's are; "signed" is [-1, 1].
        image_shape: [C, H, W] of the image, where its measurements have another shape; None: the same.

    Raises:
        ValueError: the physics has no A, or an unknown range.
    """

    y_is: ClassVar[str] = _UNKNOWN

    def __init__(
        self,
        physics: nn.Module,
        value_range: Literal["unit", "signed"] = "unit",
        image_shape: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        _needs(physics, "A")
        if value_range not in ("unit", "signed"):
            raise ValueError(f"value_range is 'unit' or 'signed', got {value_range!r}")
        self.physics, self.value_range = physics, value_range
        self._image_shape = None if image_shape is None else tuple(image_shape)

    def forward(self, image: Tensor) -> Tensor:
        return self.physics.A((image + 1) / 2 if self.value_range == "unit" else image)

    def image_shape(self, y_shape: tuple[int, ...]) -> tuple[int, ...]:
        return y_shape if self._image_shape is None else self._image_shape


def _needs(physics: nn.Module, *names: str) -> None:
    missing = [name for name in names if not callable(getattr(physics, name, None))]
    if missing:
        way_out = "operator=deepinv_physics takes any differentiable A" if "A" not in missing else "it is no physics"
        raise ValueError(f"{type(physics).__name__} has no {' and no '.join(missing)}: {way_out}")
