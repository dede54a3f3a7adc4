"""The ops of fastlenet.bf16 in plain NumPy: the factors of products are rounded to bfloat16, the sums are not.

It has no backend's names, since it differs from the reference in these functions only.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastlenet.backend import DEAD, Array, Gradients, Pair
from fastlenet.reference import conv_pool, linear

__all__ = [
    "conv2d_relu_max_pool2d_backward",
    "conv2d_relu_max_pool2d_forward",
    "linear_backward",
    "linear_forward",
    "on_tiles",
    "rounded",
]

# cpp/ops/conv_pool_gradient_low_precision.cpp says why.
LEAST_LIVING_PERCENT = 18
NARROW_ROW = 16
MOST_NUMBERS = 32768
BLOCK = 32  # images


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


def on_tiles(dy: Array, winners: Array, x: Array, weight: Array, *, padding: Pair = 0, need_dx: bool = True) -> bool:
    """Whether tiles, where there are tiles, compute the gradients of the fused convolution; else they are those of float32."""
    (n, c, h, w), (k, _, r, s) = x.shape, weight.shape
    tall, wide = np.add((h, w), np.multiply(2, padding))  # with the padding
    numbers = c * tall * wide, k * (tall - r + 1) * (wide - s + 1), k * (h + r - 1) * (w + s - 1)
    if n == 0 or c * s <= NARROW_ROW or max(numbers) > MOST_NUMBERS:
        return False
    places = winners[0].size * -(-n // BLOCK) * BLOCK
    factors = (dy, x, weight) if need_dx else (dy, x)
    enough = 100 * int(np.count_nonzero(winners != DEAD)) > LEAST_LIVING_PERCENT * places
    return enough and all(bool(np.isfinite(rounded(array)).all()) for array in factors)


def conv2d_relu_max_pool2d_backward(
    dy: Array,
    winners: Array,
    x: Array,
    weight: Array,
    *,
    padding: Pair = 0,
    kernel_size: Pair = 2,
    need_dx: bool = True,
) -> Gradients[Array]:
    """As the reference's; on tiles, dx and dweight are of rounded dy, x and weight. dbias is the sum of dy as it is."""

    def gradients(dy: Array, x: Array, weight: Array) -> Gradients[Array]:
        return conv_pool.conv2d_relu_max_pool2d_backward(
            dy, winners, x, weight, padding=padding, kernel_size=kernel_size, need_dx=need_dx
        )

    exact = gradients(dy, x, weight)
    if not on_tiles(dy, winners, x, weight, padding=padding, need_dx=need_dx):
        return exact
    dx, dweight, _ = gradients(rounded(dy), rounded(x), rounded(weight))
    return dx, dweight, exact[2]


def linear_forward(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """As the reference's linear_forward, of rounded x and weight. The bias is not rounded."""
    return linear.linear_forward(rounded(x), rounded(weight), bias)


def linear_backward(dy: Array, x: Array, weight: Array, *, need_dx: bool = True) -> Gradients[Array]:
    """As the reference's linear_backward, of rounded dy, x and weight. dbias is the sum of dy as it is."""
    dx, dweight, _ = linear.linear_backward(rounded(dy), rounded(x), rounded(weight), need_dx=need_dx)
    return dx, dweight, linear.linear_backward(dy, x, weight, need_dx=False)[2]
