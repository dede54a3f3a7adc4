"""The ops of fastlenet.bf16 in plain NumPy: the factors of products are rounded to bfloat16, the sums are not.

It has no backend's names, since it differs from the reference in these functions only.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastlenet.backend import Array, Gradients, Pair
from fastlenet.reference import conv_pool, linear

__all__ = ["conv2d_relu_max_pool2d_forward", "linear_backward", "linear_forward", "rounded"]


def rounded(x: npt.ArrayLike) -> Array:
    """Returns x with every number rounded to the nearest bfloat16, ties to even, in x's dtype. x: floats of any shape.

    A bfloat16 has the exponent of float32 and 8 significant bits, so what is left is the upper half of the float32. Denormal
    numbers, below 2^-126, become zeros of their sign. NaN stays NaN; a number above the largest bfloat16 becomes infinite.
    Source: VCVTNEPS2BF16 in Intel's manual.
    """
    x = np.asarray(x)
    bits = x.astype(np.float32).view(np.uint32).astype(np.uint64)
    upper = np.where(np.isnan(x), bits | 0x400000, bits + 0x7FFF + (bits >> 16 & 1)) >> 16  # a NaN is cut, and made quiet
    upper = np.where(bits & 0x7F800000, upper, bits >> 31 << 15)
    return (upper << 16).astype(np.uint32).view(np.float32).astype(x.dtype)


def conv2d_relu_max_pool2d_forward(
    x: Array, weight: Array, bias: Array | None = None, *, padding: Pair = 0, kernel_size: Pair = 2
) -> tuple[Array, Array]:
    """As the reference's, of rounded x and weight. The bias is not rounded."""
    return conv_pool.conv2d_relu_max_pool2d_forward(rounded(x), rounded(weight), bias, padding=padding, kernel_size=kernel_size)


def linear_forward(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """As the reference's linear_forward, of rounded x and weight. The bias is not rounded."""
    return linear.linear_forward(rounded(x), rounded(weight), bias)


def linear_backward(dy: Array, x: Array, weight: Array, *, need_dx: bool = True) -> Gradients[Array]:
    """As the reference's linear_backward, of rounded dy, x and weight. dbias is the sum of dy as it is."""
    dx, dweight, _ = linear.linear_backward(rounded(dy), rounded(x), rounded(weight), need_dx=need_dx)
    return dx, dweight, linear.linear_backward(dy, x, weight, need_dx=False)[2]
