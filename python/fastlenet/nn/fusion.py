"""What a Sequential runs: its layers, with those that can be fused in one step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from fastlenet.nn.context import Array, Pass, Shape
from fastlenet.nn.layers import Conv2d, Flatten, Layer, Linear, MaxPool2d, MisfitError, ReLU, Sigmoid, gradient_outputs, slide

__all__ = ["Step", "expect_examples", "plan", "replayable", "run_backward", "run_forward"]


class _ConvReLUMaxPool(Layer):
    """Conv2d, ReLU and MaxPool2d in a row, as the one op that they are fused into; made by Sequential, never by a user."""

    def __init__(self, conv: Conv2d, pool: MaxPool2d) -> None:
        self.conv, self.pool = conv, pool

    @staticmethod
    def fits(layers: Sequence[Layer]) -> bool:
        """Whether these three layers are one: stride 1, disjoint windows."""
        if len(layers) < 3 or [type(layer) for layer in layers[:3]] != [Conv2d, ReLU, MaxPool2d]:
            return False
        conv, _, pool = layers[:3]
        assert isinstance(conv, Conv2d) and isinstance(pool, MaxPool2d)
        return (
            conv.stride == (1, 1)
            and pool.stride == pool.kernel_size
            and pool.padding == (0, 0)
            and math.prod(pool.kernel_size) <= 255
        )

    def output_shape(self, shape: Shape) -> Shape:
        # The pooling windows are disjoint, and the convolution's stride is 1: as one window that is as large as both.
        window = (
            self.conv.kernel_size[0] + self.pool.kernel_size[0] - 1,
            self.conv.kernel_size[1] + self.pool.kernel_size[1] - 1,
        )
        return (self.conv.out_channels, *slide(shape, self.conv.in_channels, window, self.pool.kernel_size, self.conv.padding))

    def pack(self, weight: Array, backend: ModuleType, algorithm: str) -> Array | None:
        packed: Array = backend.pack_filters(weight, algorithm)
        return packed

    def forward(self, x: Array, run: Pass, at: int, name: str, out: Array | None) -> Array:
        weight, bias = run.parameters[f"{name}.weight"], run.parameters.get(f"{name}.bias")
        shape = (len(x), *self.output_shape(x.shape[1:]))
        y = run.workspace.take((at, "y"), shape) if out is None else out
        winners = run.workspace.take((at, "winners"), shape, np.uint8)
        run.backend.conv2d_relu_max_pool2d_forward(
            x,
            weight,
            bias,
            padding=self.conv.padding,
            kernel_size=self.pool.kernel_size,
            algorithm=run.algorithm,
            packed=run.packed.get(f"{name}.weight"),
            out=(y, winners),
        )
        run.saved[at] = (x, winners)
        return y

    def backward(self, dy: Array, run: Pass, at: int, name: str, need_dx: bool) -> Array | None:
        x, winners = run.saved[at]
        dx: Array | None = run.backend.conv2d_relu_max_pool2d_backward(
            dy,
            winners,
            x,
            run.parameters[f"{name}.weight"],
            padding=self.conv.padding,
            kernel_size=self.pool.kernel_size,
            need_dx=need_dx,
            out=gradient_outputs(run, at, name, x.shape, need_dx),
        )[0]
        return dx


@dataclass(frozen=True)
class Step:
    """A layer of the running plan, at its place among the layers and with its parameters' prefix."""

    layer: Layer
    at: int
    name: str


def plan(layers: Sequence[Layer], names: Sequence[str]) -> list[Step]:
    """What to run: the layers, with what can be fused in one step."""
    steps: list[Step] = []
    at = 0
    while at < len(layers):
        if _ConvReLUMaxPool.fits(layers[at:]):
            conv, pool = layers[at], layers[at + 2]
            assert isinstance(conv, Conv2d) and isinstance(pool, MaxPool2d)
            steps.append(Step(_ConvReLUMaxPool(conv, pool), at, names[at]))
            at += 3
        else:
            steps.append(Step(layers[at], at, names[at]))
            at += 1
    return steps


def replayable(steps: Sequence[Step]) -> bool:
    """Whether all that the steps do is call ops, the same on the same arrays every time: not so dropout, whose counter goes on,
    nor perhaps a layer of the user's.
    """
    layers = (_ConvReLUMaxPool, Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sigmoid)
    return all(type(step.layer) in layers for step in steps)


def expect_examples(x: Any) -> None:
    """Raises TypeError for what is no array, or has no axis of examples."""
    if not getattr(x, "shape", ()):
        got = f"one of shape {x.shape}" if hasattr(x, "shape") else type(x).__name__
        raise TypeError(f"x expects an array of float32, one example in each row, got {got}")


def run_forward(steps: Sequence[Step], x: Array, run: Pass) -> Array:
    """Runs the plan, in the workspace; the result is an array of the caller's own, unless the pass will be replayed.

    Raises TypeError and ValueError, which name the layer.
    """
    expect_examples(x)
    for step in steps:
        try:
            out = None
            if step is steps[-1] and not run.replays:
                out = run.backend.empty((len(x), *step.layer.output_shape(tuple(x.shape[1:]))))
            x = step.layer.forward(x, run, step.at, step.name, out)
        except MisfitError as error:
            raise ValueError(f"layer {step.name!r}: x expects shape (n, {error.expected}), got {tuple(x.shape)}") from None
        except (TypeError, ValueError) as error:
            raise _named(step, error) from None
    return x


def run_backward(steps: Sequence[Step], dy: Array, run: Pass, *, need_dx: bool) -> Array | None:
    """Fills the gradients; returns the gradient by x if need_dx. Raises TypeError and ValueError, which name the layer."""
    gradient: Array | None = dy
    for step in reversed(steps):
        assert gradient is not None
        wanted = need_dx or step is not steps[0]
        try:
            gradient = step.layer.backward(gradient, run, step.at, step.name, wanted)
        except (TypeError, ValueError) as error:
            raise _named(step, error) from None
        if gradient is None:
            break
    return gradient


def _named(step: Step, error: Exception) -> Exception:
    """The same error, which names the layer."""
    kind = TypeError if isinstance(error, TypeError) else ValueError
    return kind(f"layer {step.name!r}: {error}")
