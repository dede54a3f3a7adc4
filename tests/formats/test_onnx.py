"""ONNX files: the loaded network gives what onnxruntime computes, and ops that fastlenet does not have are named."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import fastlenet
from fastlenet import LeNet, nn
from fastlenet.files import CheckpointError
from helpers.protobuf import message

Array = npt.NDArray[Any]
Node = onnx.NodeProto


def save(
    path: Path,
    nodes: Sequence[Node],
    constants: dict[str, Array],
    shape: Sequence[int | str] = ("n", 1, 28, 28),
    dtype: int = TensorProto.FLOAT,
) -> Path:
    """A network from x to y."""
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def row(*ops: tuple[Any, ...]) -> list[Node]:
    """Ops one after the other: each with the names of its other inputs, and its attributes."""
    nodes, last = [], "x"
    for number, (op, *rest) in enumerate(ops):
        attributes = rest.pop() if rest and isinstance(rest[-1], dict) else {}
        result = "y" if number == len(ops) - 1 else f"t{number}"
        nodes.append(helper.make_node(op, [last, *rest], [result], name=f"n{number}", **attributes))
        last = result
    return nodes


def loaded(path: Path, **options: Any) -> nn.Sequential:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is assumed
        model = fastlenet.load(path, **options)
    assert isinstance(model, nn.Sequential)
    return model


def as_onnxruntime(path: Path, x: Array, model: nn.Sequential) -> None:
    """The scores are those of onnxruntime, for images as the file takes them."""
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    (theirs,) = session.run(None, {"x": x})
    np.testing.assert_allclose(model(x.astype(np.float32)), theirs, atol=1e-5)


LENET = [
    ("Conv", "conv1.weight", "conv1.bias", {"kernel_shape": [5, 5]}),
    ("Relu",),
    ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("Conv", "conv2.weight", "conv2.bias"),
    ("Relu",),
    ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("Flatten",),
    ("Gemm", "fc1.weight", "fc1.bias", {"transB": 1}),
    ("Relu",),
    ("Gemm", "fc2.weight", "fc2.bias", {"transB": 1}),
]


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_a_lenet(dtype: str, tmp_path: Path) -> None:
    state = {name: array.astype(dtype) for name, array in LeNet(5).state_dict().items()}
    own = LeNet()
    own.load_state_dict(state)
    model = loaded(save(tmp_path / "m.onnx", row(*LENET), state))
    assert isinstance(model, LeNet) and model.parameter_buffer.tobytes() == own.parameter_buffer.tobytes()
    assert model.mean is None  # the file does not say it
    if dtype == "f4":
        as_onnxruntime(tmp_path / "m.onnx", np.random.default_rng(0).random((3, 1, 28, 28), np.float32), model)


def test_bfloat16(tmp_path: Path) -> None:
    halves = {name: (array.view(np.uint32) >> 16).astype(np.uint16) for name, array in LeNet(5).state_dict().items()}
    own = LeNet()
    own.load_state_dict({name: (array.astype(np.uint32) << 16).view(np.float32) for name, array in halves.items()})
    graph = helper.make_graph(
        row(*LENET),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.BFLOAT16, ("n", 1, 28, 28))],
        [helper.make_tensor_value_info("y", TensorProto.BFLOAT16, None)],
        [helper.make_tensor(name, TensorProto.BFLOAT16, a.shape, a.tobytes(), raw=True) for name, a in halves.items()],
    )
    (tmp_path / "m.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    assert loaded(tmp_path / "m.onnx").parameter_buffer.tobytes() == own.parameter_buffer.tobytes()


def test_raw_images_in_and_probabilities_out(tmp_path: Path) -> None:
    """Bytes are cast, scaled and normalised first, and a softmax is last: mean and std are those of the file."""
    constants = {**LeNet.pretrained().state_dict(), "m": np.float32(0.1307), "s": np.float32(0.3081), "w": np.float32(255)}
    first = [("Cast", {"to": TensorProto.FLOAT}), ("Div", "w"), ("Sub", "m"), ("Div", "s")]
    path = save(tmp_path / "m.onnx", row(*first, *LENET, ("Softmax", {"axis": 1})), constants, dtype=TensorProto.UINT8)
    model = loaded(path)
    assert isinstance(model, LeNet) and (model.mean, model.std) == (0.1307, 0.3081)
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 28, 28), np.uint8)
    (theirs,) = onnxruntime.InferenceSession(path.read_bytes()).run(None, {"x": images})
    np.testing.assert_allclose(model.predict_proba(images), theirs, atol=1e-5)


@pytest.mark.parametrize("first", [[("Mul", "a"), ("Add", "b")], [("Sub", "c"), ("Mul", "d")]])
def test_channels_that_are_normalised_apart(first: list[Any], tmp_path: Path) -> None:
    std, mean = np.array([0.25, 0.5, 0.125], np.float32).reshape(1, 3, 1, 1), np.array([0.5, 0.25, 0.75]).reshape(1, 3, 1, 1)
    constants = {
        "a": 1 / std,
        "b": (-mean / std).astype("f4"),
        "c": mean.astype("f4"),
        "d": (1 / std)[0],
        "w": weights(2, 3, 1, 1),
    }
    model = loaded(save(tmp_path / "m.onnx", row(*first, ("Conv", "w"), ("Flatten",)), constants, ("n", 3, 4, 4)))
    assert (model.mean, model.std) == ((0.5, 0.25, 0.75), (0.25, 0.5, 0.125))


def weights(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def test_every_op(tmp_path: Path) -> None:
    """Strides, padding, ops without bias, products with a sum behind them, and what writers put between ops."""
    ops = [
        ("Identity",),
        ("Conv", "w1", {"strides": [2, 1], "pads": [1, 0, 1, 0]}),
        ("LeakyRelu", {"alpha": 0.2}),
        ("AveragePool", {"kernel_shape": [2, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
        ("Conv", "w2", "b2", {"auto_pad": "SAME_UPPER"}),
        ("Tanh",),
        ("MaxPool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
        ("Dropout", "ratio"),
        ("Reshape", "rows"),
        ("MatMul", "w3"),
        ("Add", "b3"),
        ("Sigmoid",),
        ("MatMul", "w4"),
        ("Relu",),
        ("Gemm", "w5", "b5"),
    ]
    constants = {"w1": weights(3, 2, 3, 2), "w2": weights(4, 3, 3, 3), "b2": weights(4), "ratio": np.float32(0.25)}
    constants |= {"rows": np.array([0, -1]), "w3": weights(4 * 6 * 10, 7), "b3": weights(1, 7)}
    constants |= {"w4": weights(7, 5), "w5": weights(5, 3), "b5": weights(3)}
    path = save(tmp_path / "m.onnx", row(*ops), constants, ("n", 2, 10, 10))
    model = loaded(path)
    assert repr(model.layers[1]) == "LeakyReLU(slope=0.2)" and "Dropout(p=0.25)" in repr(model)
    as_onnxruntime(path, weights(3, 2, 10, 10), model)


def test_images_of_channels_last(tmp_path: Path) -> None:
    """As converters of TensorFlow write them: the matrix behind a Flatten gets its columns in the order of (c, h, w)."""
    ops = [
        ("Transpose", {"perm": [0, 3, 1, 2]}),
        ("Conv", "w"),
        ("Transpose", {"perm": [0, 2, 3, 1]}),
        ("Reshape", "r"),
        ("MatMul", "f"),
    ]
    constants = {"w": weights(4, 3, 2, 2), "r": np.array([-1, 4 * 5 * 6]), "f": weights(120, 3)}
    path = save(tmp_path / "m.onnx", row(*ops), constants, ("n", 6, 7, 3))
    model = loaded(path)
    assert model.input_shape == (3, 6, 7)
    x = weights(2, 6, 7, 3)
    (theirs,) = onnxruntime.InferenceSession(path.read_bytes()).run(None, {"x": x})
    np.testing.assert_allclose(model(np.ascontiguousarray(x.transpose(0, 3, 1, 2))), theirs, atol=1e-5)


def test_a_view_of_pytorch(tmp_path: Path) -> None:
    """x.view(x.size(0), -1) becomes ops on the shape; weights become constants and are turned."""
    nodes = [
        helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(weights(3, 16))),
        helper.make_node("Transpose", ["w"], ["wt"]),
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Constant", [], ["zero"], value=numpy_helper.from_array(np.array(0))),
        helper.make_node("Gather", ["s", "zero"], ["n"], axis=0),
        helper.make_node("Unsqueeze", ["n", "axes"], ["n1"]),
        helper.make_node("Concat", ["n1", "minus"], ["to"], axis=0),
        helper.make_node("Reshape", ["x", "to"], ["rows"]),
        helper.make_node("MatMul", ["rows", "wt"], ["y"]),
    ]
    path = save(tmp_path / "m.onnx", nodes, {"axes": np.array([0]), "minus": np.array([-1])}, ("n", 1, 4, 4))
    as_onnxruntime(path, weights(3, 1, 4, 4), loaded(path))


def test_a_size_that_is_not_fixed(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", row(*LENET), LeNet(5).state_dict(), ("n", 1, "h", "w"))
    with pytest.raises(CheckpointError, match="it does not say the size of its images; give image_size such as 28"):
        loaded(path)
    assert isinstance(loaded(path, image_size=28), LeNet)


REFUSED: dict[str, tuple[list[Any], str]] = {
    "an op that fastlenet lacks": (
        [("Gelu",)],
        r"op 'Gelu' \('n0'\) has no layer in fastlenet; those that are read: Conv, Relu",
    ),
    "two results": ([("Relu",), ("Add", "x")], "combines two results; only ops in a row"),
    "groups": ([("Conv", "w", {"group": 2})], "groups and dilation"),
    "dilation": ([("Conv", "w", {"dilations": [2, 2]})], "groups and dilation"),
    "uneven padding": ([("Conv", "w", {"pads": [1, 1, 0, 0]})], "pads one side more than the other"),
    "a stride of zero": (
        [("MaxPool", {"kernel_shape": [2, 2], "strides": [0, 1], "auto_pad": "SAME_UPPER"})],
        "stride expects integers of at least 1",
    ),
    "the rest of a pooling": (
        [("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1})],
        "the rest of the pixels",
    ),
    "the mean of padded windows": ([("AveragePool", {"kernel_shape": [3, 3], "pads": [1] * 4})], "leaves out the padding"),
    "scaling between layers": ([("Relu",), ("Mul", "two")], "scales what is no longer the image"),
    "scaling by minus two": ([("Mul", "minus"), ("Relu",)], "a factor that is not positive"),
    "division by zero": ([("Div", "zero")], "divides by zero"),
    "a softmax in between": ([("Flatten",), ("Softmax",), ("Relu",)], "follows a softmax"),
    "a factor of a product": ([("Flatten",), ("Gemm", "m", {"alpha": 2.0})], "alpha, beta and transA"),
    "another order of axes": ([("Transpose", {"perm": [0, 1, 3, 2]})], "the order of axes"),
    "a reshape of pixels": ([("Reshape", "to")], "a reshape to"),
    "flattening along another axis": ([("Flatten", {"axis": 2})], "flattening along another axis"),
    "weights that are not there": ([("Conv", "none")], "combines two results"),
    "a matrix as a kernel": ([("Conv", "m")], r"expects weights \(k, c, r, s\)"),
    "a bias of another size": ([("Flatten",), ("MatMul", "m"), ("Add", "m")], "expects a bias of 3 numbers"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str, tmp_path: Path) -> None:
    ops, pattern = REFUSED[name]
    constants = {"w": weights(2, 1, 3, 3), "two": np.float32(2), "minus": np.float32(-2), "zero": np.float32(0)}
    constants |= {"m": weights(16, 3), "to": np.array([-1, 1, 2, 8])}
    path = save(tmp_path / "m.onnx", row(*ops), constants, ("n", 1, 4, 4))
    with pytest.raises(CheckpointError, match=pattern) as caught:
        loaded(path)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 700


def test_weights_that_are_not_finite(tmp_path: Path) -> None:
    state = {name: array.copy() for name, array in LeNet(5).state_dict().items()}
    state["conv2.bias"][3] = np.inf
    with pytest.raises(CheckpointError, match=r"conv2\.bias holds a number that is not finite"):
        loaded(save(tmp_path / "m.onnx", row(*LENET), state))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (message({7: {5: {8: "w", 2: 1, 1: [3], 13: [{1: "location", 2: "/etc/passwd"}]}}}), "'w' are in another file"),
        (message({7: {5: {8: "w", 2: 1, 1: [3], 14: 1}}}), "'w' are in another file"),
        (message({7: {5: {8: "w", 2: 8, 1: [3]}}}), "'w' is of a type that is not read, number 8"),
        (message({7: {5: {8: "w", 2: 1, 1: [1 << 40], 9: b"abcd"}}}), "'w' holds 1 numbers"),
        (message({7: {5: {8: "w", 2: 1, 1: [-1], 9: b"abcd"}}}), "'w' has a damaged shape"),
        (message({7: {15: {}}}), "sparse weights"),
        (message({1: 8}), "no graph"),
        (message({7: {1: [{4: "Relu"}] * 10_001}}), "10,001 nodes"),
        (message({7: {1: [{4: "Relu", 1: ["x"], 2: ["y"]}]}}), "0 inputs and 0 outputs"),
    ],
)
def test_damaged_files(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(CheckpointError, match=reason):
        loaded(tmp_path / "m.onnx")
