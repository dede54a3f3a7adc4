"""The orders in which programs store kernels and matrices, and the conversion to fastlenet's order.

PyTorch and fastlenet keep kernels as (k, c, r, s) and matrices as (out, in), and flatten (c, h, w). Keras and TensorFlow keep
kernels as (r, s, c, k) and matrices as (in, out), and flatten (h, w, c).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from fastlenet.backend import Array, Shape
from fastlenet.nn import Flatten, Linear, Sequential

__all__ = ["KERAS", "OURS", "Layout", "channels_first", "flattened_shapes"]


@dataclass(frozen=True)
class Layout:
    """words: for a note. turned: whether kernels are (r, s, c, k), matrices (in, out), and images (h, w, c)."""

    words: str
    turned: bool

    def shape(self, shape: Shape) -> Shape:
        """Returns the shape that an array of this layout has in fastlenet's."""
        if not self.turned:
            return shape
        return (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape[::-1]

    def array(self, array: Array, flattened: Shape | None = None) -> Array:
        """Returns an array of this layout in fastlenet's. flattened: the (c, h, w) of the images that a matrix gets as rows."""
        if not self.turned:
            return array
        array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
        return array if flattened is None else channels_first(array, flattened)


OURS = Layout("", False)
KERAS = Layout("with kernels (r, s, c, k), matrices (in, out) and images (h, w, c), as Keras keeps them", True)


def channels_first(matrix: Array, flattened: Shape) -> Array:
    """Returns a matrix (out, h*w*c) with its columns in the order (c, h, w). flattened: (c, h, w)."""
    c, h, w = flattened
    turned: Array = matrix.reshape(-1, h, w, c).transpose(0, 3, 1, 2).reshape(-1, c * h * w)
    return turned


def flattened_shapes(model: Sequential) -> Mapping[str, Shape]:
    """Returns the (c, h, w) of the images that a matrix gets as rows, by the name of the matrix. The model knows its images."""
    shapes: dict[str, Shape] = {}
    before: Shape | None = None
    shape = model.input_shape or ()
    for name, layer in zip(model.names, model.layers, strict=True):
        if isinstance(layer, Flatten) and len(shape) == 3:
            before = shape
        if isinstance(layer, Linear) and before is not None and math.prod(before) == layer.in_features:
            shapes[f"{name}.weight"], before = before, None
        shape = layer.output_shape(shape)
    return shapes
