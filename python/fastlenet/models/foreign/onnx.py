"""The network in an ONNX file: nodes in a row, from the image to the scores.

Source of what an op computes: github.com/onnx/onnx, docs/Operators.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from fastlenet.backend import Array, Shape
from fastlenet.fields import shown
from fastlenet.formats.onnx import OnnxFile, OnnxNode
from fastlenet.inference.facts import ModelFacts
from fastlenet.models.foreign.building import Building, Pair
from fastlenet.models.foreign.onnx_constants import ON_CONSTANTS, constant
from fastlenet.models.recognising import UndecidedError
from fastlenet.nn import AvgPool2d, MaxPool2d

__all__ = ["built_from_onnx"]


def built_from_onnx(file: OnnxFile, image_size: Pair | None) -> Building:
    """Returns the network of a file. image_size: of its images, if the file does not say it.

    Raises UndecidedError, or ValueError, which names the op, for what fastlenet does not have.
    """
    reader = _Reader(file, image_size)
    for node in file.nodes:
        reader.read(node)
    return reader.finished()


class _Reader:
    """Adds the ops to a network, one after the other. values: what is known of each name, the weights above all."""

    def __init__(self, file: OnnxFile, image_size: Pair | None) -> None:
        if len(file.inputs) != 1 or len(file.outputs) != 1:
            raise ValueError(f"{len(file.inputs)} inputs and {len(file.outputs)} outputs; one of each is read")
        ((self._image, (dtype, sizes)),) = file.inputs.items()
        self._file = file
        self.values: dict[str, Array] = dict(file.constants)
        self._current = self._image  # the name of what the network so far gives
        self._last = False  # whether images are (h, w, c) at this place
        self._build = Building(self._input_shape(sizes, image_size))
        if dtype == "u1":
            self._build.white = 255.0
        if "fastlenet_version" in file.metadata:
            self._build.known = ModelFacts.of_metadata(file.metadata)
        self._product: Array | None = None  # the matrix of a MatMul, whose bias may follow

    def _input_shape(self, sizes: Sequence[int | None], image_size: Pair | None) -> Shape:
        """(c, h, w), or (features,)."""
        shape = tuple(sizes[1:])
        self._last = len(shape) == 3 and shape[2] in (1, 3) and shape[0] not in (1, 3)
        if len(shape) == 3 and image_size is not None:
            shape = (*image_size, shape[2]) if self._last else (shape[0], *image_size)
        fixed = tuple(size for size in shape if size is not None and 0 < size < 2**31)
        if len(fixed) != len(shape) or len(shape) not in (1, 2, 3):
            raise UndecidedError("it does not say the size of its images", "image_size", "such as 28")
        if len(fixed) == 2:
            return (1, *fixed)
        return (fixed[2], *fixed[:2]) if self._last else fixed

    def finished(self) -> Building:
        self._finish_product(None)
        if self._file.outputs != (self._current,):
            raise ValueError(f"the output {shown(self._file.outputs[0])} is not what the last op gives")
        if self._last and len(self._build.shape) == 3:
            raise ValueError("the output is an image of channels last")
        return self._build

    def read(self, node: OnnxNode) -> None:
        inputs = [name for name in node.inputs if name]
        if node.op == "Shape" and inputs == [self._current] and len(node.outputs) == 1 and not node.attributes:
            self.values[node.outputs[0]] = self._sizes()
        elif self._current in inputs:
            if node.op not in _OPS:
                raise ValueError(f"op {self._said(node)} has no layer in fastlenet; those that are read: {', '.join(_OPS)}")
            if inputs.count(self._current) != 1 or not set(inputs) - {self._current} <= self.values.keys():
                raise ValueError(f"op {self._said(node)} combines two results; only ops in a row are read")
            if node.op not in ("Add", "Identity"):
                self._finish_product(None)
            _OPS[node.op](self, node)
            if not node.outputs or any(node.outputs[1:]):
                raise ValueError(f"op {self._said(node)} expects one output")
            self._current = node.outputs[0]
        elif set(inputs) <= self.values.keys() and node.op in ON_CONSTANTS and len(node.outputs) == 1:
            self.values[node.outputs[0]] = ON_CONSTANTS[node.op](self.values, node)
        else:
            raise ValueError(f"op {self._said(node)} does not follow the op before it; only ops in a row are read")

    def _sizes(self) -> Array:
        """The shape of what the network so far gives; 0 for the number of images, which a Reshape leaves as it is."""
        self._finish_product(None)
        shape = self._build.shape
        return np.array([0, *shape[1:], shape[0]] if self._last and len(shape) == 3 else [0, *shape], np.int64)

    # --- what a node says ---

    @staticmethod
    def _said(node: OnnxNode) -> str:
        return f"{shown(node.op)}{f' ({shown(node.name)})' if node.name else ''}"

    def _name(self, node: OnnxNode, weight: str = "") -> str:
        """The layer's name: that of its weights, "conv1.weight", or else that of the node."""
        stem, _, kind = weight.rpartition(".")
        if kind == "weight" and stem:
            return stem
        path = node.name.strip("/").split("/")
        path = path[:-1] if len(path) > 1 and path[-1].partition("_")[0] == node.op else path  # /relu1/Relu_1 is of relu1
        return ".".join(path) or f"{len(self._build.names)}"

    def constant(self, node: OnnxNode, place: int) -> Array | None:
        return constant(self.values, node, place)

    def _needed(self, node: OnnxNode, place: int) -> Array:
        value = self.constant(node, place)
        if value is None:
            raise ValueError(f"op {self._said(node)} expects an input {place + 1}")
        return value

    def _integers(self, node: OnnxNode, name: str, default: Sequence[int]) -> list[int]:
        value = node.attributes.get(name, [*default])
        if not isinstance(value, list) or len(value) != len(default) or not all(isinstance(size, int) for size in value):
            raise ValueError(f"op {self._said(node)}: {name} expects {len(default)} integers, got {shown(value)}")
        return [int(size) for size in value]

    def _number(self, node: OnnxNode, name: str, default: float) -> float:
        value = node.attributes.get(name, default)
        if not isinstance(value, (int, float)):
            raise ValueError(f"op {self._said(node)}: {name} expects a number, got {shown(value)}")
        return value

    def _padding(self, node: OnnxNode, size: Pair, stride: Pair) -> Pair:
        """The zeros on each side of rows and columns, which must be alike on both."""
        auto = node.attributes.get("auto_pad", "NOTSET")
        top, left, bottom, right = self._integers(node, "pads", (0, 0, 0, 0))
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            whole = self._build.same_padding(self._name(node), size, stride)
            top, left, bottom, right = (zeros // 2 + zeros % 2 * late for late in (0, 1) for zeros in whole)
        elif auto not in ("NOTSET", "VALID"):
            raise ValueError(f"op {self._said(node)}: auto_pad {shown(auto)} is not known")
        if (top, left) != (bottom, right):
            raise ValueError(f"op {self._said(node)} pads one side more than the other, which no layer in fastlenet does")
        return top, left

    def _expect_images(self, node: OnnxNode) -> None:
        if len(self._build.shape) != 3 or self._last:
            raise ValueError(f"op {self._said(node)} expects images (c, h, w), got {self._build.shape}")

    # --- the ops ---

    def conv(self, node: OnnxNode) -> None:
        self._expect_images(node)
        if self._integers(node, "dilations", (1, 1)) != [1, 1] or self._number(node, "group", 1) != 1:
            raise ValueError(f"op {self._said(node)}: groups and dilation have no layer in fastlenet")
        weight = self._needed(node, 1)
        if weight.ndim != 4 or self._integers(node, "kernel_shape", weight.shape[2:]) != [*weight.shape[2:]]:
            raise ValueError(f"op {self._said(node)} expects weights (k, c, r, s), got {weight.shape}")
        rows, columns = self._integers(node, "strides", (1, 1))
        padding = self._padding(node, (weight.shape[2], weight.shape[3]), (rows, columns))
        self._build.conv(self._name(node, node.inputs[1]), weight, self.constant(node, 2), (rows, columns), padding)

    def pool(self, node: OnnxNode, kind: type[MaxPool2d] | type[AvgPool2d]) -> None:
        self._expect_images(node)
        rows, columns = self._integers(node, "kernel_shape", (0, 0))
        down, right = self._integers(node, "strides", (1, 1))
        padding = self._padding(node, (rows, columns), (down, right))
        if self._integers(node, "dilations", (1, 1)) != [1, 1]:
            raise ValueError(f"op {self._said(node)}: dilation has no layer in fastlenet")
        lengths = zip(self._build.shape[1:], (rows, columns), (down, right), padding, strict=True)
        if self._number(node, "ceil_mode", 0) and any((h + 2 * zeros - r) % max(step, 1) for h, r, step, zeros in lengths):
            raise ValueError(f"op {self._said(node)} pools the rest of the pixels too, which no layer in fastlenet does")
        if kind is AvgPool2d and padding != (0, 0) and not self._number(node, "count_include_pad", 0):
            raise ValueError(f"op {self._said(node)}: a mean that leaves out the padding has no layer in fastlenet")
        self._build.pool(self._name(node), kind, (rows, columns), (down, right), padding)

    def global_pool(self, node: OnnxNode, kind: type[MaxPool2d] | type[AvgPool2d]) -> None:
        self._expect_images(node)
        size = self._build.shape[1], self._build.shape[2]
        self._build.pool(self._name(node), kind, size, size)

    def gemm(self, node: OnnxNode) -> None:
        if self._number(node, "alpha", 1.0) != 1 or self._number(node, "beta", 1.0) != 1 or self._number(node, "transA", 0):
            raise ValueError(f"op {self._said(node)}: alpha, beta and transA have no layer in fastlenet")
        if len(node.inputs) < 2 or node.inputs[0] != self._current:
            raise ValueError(f"op {self._said(node)} expects the image as its first input")
        weight, bias = self._needed(node, 1), self.constant(node, 2)
        if self._number(node, "transB", 0) == 0:
            weight = weight.T
        self._build.linear(self._name(node, node.inputs[1]), weight, self._bias(node, bias, weight))

    def _bias(self, node: OnnxNode, bias: Array | None, weight: Array) -> Array | None:
        if bias is None:
            return None
        if bias.size != weight.shape[0] or bias.shape[-1:] != (bias.size,):
            raise ValueError(f"op {self._said(node)} expects a bias of {weight.shape[0]} numbers, got {bias.shape}")
        return bias.reshape(-1)

    def matmul(self, node: OnnxNode) -> None:
        if node.inputs[0] != self._current:
            raise ValueError(f"op {self._said(node)} expects the image as its first input")
        self._product, self._product_name = self._needed(node, 1).T, self._name(node, node.inputs[1])

    def _finish_product(self, bias: Array | None) -> None:
        if self._product is not None:
            weight, self._product = self._product, None
            self._build.linear(self._product_name, weight, bias)

    def add(self, node: OnnxNode, sign: float = 1.0) -> None:
        value = self._needed(node, 1 if node.inputs[0] == self._current else 0)
        if sign < 0 and node.inputs[0] != self._current:
            raise ValueError(f"op {self._said(node)} subtracts the image from a number")
        if self._product is not None:
            self._finish_product(self._bias(node, value, self._product))
        else:
            self._build.rescale(self._said(node), 1.0, sign * self._channels(node, value))

    def scale(self, node: OnnxNode, *, divide: bool) -> None:
        if divide and node.inputs[0] != self._current:
            raise ValueError(f"op {self._said(node)} divides a number by the image")
        value = self._channels(node, self._needed(node, 1 if node.inputs[0] == self._current else 0))
        if divide and not value.all():
            raise ValueError(f"op {self._said(node)} divides by zero")
        self._build.rescale(self._said(node), 1 / value if divide else value)

    def _channels(self, node: OnnxNode, value: Array) -> Array:
        """A number, or one for each channel, of an array that is broadcast to images."""
        shape = (1, *self._build.shape) if len(self._build.shape) == 3 else ()
        axis = 3 if self._last else 1
        if value.size > 1:
            whole = (1,) * (len(shape) - value.ndim) + value.shape
            if len(whole) != len(shape) or whole[axis] != value.size:
                raise ValueError(f"op {self._said(node)} expects a number, or one for each channel, got {value.shape}")
        return value.astype(np.float64).reshape(-1)

    def flatten(self, node: OnnxNode) -> None:
        if self._number(node, "axis", 1) not in (1, 1 - 1 - len(self._build.shape)):
            raise ValueError(f"op {self._said(node)}: flattening along another axis has no layer in fastlenet")
        self._build.flatten(self._name(node), channels_last=self._last)

    def reshape(self, node: OnnxNode) -> None:
        """To rows, or of an image to one with a channel."""
        target = [int(size) for size in self._needed(node, 1).reshape(-1)]
        whole = math.prod(self._build.shape)
        if len(target) == 2 and target[1] in (-1, whole) and target != [-1, -1]:
            self._build.flatten(self._name(node), channels_last=self._last)
            return
        if len(target) == 4 and not self._build.layers and math.prod(target[1:]) == whole:
            channels_last = target[3] == 1 and target[1] != 1
            shape = (target[3], *target[1:3]) if channels_last else (target[1], target[2], target[3])
            if shape[0] == 1 and (len(self._build.shape) == 1 or self._build.shape == shape):
                self._build.input_shape = self._build.shape = shape
                self._last = channels_last
                return
        raise ValueError(f"op {self._said(node)}: a reshape to {shown(target)} has no layer in fastlenet")

    def transpose(self, node: OnnxNode) -> None:
        """Between images (h, w, c) and (c, h, w)."""
        order = node.attributes.get("perm")
        if order == [0, 3, 1, 2] and self._last:
            self._last = False
        elif order == [0, 2, 3, 1] and not self._last and len(self._build.shape) == 3:
            self._last = True
        else:
            raise ValueError(f"op {self._said(node)}: the order of axes {shown(order)} has no layer in fastlenet")

    def cast(self, node: OnnxNode) -> None:
        if self._number(node, "to", 0) not in (1, 10, 11, 16):
            raise ValueError(f"op {self._said(node)}: only casts to floats are read")

    def pad(self, node: OnnxNode) -> None:
        """Only by nothing, as some writers do before a pooling."""
        zeros = self.constant(node, 1)
        if np.any(node.attributes.get("pads", [0]) if zeros is None else zeros):
            raise ValueError(f"op {self._said(node)}: padding apart from a convolution has no layer in fastlenet")

    def leaky_relu(self, node: OnnxNode) -> None:
        slope = float(str(np.float32(self._number(node, "alpha", 0.01))))
        self._build.activation(self._name(node), "leaky_relu", slope)

    def softmax(self, node: OnnxNode, kind: str) -> None:
        if self._number(node, "axis", -1) not in (-1, 1):
            raise ValueError(f"op {self._said(node)} expects axis 1")
        self._build.activation(self._name(node), kind)

    def activation(self, node: OnnxNode, kind: str) -> None:
        self._build.activation(self._name(node), kind)

    def dropout(self, node: OnnxNode) -> None:
        ratio = self.constant(node, 1)
        training = self.constant(node, 2)
        if training is not None and training.any():
            raise ValueError(f"op {self._said(node)} drops at random; export the network for inference")
        p = self._number(node, "ratio", 0.5) if ratio is None else float(ratio.reshape(-1)[0])
        self._build.dropout(self._name(node), float(str(np.float32(p))))


Op = Callable[[_Reader, OnnxNode], None]

_OPS: Mapping[str, Op] = {
    "Conv": _Reader.conv,
    "Relu": lambda reader, node: reader.activation(node, "relu"),
    "LeakyRelu": _Reader.leaky_relu,
    "Sigmoid": lambda reader, node: reader.activation(node, "sigmoid"),
    "Tanh": lambda reader, node: reader.activation(node, "tanh"),
    "MaxPool": lambda reader, node: reader.pool(node, MaxPool2d),
    "AveragePool": lambda reader, node: reader.pool(node, AvgPool2d),
    "GlobalMaxPool": lambda reader, node: reader.global_pool(node, MaxPool2d),
    "GlobalAveragePool": lambda reader, node: reader.global_pool(node, AvgPool2d),
    "Gemm": _Reader.gemm,
    "MatMul": _Reader.matmul,
    "Flatten": _Reader.flatten,
    "Reshape": _Reader.reshape,
    "Transpose": _Reader.transpose,
    "Dropout": _Reader.dropout,
    "Identity": lambda reader, node: None,
    "Cast": _Reader.cast,
    "Pad": _Reader.pad,
    "Add": _Reader.add,
    "Sub": lambda reader, node: reader.add(node, -1.0),
    "Mul": lambda reader, node: reader.scale(node, divide=False),
    "Div": lambda reader, node: reader.scale(node, divide=True),
    "Softmax": lambda reader, node: reader.softmax(node, "softmax"),
    "LogSoftmax": lambda reader, node: reader.softmax(node, "log_softmax"),
}
