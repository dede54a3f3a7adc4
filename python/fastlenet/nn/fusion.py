"""The steps that a Sequential runs: its layers, some of them fused."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastlenet.backend import DEAD, Array, Shape
from fastlenet.fields import shown
from fastlenet.nn.context import Context
from fastlenet.nn.layers.activation import ReLU
from fastlenet.nn.layers.base import Layer, MisfitError, gradient_outputs, slide
from fastlenet.nn.layers.conv import Conv2d
from fastlenet.nn.layers.pool import MaxPool2d

__all__ = ["Step", "expect_examples", "plan", "run_backward", "run_forward"]


class _ConvReLUMaxPool(Layer):
    """Conv2d, ReLU and MaxPool2d in a row, computed by one op. Sequential makes it; users do not."""

    replaces = (Conv2d, ReLU, MaxPool2d)
    calls_only_ops = True
    packs = ("weight",)
    has_bf16 = True

    def __init__(self, conv: Conv2d, pool: MaxPool2d) -> None:
        self.conv, self.pool = conv, pool

    @classmethod
    def of(cls, layers: Sequence[Layer]) -> _ConvReLUMaxPool | None:
        """Returns three layers as one, or None if they cannot be fused. They need stride 1 and disjoint windows of up to 255
        elements."""
        if tuple(type(layer) for layer in layers) != cls.replaces:
            return None
        conv, _, pool = layers
        assert isinstance(conv, Conv2d) and isinstance(pool, MaxPool2d)
        disjoint = pool.stride == pool.kernel_size and pool.padding == (0, 0)
        fits = conv.stride == (1, 1) and disjoint and math.prod(pool.kernel_size) <= DEAD
        return cls(conv, pool) if fits else None

    def output_shape(self, shape: Shape) -> Shape:
        # With disjoint pooling windows and stride 1, both together are one window of this size.
        window = (
            self.conv.kernel_size[0] + self.pool.kernel_size[0] - 1,
            self.conv.kernel_size[1] + self.pool.kernel_size[1] - 1,
        )
        return (self.conv.out_channels, *slide(shape, self.conv.in_channels, window, self.pool.kernel_size, self.conv.padding))

    def forward(self, x: Array, context: Context) -> Array:
        shape = (len(x), *self.output_shape(x.shape[1:]))
        y, winners = context.output(shape), context.scratch("winners", shape, np.uint8)
        context.save(x, winners)
        return context.ops.conv2d_relu_max_pool2d_forward(
            x,
            context.weight("weight"),
            context.parameter("bias") if self.conv.bias else None,
            padding=self.conv.padding,
            kernel_size=self.pool.kernel_size,
            algorithm=context.algorithm,
            out=(y, winners),
        )[0]

    def backward(self, dy: Array, context: Context) -> Array | None:
        x, winners = context.saved
        return context.ops.conv2d_relu_max_pool2d_backward(
            dy,
            winners,
            x,
            context.parameter("weight"),
            padding=self.conv.padding,
            kernel_size=self.pool.kernel_size,
            need_dx=context.need_dx,
            out=gradient_outputs(x, context, self.conv.bias),
        )[0]


@dataclass(frozen=True)
class Step:
    """A layer to run, its position among the model's layers, and the prefix of its parameters' names.

    rounds: whether it computes with bfloat16 in a model of that precision.
    """

    layer: Layer
    at: int
    name: str
    rounds: bool = False


def plan(layers: Sequence[Layer], names: Sequence[str]) -> list[Step]:
    """Returns the steps of a model: its layers, fused where possible.

    The last layer with parameters gives the scores, and never computes with bfloat16: it costs little, and its outputs decide.
    """
    steps: list[Step] = []
    last = max((at for at, layer in enumerate(layers) if layer.shapes()), default=0)
    at = 0
    while at < len(layers):
        fused = _ConvReLUMaxPool.of(layers[at : at + 3])
        layer = fused or layers[at]
        steps.append(Step(layer, at, names[at], rounds=layer.has_bf16 and at != last))
        at += 3 if fused else 1
    return steps


def expect_examples(x: object) -> None:
    """Raise TypeError if x is no array, or has no axis of examples."""
    shape = getattr(x, "shape", None)
    if not shape:
        got = type(x).__name__ if shape is None else f"one of shape {shape}"
        raise TypeError(f"x expects an array of float32, one example in each row, got {got}")


def run_forward(steps: Sequence[Step], x: Array, context: Context) -> Array:
    """Run the steps on x. Returns the output, which belongs to the caller, unless the pass is captured.

    Raises TypeError or ValueError, which names the layer.
    """
    expect_examples(x)
    last = steps[-1] if steps and not context.captures else None
    for step in steps:
        context.enter(step.at, step.name, last=step is last, rounds=step.rounds)
        if context.captures:
            _void_unless_promised(step, context)
        try:
            y = step.layer.forward(x, context)
        except MisfitError as error:
            raise ValueError(f"layer {shown(step.name)}: x expects shape (n, {error.expected}), got {tuple(x.shape)}") from None
        except (TypeError, ValueError) as error:
            raise _named(step, error) from None
        if not hasattr(y, "shape"):
            raise TypeError(f"layer {shown(step.name)}: forward expects to return an array, got {type(y).__name__}")
        x = y
    return x if context.captures else context.own(x)


def run_backward(steps: Sequence[Step], dy: Array, context: Context, *, need_dx: bool) -> Array | None:
    """Fill the gradients. Returns the gradient with respect to x if need_dx. The errors are those of run_forward."""
    gradient: Array | None = dy
    for step in reversed(steps):
        assert gradient is not None
        wanted = need_dx or step is not steps[0]
        context.enter(step.at, step.name, output="dx", need_dx=wanted, rounds=step.rounds)
        if context.captures:
            _void_unless_promised(step, context)
        try:
            gradient = step.layer.backward(gradient, context)
        except (TypeError, ValueError) as error:
            raise _named(step, error) from None
        if wanted and gradient is None:
            raise TypeError(f"layer {shown(step.name)}: backward expects to return the gradient by its input, got None")
    return gradient if need_dx else None


def _void_unless_promised(step: Step, context: Context) -> None:
    """Void the graph that is being captured if the step's layer may do more than call ops."""
    if not step.layer.calls_only_ops:
        kind = type(step.layer).__name__
        context.ops.Graph.void(
            f"layer {shown(step.name)}: {kind} may do more than call ops, unless it says calls_only_ops = True"
        )


def _named(step: Step, error: Exception) -> Exception:
    """Returns the error with the layer's name."""
    kind = TypeError if isinstance(error, TypeError) else ValueError
    return kind(f"layer {shown(step.name)}: {error}")
