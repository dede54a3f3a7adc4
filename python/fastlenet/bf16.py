"""The ops of `fastlenet.ops`, of which some have factors of bfloat16. A model with precision="bf16" calls them.

They have the same names, arguments and errors. In linear layers and in the fused convolution each factor of a product is
rounded to 8 significant bits; biases, sums and results are float32. Some convolutions stay in float32, as their docstrings
say. The CPU's instruction decides how sums are rounded: VDPBF16PS (AVX512_BF16) and TDPBF16PS (AMX) differ in the last bits,
and so have different levels. Each has an emulation in plain C++ with the same bits. FASTLENET_BF16 chooses: vdpbf16ps,
tdpbf16ps, vdpbf16ps-emulated, tdpbf16ps-emulated. See docs/levels.md.
`fastlenet.reference.bf16` has the same in NumPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from fastlenet import _core, ops
from fastlenet.backend import Array, Pair
from fastlenet.backend import Packed as PackedWeight
from fastlenet.ops import (
    Gradients,
    Graph,
    adam_step,
    avg_pool2d_backward,
    avg_pool2d_forward,
    conv2d_backward,
    conv2d_forward,
    dropout_backward,
    dropout_forward,
    ema_step,
    empty,
    gather_images,
    inverse_root,
    leaky_relu_backward,
    leaky_relu_forward,
    max_pool2d_backward,
    max_pool2d_forward,
    muon_step,
    relu_backward,
    relu_forward,
    sgd_step,
    sigmoid_backward,
    sigmoid_forward,
    softmax_cross_entropy,
    softmax_distillation,
    softmax_squared_error,
    squared_error,
    tanh_backward,
    tanh_forward,
)

__all__ = [
    "Graph",
    "Packed",
    "adam_step",
    "avg_pool2d_backward",
    "avg_pool2d_forward",
    "conv2d_backward",
    "conv2d_forward",
    "conv2d_relu_max_pool2d_backward",
    "conv2d_relu_max_pool2d_forward",
    "dropout_backward",
    "dropout_forward",
    "ema_step",
    "empty",
    "gather_images",
    "inverse_root",
    "leaky_relu_backward",
    "leaky_relu_forward",
    "level",
    "linear_backward",
    "linear_forward",
    "max_pool2d_backward",
    "max_pool2d_forward",
    "muon_step",
    "name",
    "relu_backward",
    "relu_forward",
    "sgd_step",
    "sigmoid_backward",
    "sigmoid_forward",
    "softmax_cross_entropy",
    "softmax_distillation",
    "softmax_squared_error",
    "squared_error",
    "tanh_backward",
    "tanh_forward",
]

name = "cpu"  # of this backend


def level() -> str:
    """Returns the level of fastlenet.ops and the instruction whose bits the products have, such as "x86-64-v4+vdpbf16ps".

    Raises ValueError, with the cause and the cure, if this machine cannot compute with bfloat16.
    """
    return f"{ops.level()}+{_core.unit_instruction()}"


class Packed(ops.Packed):
    """A weight in the layout that the ops here read: a matrix rounded to bfloat16; filters as fastlenet.ops packs them."""

    def __init__(self, weight: Array, algorithm: str = "direct") -> None:
        if np.ndim(weight) != 2:
            super().__init__(weight, algorithm)
            return
        PackedWeight.__init__(self, weight, algorithm)
        self.layout: Array = _core.pack_matrix_bf16(weight)


def conv2d_relu_max_pool2d_forward(
    x: Array,
    weight: Array | PackedWeight[Array],
    bias: Array | None = None,
    *,
    padding: Pair = 0,
    kernel_size: Pair = 2,
    algorithm: str = "direct",
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array]:
    """As in fastlenet.ops, of round(x) and round(weight), with sums of float32.

    With VDPBF16PS each sum begins with the bias, and adds pairs of a filter row's taps. For shapes that Winograd's algorithm
    computes, it is the op of fastlenet.ops, in float32: this is faster, and its transforms would lose digits in bfloat16. With
    TDPBF16PS each sum adds parts of filter rows, of up to 32 numbers, and the bias last, whatever the algorithm.
    """
    packed = None
    if isinstance(weight, PackedWeight):
        weight.expect_algorithm("conv2d_relu_max_pool2d_forward", algorithm)
        packed, weight = (weight.layout if isinstance(weight, ops.Packed) else None), weight.weight
    filled = _core.conv2d_relu_max_pool2d_forward_bf16(x, weight, bias, padding, kernel_size, algorithm, packed, out)
    return cast(tuple[Array, Array], filled)


def conv2d_relu_max_pool2d_backward(
    dy: Array,
    winners: Array,
    x: Array,
    weight: Array,
    *,
    padding: Pair = 0,
    kernel_size: Pair = 2,
    need_dx: bool = True,
    out: tuple[Array | None, Array | None, Array | None] | None = None,
) -> Gradients:
    """As in fastlenet.ops, or, where TDPBF16PS is faster, of round(dy), round(x) and round(weight), with sums of float32.

    TDPBF16PS computes dx and dweight if more than 18 % of the windows live, where n counts as the next multiple of 32; if a
    filter row, weight.shape[1] * weight.shape[3], has more than 16 numbers; if neither an image of x with its padding, nor the
    convolution's output, nor k planes of (h + r - 1) * (w + s - 1) have more than 32,768 numbers; and if all numbers are finite
    when they are rounded. Otherwise, and with VDPBF16PS, it is the op of fastlenet.ops, which leaves out the windows that do
    not live. dbias is a sum of dy, not rounded. The same call has the same bits for any number of threads.
    """
    gradients = _core.conv2d_relu_max_pool2d_backward_bf16(dy, winners, x, weight, padding, kernel_size, need_dx, out)
    return cast(Gradients, gradients)


def linear_forward(
    x: Array, weight: Array | PackedWeight[Array], bias: Array | None = None, *, out: Array | None = None
) -> Array:
    """y = round(x) @ round(weight).T + bias, with sums of float32, to which the bias is added last.

    x: (n, in); weight: (out, in), or its Packed; bias: (out,) or None. Returns y: (n, out).
    """
    packed = weight.layout if isinstance(weight, Packed) else None
    matrix = weight.weight if isinstance(weight, PackedWeight) else weight
    return _core.linear_forward_bf16(x, matrix, bias, packed, out)


def linear_backward(
    dy: Array,
    x: Array,
    weight: Array,
    *,
    need_dx: bool = True,
    out: tuple[Array | None, Array | None, Array | None] | None = None,
) -> Gradients:
    """dx = round(dy) @ round(weight), dweight = round(dy).T @ round(x), dbias = sum of dy, not rounded, over n.

    dy: (n, out); x: (n, in); weight: (out, in). dx is None without need_dx.
    """
    return cast(Gradients, _core.linear_backward_bf16(dy, x, weight, need_dx, out))


if TYPE_CHECKING:
    from fastlenet import bf16
    from fastlenet.backend import Backend

    _: Backend[Array] = bf16
