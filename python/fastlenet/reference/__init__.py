"""Every op in plain NumPy, written to be read, with the names and signatures of `fastlenet.ops`.

Arrays are float32 or float64, images NCHW; an op computes in the dtype of its first argument. `fastlenet.ops` documents shapes,
errors and meaning; this package shows how to compute them. Legend: n batch, c in-channels, k out-channels, h w input, p q
output, r s filter or window; gradients dx, dweight, dbias, dy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fastlenet.backend import Array, Uncaptured
from fastlenet.reference.conv import conv2d_backward, conv2d_forward
from fastlenet.reference.conv_pool import conv2d_relu_max_pool2d_backward, conv2d_relu_max_pool2d_forward
from fastlenet.reference.elementwise import (
    dropout_backward,
    dropout_forward,
    leaky_relu_backward,
    leaky_relu_forward,
    relu_backward,
    relu_forward,
    sigmoid_backward,
    sigmoid_forward,
    tanh_backward,
    tanh_forward,
)
from fastlenet.reference.gather import gather_images
from fastlenet.reference.linear import linear_backward, linear_forward
from fastlenet.reference.loss import (
    inverse_root,
    softmax_cross_entropy,
    softmax_distillation,
    softmax_squared_error,
    squared_error,
)
from fastlenet.reference.packed import Packed
from fastlenet.reference.pool import avg_pool2d_backward, avg_pool2d_forward, max_pool2d_backward, max_pool2d_forward
from fastlenet.reference.update import adam_step, ema_step, muon_step, sgd_step

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

name = "reference"  # of this backend


def level() -> str:
    """Returns "numpy": its rounding is that of no level of the kernels."""
    return "numpy"


class Graph(Uncaptured[Array]):
    """Calls the function, but cannot be launched."""

    reason = "the reference cannot be captured: it computes with NumPy's functions, whose calls nothing notes"


def empty(shape: int | Sequence[int], dtype: npt.DTypeLike = np.float32) -> Array:
    return np.empty(shape, dtype)


if TYPE_CHECKING:
    from fastlenet import reference
    from fastlenet.backend import Backend

    _: Backend[Array] = reference
