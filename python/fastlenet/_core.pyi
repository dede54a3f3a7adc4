"""
The compiled kernels; private. Use fastlenet.ops.
"""

from __future__ import annotations
import collections.abc
import numpy.typing
import typing

__all__: list[str] = [
    "DeviceError",
    "Graph",
    "Int8Network",
    "adam_step",
    "amx_state",
    "avg_pool2d_backward",
    "avg_pool2d_forward",
    "barriers",
    "cgroup_cpus",
    "compiler",
    "conv2d_backward",
    "conv2d_forward",
    "conv2d_relu_max_pool2d_backward",
    "conv2d_relu_max_pool2d_backward_bf16",
    "conv2d_relu_max_pool2d_forward",
    "conv2d_relu_max_pool2d_forward_bf16",
    "cuda_backend",
    "cuda_status",
    "dot_bf16",
    "dropout_backward",
    "dropout_forward",
    "ema_step",
    "gather_augmented",
    "gather_images",
    "get_num_threads",
    "int8_unit",
    "int8_units_available",
    "int8_units_built",
    "leaky_relu_backward",
    "leaky_relu_forward",
    "level",
    "levels_available",
    "levels_built",
    "linear_backward",
    "linear_backward_bf16",
    "linear_forward",
    "linear_forward_bf16",
    "max_pool2d_backward",
    "max_pool2d_forward",
    "multiply_add_peak",
    "muon_step",
    "pack_filters",
    "pack_matrix",
    "pack_matrix_bf16",
    "plant_losses",
    "relu_backward",
    "relu_forward",
    "round_bf16",
    "set_int8_unit",
    "set_level",
    "set_num_threads",
    "set_unit",
    "sgd_step",
    "sigmoid_backward",
    "sigmoid_forward",
    "soak_tiles",
    "softmax_cross_entropy",
    "softmax_distillation",
    "softmax_squared_error",
    "squared_error",
    "tanh_backward",
    "tanh_forward",
    "tile_product_bf16",
    "tile_product_int8",
    "tile_repeats",
    "unit",
    "unit_in_use",
    "unit_instruction",
    "units_available",
    "units_built",
    "version",
]

class Int8Network:
    def __init__(self, c: typing.Any, h: typing.Any, w: typing.Any) -> None: ...
    def add_avg_pool(
        self, kernel_size: typing.Any, stride: typing.Any, padding: typing.Any, zero_point: typing.Any, multiplier: typing.Any
    ) -> None: ...
    def add_conv(
        self,
        weight: typing.Any,
        bias: typing.Any,
        multiplier: typing.Any,
        zero_point: typing.Any,
        stride: typing.Any,
        padding: typing.Any,
        padding_value: typing.Any,
        window: typing.Any,
    ) -> None: ...
    def add_flatten(self) -> None: ...
    def add_linear(self, weight: typing.Any, bias: typing.Any, multiplier: typing.Any, zero_point: typing.Any) -> None: ...
    def add_max_pool(self, kernel_size: typing.Any, stride: typing.Any, padding: typing.Any) -> None: ...
    def add_scores(self, scale: typing.Any, zero_point: typing.Any) -> None: ...
    def add_table(self, table: typing.Any) -> None: ...
    def scores(self, images: typing.Any, out: typing.Any) -> numpy.typing.NDArray[typing.Any]: ...
    @property
    def unit(self) -> str: ...

class Graph:
    @staticmethod
    def recorded() -> int: ...
    @staticmethod
    def stop_unless_finite(number: typing.Any) -> None: ...
    @staticmethod
    def void(reason: str) -> None: ...
    def __init__(self, function: collections.abc.Callable[..., typing.Any], *args: typing.Any) -> None: ...
    @typing.overload
    def launch(self) -> None: ...
    @typing.overload
    def launch(self, *, copy_of: typing.Any) -> typing.Any: ...
    def reads(self, *args: typing.Any) -> bool: ...
    def time(self) -> numpy.typing.NDArray[typing.Any]: ...
    @property
    def calls(self) -> int: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def result(self) -> typing.Any: ...

class DeviceError(RuntimeError):
    pass

def adam_step(
    parameters: typing.Any,
    gradients: typing.Any,
    first_moment: typing.Any,
    second_moment: typing.Any,
    step: typing.Any,
    lr: typing.Any,
    beta1: typing.Any,
    beta2: typing.Any,
    eps: typing.Any,
    weight_decay: typing.Any,
    average: typing.Any,
    decay: typing.Any,
) -> None: ...
def amx_state() -> str: ...
def avg_pool2d_backward(
    dy: typing.Any, x_shape: typing.Any, kernel_size: typing.Any, stride: typing.Any, padding: typing.Any, out: typing.Any
) -> numpy.typing.NDArray[typing.Any]: ...
def avg_pool2d_forward(
    x: typing.Any, kernel_size: typing.Any, stride: typing.Any, padding: typing.Any, out: typing.Any
) -> numpy.typing.NDArray[typing.Any]: ...
def barriers() -> int: ...
def cgroup_cpus(root: str) -> int: ...
def compiler() -> str: ...
def conv2d_backward(
    dy: typing.Any,
    x: typing.Any,
    weight: typing.Any,
    stride: typing.Any,
    padding: typing.Any,
    need_dx: typing.Any,
    out: typing.Any,
) -> tuple[typing.Any, ...]: ...
def conv2d_forward(
    x: typing.Any, weight: typing.Any, bias: typing.Any, stride: typing.Any, padding: typing.Any, out: typing.Any
) -> numpy.typing.NDArray[typing.Any]: ...
def conv2d_relu_max_pool2d_backward(
    dy: typing.Any,
    winners: typing.Any,
    x: typing.Any,
    weight: typing.Any,
    padding: typing.Any,
    kernel_size: typing.Any,
    need_dx: typing.Any,
    out: typing.Any,
) -> tuple[typing.Any, ...]: ...
def conv2d_relu_max_pool2d_backward_bf16(
    dy: typing.Any,
    winners: typing.Any,
    x: typing.Any,
    weight: typing.Any,
    padding: typing.Any,
    kernel_size: typing.Any,
    need_dx: typing.Any,
    out: typing.Any,
) -> tuple[typing.Any, ...]: ...
def conv2d_relu_max_pool2d_forward(
    x: typing.Any,
    weight: typing.Any,
    bias: typing.Any,
    padding: typing.Any,
    kernel_size: typing.Any,
    algorithm: typing.Any,
    packed: typing.Any,
    out: typing.Any,
) -> tuple[typing.Any, ...]: ...
def conv2d_relu_max_pool2d_forward_bf16(
    x: typing.Any,
    weight: typing.Any,
    bias: typing.Any,
    padding: typing.Any,
    kernel_size: typing.Any,
    algorithm: typing.Any,
    packed: typing.Any,
    out: typing.Any,
) -> tuple[typing.Any, ...]: ...
def cuda_backend() -> typing.Any: ...
def cuda_status() -> str: ...
def dot_bf16(unit: str, sums: typing.Any, a: typing.Any, b: typing.Any) -> numpy.typing.NDArray[typing.Any]: ...
def dropout_backward(dy: typing.Any, mask: typing.Any, out: typing.Any) -> numpy.typing.NDArray[typing.Any]: ...
def dropout_forward(
    x: typing.Any, rate: typing.Any, seed: typing.Any, counter: typing.Any, offset: typing.Any, out: typing.Any
) -> tuple[typing.Any, ...]: ...
def ema_step(average: typing.Any, parameters: typing.Any, decay: typing.Any) -> None: ...
def gather_augmented(
    images: typing.Any,
    index: typing.Any,
    mean: typing.Any,
    std: typing.Any,
    shift: typing.SupportsInt,
    rotation: typing.SupportsFloat,
    scale: typing.SupportsFloat,
    shear: typing.SupportsFloat,
    elastic: typing.SupportsFloat,
    elastic_sigma: typing.SupportsFloat,
    cutout: typing.SupportsInt,
    seed: typing.SupportsInt,
    epoch: typing.Any,
    views: typing.Any,
    out: typing.Any,
) -> numpy.typing.NDArray[typing.Any]: ...
def gather_images(
    images: typing.Any, index: typing.Any, mean: typing.Any, std: typing.Any, transform: typing.Any, out: typing.Any
) -> numpy.typing.NDArray[typing.Any]: ...
def get_num_threads() -> int: ...
def int8_unit() -> str: ...
def int8_units_available() -> list[str]: ...
def int8_units_built() -> list[str]: ...
def leaky_relu_backward(
    dy: typing.Any, y: typing.Any, slope: typing.Any, out: typing.Any
) -> numpy.typing.NDArray[typing.Any]: ...
def leaky_relu_forward(x: typing.Any, slope: typing.Any, out: typing.Any) -> numpy.typing.NDArray[typing.Any]: ...
def level() -> str: ...
def levels_available() -> list[str]: ...
def levels_built() -> list[str]: ...
def linear_backward(
    dy: typing.Any, x: typing.Any, weight: typing.Any, need_dx: typing.Any, out: typing.Any
) -> tuple[typing.Any, ...]: ...
def linear_backward_bf16(
    dy: typing.Any, x: typing.Any, weight: typing.Any, need_dx: typing.Any, out: typing.Any
) -> tuple[typing.Any, ...]: ...
def linear_forward(
    x: typing.Any, weight: typing.Any, bias: typing.Any, packed: typing.Any, skip_zeros: typing.Any, out: typing.Any
) -> numpy.typing.NDArray[typing.Any]: ...
def linear_forward_bf16(
    x: typing.Any, weight: typing.Any, bias: typing.Any, packed: typing.Any, out: typing.Any
) -> numpy.typing.NDArray[typing.Any]: ...
def max_pool2d_backward(
    dy: typing.Any, indices: typing.Any, x_shape: typing.Any, out: typing.Any
) -> numpy.typing.NDArray[typing.Any]: ...
def max_pool2d_forward(
    x: typing.Any, kernel_size: typing.Any, stride: typing.Any, padding: typing.Any, out: typing.Any
) -> tuple[typing.Any, ...]: ...
def multiply_add_peak(threads: typing.SupportsInt, seconds: typing.SupportsFloat) -> float: ...
def muon_step(
    parameters: typing.Any,
    gradients: typing.Any,
    velocity: typing.Any,
    matrices: typing.Any,
    lr: typing.Any,
    matrix_lr: typing.Any,
    momentum: typing.Any,
    nesterov: typing.Any,
    weight_decay: typing.Any,
    average: typing.Any,
    decay: typing.Any,
) -> None: ...
def pack_filters(weight: typing.Any, algorithm: typing.Any) -> numpy.typing.NDArray[typing.Any]: ...
def pack_matrix(weight: typing.Any) -> numpy.typing.NDArray[typing.Any]: ...
def pack_matrix_bf16(weight: typing.Any) -> numpy.typing.NDArray[typing.Any]: ...
def plant_losses(every: typing.Any, times: typing.Any) -> None: ...
def relu_backward(dy: typing.Any, y: typing.Any, out: typing.Any) -> numpy.typing.NDArray[typing.Any]: ...
def relu_forward(x: typing.Any, out: typing.Any) -> numpy.typing.NDArray[typing.Any]: ...
def round_bf16(unit: str, x: typing.Any) -> numpy.typing.NDArray[typing.Any]: ...
def set_int8_unit(name: str) -> None: ...
def set_level(name: str) -> None: ...
def set_num_threads(count: typing.Any) -> None: ...
def set_unit(name: str) -> None: ...
def sgd_step(
    parameters: typing.Any,
    gradients: typing.Any,
    velocity: typing.Any,
    lr: typing.Any,
    momentum: typing.Any,
    nesterov: typing.Any,
    weight_decay: typing.Any,
    average: typing.Any,
    decay: typing.Any,
) -> None: ...
def sigmoid_backward(dy: typing.Any, y: typing.Any, out: typing.Any) -> numpy.typing.NDArray[typing.Any]: ...
def sigmoid_forward(x: typing.Any, out: typing.Any) -> numpy.typing.NDArray[typing.Any]: ...
def soak_tiles(
    unit: str, threads: typing.Any, seconds: typing.Any, wait: str, lose_every: typing.Any
) -> tuple[typing.Any, ...]: ...
def softmax_cross_entropy(
    logits: typing.Any,
    labels: typing.Any,
    label_smoothing: typing.Any,
    weights: typing.Any,
    batch_size: typing.Any,
    out: typing.Any,
) -> tuple[typing.Any, ...]: ...
def softmax_distillation(
    logits: typing.Any,
    labels: typing.Any,
    teacher: typing.Any,
    mix: typing.Any,
    temperature: typing.Any,
    label_smoothing: typing.Any,
    weights: typing.Any,
    batch_size: typing.Any,
    out: typing.Any,
) -> tuple[typing.Any, ...]: ...
def softmax_squared_error(
    logits: typing.Any,
    labels: typing.Any,
    label_smoothing: typing.Any,
    weights: typing.Any,
    batch_size: typing.Any,
    out: typing.Any,
) -> tuple[typing.Any, ...]: ...
def squared_error(prediction: typing.Any, target: typing.Any, out: typing.Any) -> tuple[typing.Any, ...]: ...
def tanh_backward(dy: typing.Any, y: typing.Any, out: typing.Any) -> numpy.typing.NDArray[typing.Any]: ...
def tanh_forward(x: typing.Any, out: typing.Any) -> numpy.typing.NDArray[typing.Any]: ...
def tile_product_bf16(unit: str, sums: typing.Any, a: typing.Any, b: typing.Any) -> numpy.typing.NDArray[typing.Any]: ...
def tile_product_int8(unit: str, sums: typing.Any, a: typing.Any, b: typing.Any) -> numpy.typing.NDArray[typing.Any]: ...
def tile_repeats() -> int: ...
def unit() -> str: ...
def unit_in_use() -> str: ...
def unit_instruction() -> str: ...
def units_available() -> list[str]: ...
def units_built() -> list[str]: ...
def version() -> str: ...
