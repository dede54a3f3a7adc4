"""
The compiled kernels; private. Use fastlenet.ops.
"""

from __future__ import annotations
import collections.abc
import numpy.typing
import typing

__all__: list[str] = [
    "DeviceError",
    "Recording",
    "adam_step",
    "cgroup_cpus",
    "compiler",
    "conv2d_backward",
    "conv2d_forward",
    "conv2d_relu_max_pool2d_backward",
    "conv2d_relu_max_pool2d_forward",
    "cuda_backend",
    "cuda_status",
    "dropout_backward",
    "dropout_forward",
    "ema_step",
    "gather_augmented",
    "gather_images",
    "get_num_threads",
    "level",
    "levels_available",
    "levels_built",
    "linear_backward",
    "linear_forward",
    "max_pool2d_backward",
    "max_pool2d_forward",
    "multiply_add_peak",
    "pack_filters",
    "relu_backward",
    "relu_forward",
    "set_level",
    "set_num_threads",
    "sgd_step",
    "sigmoid_backward",
    "sigmoid_forward",
    "softmax_cross_entropy",
    "squared_error",
]

class Recording:
    def __enter__(self) -> None: ...
    def __exit__(self, arg0: typing.Any, arg1: typing.Any, arg2: typing.Any) -> None: ...
    def __init__(self, subject: typing.Any) -> None: ...
    def replay(self, array: typing.Any) -> bool: ...
    def run(self, array: typing.Any, result: numpy.ndarray) -> typing.Any: ...
    @property
    def calls(self) -> int: ...

class DeviceError(RuntimeError):
    pass

def adam_step(
    parameters: typing.Any,
    gradients: typing.Any,
    first_moment: typing.Any,
    second_moment: typing.Any,
    step: typing.SupportsInt,
    lr: typing.SupportsFloat,
    beta1: typing.SupportsFloat,
    beta2: typing.SupportsFloat,
    eps: typing.SupportsFloat,
    weight_decay: typing.SupportsFloat,
) -> None: ...
def cgroup_cpus(root: str) -> int: ...
def compiler() -> str: ...
def conv2d_backward(
    dy: typing.Any,
    x: typing.Any,
    weight: typing.Any,
    stride: typing.Annotated[collections.abc.Sequence[typing.SupportsInt], "FixedSize(2)"],
    padding: typing.Annotated[collections.abc.Sequence[typing.SupportsInt], "FixedSize(2)"],
    need_dx: bool,
    out: typing.Any,
) -> tuple[typing.Any, ...]: ...
def conv2d_forward(
    x: typing.Any,
    weight: typing.Any,
    bias: typing.Any,
    stride: typing.Annotated[collections.abc.Sequence[typing.SupportsInt], "FixedSize(2)"],
    padding: typing.Annotated[collections.abc.Sequence[typing.SupportsInt], "FixedSize(2)"],
    out: typing.Any,
) -> numpy.typing.NDArray[typing.Any]: ...
def conv2d_relu_max_pool2d_backward(
    dy: typing.Any,
    winners: typing.Any,
    x: typing.Any,
    weight: typing.Any,
    padding: typing.Annotated[collections.abc.Sequence[typing.SupportsInt], "FixedSize(2)"],
    kernel_size: typing.Annotated[collections.abc.Sequence[typing.SupportsInt], "FixedSize(2)"],
    need_dx: bool,
    out: typing.Any,
) -> tuple[typing.Any, ...]: ...
def conv2d_relu_max_pool2d_forward(
    x: typing.Any,
    weight: typing.Any,
    bias: typing.Any,
    padding: typing.Annotated[collections.abc.Sequence[typing.SupportsInt], "FixedSize(2)"],
    kernel_size: typing.Annotated[collections.abc.Sequence[typing.SupportsInt], "FixedSize(2)"],
    algorithm: str,
    packed: typing.Any,
    out: typing.Any,
) -> tuple[typing.Any, ...]: ...
def cuda_backend() -> typing.Any: ...
def cuda_status() -> str: ...
def dropout_backward(dy: typing.Any, mask: typing.Any, out: typing.Any) -> numpy.typing.NDArray[typing.Any]: ...
def dropout_forward(
    x: typing.Any, rate: typing.SupportsFloat, seed: typing.SupportsInt, counter: typing.SupportsInt, out: typing.Any
) -> tuple[typing.Any, ...]: ...
def ema_step(average: typing.Any, parameters: typing.Any, decay: typing.SupportsFloat) -> None: ...
def gather_augmented(
    images: typing.Any,
    index: typing.Any,
    mean: typing.SupportsFloat,
    std: typing.SupportsFloat,
    shift: typing.SupportsInt,
    rotation: typing.SupportsFloat,
    scale: typing.SupportsFloat,
    shear: typing.SupportsFloat,
    elastic: typing.SupportsFloat,
    elastic_sigma: typing.SupportsFloat,
    cutout: typing.SupportsInt,
    seed: typing.SupportsInt,
    epoch: typing.SupportsInt,
    out: typing.Any,
) -> numpy.typing.NDArray[typing.Any]: ...
def gather_images(
    images: typing.Any,
    index: typing.Any,
    mean: typing.SupportsFloat,
    std: typing.SupportsFloat,
    transform: typing.Any,
    out: typing.Any,
) -> numpy.typing.NDArray[typing.Any]: ...
def get_num_threads() -> int: ...
def level() -> str: ...
def levels_available() -> list[str]: ...
def levels_built() -> list[str]: ...
def linear_backward(
    dy: typing.Any, x: typing.Any, weight: typing.Any, need_dx: bool, out: typing.Any
) -> tuple[typing.Any, ...]: ...
def linear_forward(
    x: typing.Any, weight: typing.Any, bias: typing.Any, skip_zeros: bool, out: typing.Any
) -> numpy.typing.NDArray[typing.Any]: ...
def max_pool2d_backward(
    dy: typing.Any, indices: typing.Any, x_shape: collections.abc.Sequence[typing.SupportsInt], out: typing.Any
) -> numpy.typing.NDArray[typing.Any]: ...
def max_pool2d_forward(
    x: typing.Any,
    kernel_size: typing.Annotated[collections.abc.Sequence[typing.SupportsInt], "FixedSize(2)"],
    stride: typing.Annotated[collections.abc.Sequence[typing.SupportsInt], "FixedSize(2)"],
    padding: typing.Annotated[collections.abc.Sequence[typing.SupportsInt], "FixedSize(2)"],
    out: typing.Any,
) -> tuple[typing.Any, ...]: ...
def multiply_add_peak(threads: typing.SupportsInt, seconds: typing.SupportsFloat) -> float: ...
def pack_filters(weight: typing.Any, algorithm: str) -> numpy.typing.NDArray[typing.Any]: ...
def relu_backward(dy: typing.Any, y: typing.Any, out: typing.Any) -> numpy.typing.NDArray[typing.Any]: ...
def relu_forward(x: typing.Any, out: typing.Any) -> numpy.typing.NDArray[typing.Any]: ...
def set_level(name: str) -> None: ...
def set_num_threads(count: typing.SupportsInt) -> None: ...
def sgd_step(
    parameters: typing.Any,
    gradients: typing.Any,
    velocity: typing.Any,
    lr: typing.SupportsFloat,
    momentum: typing.SupportsFloat,
    nesterov: bool,
    weight_decay: typing.SupportsFloat,
) -> None: ...
def sigmoid_backward(dy: typing.Any, y: typing.Any, out: typing.Any) -> numpy.typing.NDArray[typing.Any]: ...
def sigmoid_forward(x: typing.Any, out: typing.Any) -> numpy.typing.NDArray[typing.Any]: ...
def softmax_cross_entropy(
    logits: typing.Any, labels: typing.Any, label_smoothing: typing.SupportsFloat, out: typing.Any
) -> tuple[typing.Any, ...]: ...
def squared_error(prediction: typing.Any, target: typing.Any, out: typing.Any) -> tuple[typing.Any, ...]: ...
