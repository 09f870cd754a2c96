"""Gradients through large frozen autoencoders with little memory.

A convolution is linear: its gradient with respect to the input needs the weights, not the input, which autograd would
keep all the same. What is left to keep, the inputs of norms and activations, is computed again, layer by layer, inside
the blocks that diffusers computes again: three forwards instead of one, and the memory of the largest layer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

_LAYERS = ("ResnetBlock2D", "Attention", "Upsample2D", "Downsample2D")


class _Conv2d(torch.autograd.Function):
    """F.conv2d with respect to its input alone."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, layer: nn.Conv2d) -> Tensor:
        ctx.layer, ctx.shape = layer, x.shape
        return F.conv2d(x, layer.weight, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        layer = ctx.layer
        how = (layer.stride, layer.padding, layer.dilation, layer.groups)
        return nn.grad.conv2d_input(ctx.shape, layer.weight, grad, *how), None


def forget_inputs(model: nn.Module) -> None:
    """Convolutions of frozen weights keep nothing for the backward pass."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
            layer.forward = partial(_convolve, layer, layer.forward)


def recompute_layers(model: nn.Module) -> None:
    """Layers keep their inputs only, and run again in the backward pass."""
    for layer in model.modules():
        if type(layer).__name__ in _LAYERS:
            layer.forward = partial(_recompute, layer.forward)


def _convolve(layer: nn.Conv2d, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    frozen = torch.is_grad_enabled() and x.requires_grad and not layer.weight.requires_grad
    return _Conv2d.apply(x, layer) if frozen else forward(x)


def _recompute(forward: Callable[..., Tensor], x: Tensor, *args: object, **kwargs: object) -> Tensor:
    if torch.is_grad_enabled() and x.requires_grad:
        return checkpoint(forward, x, *args, use_reentrant=False, **kwargs)
    return forward(x, *args, **kwargs)
