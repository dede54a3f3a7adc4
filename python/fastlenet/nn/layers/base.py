"""The base class of layers, and what layers share."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from fastlenet.backend import Array, Shape
from fastlenet.fields import Values, shown
from fastlenet.nn.context import Context

__all__ = ["FLAG", "SIZE", "Layer", "MisfitError", "Sizes", "expect_only", "gradient_outputs", "sizes", "slide"]


Sizes = tuple[int, int]  # of rows and of columns

_MOST = 2**31 - 1  # channels, features, pixels
SIZE = Values(int, "a positive integer below 2^31", 1, _MOST)
FLAG = Values(bool)


class MisfitError(ValueError):
    """A layer cannot take examples of this shape. expected: the shape of one example that it takes, in words."""

    def __init__(self, expected: str, shape: Shape) -> None:
        super().__init__(expected, shape)  # copies are made from these
        self.expected, self.shape = expected, shape

    def __str__(self) -> str:
        return f"an input expects shape ({self.expected}), got {self.shape}"


class Layer:
    """The base class of layers. Derive your layer from it, define `forward` and `backward`, and put it into a Sequential.

    If the layer has parameters, define `shapes`. If its output has another shape than its input, define `output_shape`. Store
    only settings in the layer itself, and everything that a pass computes in the context, so that several threads can call the
    layer.

    calls_only_ops: set it to True if `forward` and `backward` write to arrays only by ops of `context.ops`, with the same
    Python numbers in every pass. A model may then capture the ops and repeat them without calling the layer. A derived class
    that defines one of the two methods must set it again.
    """

    calls_only_ops: ClassVar[bool] = False
    has_bf16: ClassVar[bool] = False  # whether its ops are others in fastlenet.bf16
    packs: ClassVar[tuple[str, ...]] = ()  # the parameters that `forward` takes by context.weight, packed if frozen

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        own = vars(cls)
        if ("forward" in own or "backward" in own) and "calls_only_ops" not in own:
            cls.calls_only_ops = False

    def output_shape(self, shape: Shape) -> Shape:
        """Returns the shape of one example's output. shape: of one example's input; both without n."""
        return shape

    def shapes(self) -> dict[str, Shape]:
        """Returns the names and shapes of the layer's parameters."""
        return {}

    def fan_in(self) -> int:
        """Returns the number of inputs of one output. Parameters start uniform in +-1/sqrt(fan_in)."""
        return 1

    def multiply_adds(self, shape: Shape) -> int:
        """Returns the multiply-adds of one example's forward pass, for the summary. shape: of the input, without n."""
        return 0

    def forward(self, x: Array, context: Context) -> Array:
        """Compute the layer's output y. x: (n, ...) float32; do not change it. Returns y: (n, *output_shape(x.shape[1:])).

        Compute with the ops of `context.ops` and the parameters `context.parameter("weight")` and so on. Write the result to
        `context.output(shape)`, and return it. Save what `backward` needs by `context.save(...)`. Raise ValueError for a wrong
        shape; the model adds the layer's name.
        """
        raise NotImplementedError(f"{type(self).__name__} expects a method forward(x, context)")

    def backward(self, dy: Array, context: Context) -> Array | None:
        """Compute the gradients of the loss. dy: its gradient with respect to the output; do not change it. Returns dx, like x.

        `context.saved` has what `forward` saved. Overwrite the gradient of each parameter, `context.gradient("weight")` and so
        on. Write dx to `context.output(shape)`, and return it. If `context.need_dx` is false, you may return None instead.
        """
        raise NotImplementedError(f"{type(self).__name__} expects a method backward(dy, context)")

    def __repr__(self) -> str:
        settings = ", ".join(f"{key}={value!r}" for key, value in vars(self).items() if not key.startswith("_"))
        return f"{type(self).__name__}({settings})"


def sizes(name: str, value: object, least: int) -> tuple[int, int]:
    """An int or a pair of ints, for rows and columns."""
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2 or not all(isinstance(size, (int, np.integer)) and not isinstance(size, bool) for size in pair):
        raise TypeError(f"{name} expects an int or a pair of ints, got {value!r}")
    if not least <= min(pair) <= max(pair) <= _MOST:
        raise ValueError(f"{name} expects {'positive' if least else 'non-negative'} ints below 2^31, got {value!r}")
    return int(pair[0]), int(pair[1])


def expect_only(layer: str, there_is: str, **options: tuple[object, object]) -> None:
    """Raise ValueError for an option of PyTorch that has a value which is not supported here."""
    for name, (value, only) in options.items():
        if shown(value) not in (repr(only), repr((only, only)), repr([only, only])):
            cure = f"the arguments that can be set are {there_is}"
            raise ValueError(f"{layer}: {name} expects {only!r}, got {shown(value)}; {cure}")


def slide(shape: Shape, channels: int | None, window: Sizes, stride: Sizes, padding: Sizes) -> tuple[int, int]:
    """The output size of a window that slides over images of shape (c, h, w). Raises MisfitError if it does not fit."""
    legend = "c" if channels is None else str(channels)
    if len(shape) != 3 or (shape[0] != channels if channels is not None else False):
        raise MisfitError(f"{legend}, h, w", shape)
    (h, w), (r, s) = shape[1:], window
    if h + 2 * padding[0] < r or w + 2 * padding[1] < s:
        raise MisfitError(f"{legend}, h >= {max(0, r - 2 * padding[0])}, w >= {max(0, s - 2 * padding[1])}", shape)
    return (h + 2 * padding[0] - r) // stride[0] + 1, (w + 2 * padding[1] - s) // stride[1] + 1


def gradient_outputs(x: Array, context: Context, bias: bool) -> tuple[Array | None, Array, Array | None]:
    """The outputs for dx, dweight and dbias; None for a gradient that is not needed."""
    dx = context.output(x.shape) if context.need_dx else None
    return dx, context.gradient("weight"), context.gradient("bias") if bias else None
