"""The backend for NVIDIA GPUs: LeNet(ops=fastlenet.cuda) runs the network there.

It has the names of `fastlenet.ops`, and hand-written kernels without cuDNN or cuBLAS. In a build without CUDA, using it raises
a DeviceError that names the command to install it.
"""

from typing import TYPE_CHECKING

from fastlenet._core import DeviceError
from fastlenet.cuda.array import DeviceArray, from_dlpack, from_numpy
from fastlenet.cuda.graph import Graph, synchronize
from fastlenet.cuda.ops import (
    Packed,
    adam_step,
    avg_pool2d_backward,
    avg_pool2d_forward,
    conv2d_backward,
    conv2d_forward,
    conv2d_relu_max_pool2d_backward,
    conv2d_relu_max_pool2d_forward,
    dropout_backward,
    dropout_forward,
    ema_step,
    empty,
    gather_images,
    inverse_root,
    leaky_relu_backward,
    leaky_relu_forward,
    level,
    linear_backward,
    linear_forward,
    max_pool2d_backward,
    max_pool2d_forward,
    muon_step,
    name,
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
    "DeviceArray",
    "DeviceError",
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
    "from_dlpack",
    "from_numpy",
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
    "synchronize",
    "tanh_backward",
    "tanh_forward",
]

if TYPE_CHECKING:
    from fastlenet import cuda
    from fastlenet.backend import Backend

    _: Backend[DeviceArray] = cuda
