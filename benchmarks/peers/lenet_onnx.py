"""The network as an ONNX model, for the runtimes that read one."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from onnx import TensorProto, helper, numpy_helper

from peers import PARAMETERS, normalised


def lenet_onnx(data: dict[str, Any]) -> bytes:
    nodes, at = [], "x"
    for layer in ("conv1", "conv2"):
        for op, inputs, options in (
            ("Conv", [at, f"{layer}.weight", f"{layer}.bias"], {"kernel_shape": [5, 5]}),
            ("Relu", [f"{layer}.Conv"], {}),
            ("MaxPool", [f"{layer}.Relu"], {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ):
            at = f"{layer}.{op}"
            nodes.append(helper.make_node(op, inputs, [at], **options))
    nodes.append(helper.make_node("Flatten", [at], ["flat"]))
    nodes.append(helper.make_node("Gemm", ["flat", "fc1.weight", "fc1.bias"], ["fc1"], transB=1))
    nodes.append(helper.make_node("Relu", ["fc1"], ["hidden"]))
    nodes.append(helper.make_node("Gemm", ["hidden", "fc2.weight", "fc2.bias"], ["logits"], transB=1))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 28, 28])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 10])
    parameters = [numpy_helper.from_array(data[name], name) for name in PARAMETERS]
    graph = helper.make_graph(nodes, "lenet", [x], [logits], parameters)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    content: bytes = model.SerializeToString()
    return content


class _Examples:
    """1,000 training images, from which ONNX Runtime's quantisation takes its ranges."""

    def __init__(self, data: dict[str, Any]) -> None:
        self._images = iter(normalised(data, "images", 1000))

    def get_next(self) -> dict[str, Any] | None:
        image = next(self._images, None)
        return None if image is None else {"x": image[None]}


def lenet_onnx_int8(data: dict[str, Any]) -> bytes:
    """The same, quantised by ONNX Runtime: one scale for each output channel, activations uint8, weights int8."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    with tempfile.TemporaryDirectory() as folder:
        path, quantised = Path(folder, "lenet.onnx"), Path(folder, "int8.onnx")
        path.write_bytes(lenet_onnx(data))
        types = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
        quantize_static(path, quantised, _Examples(data), quant_format=QuantFormat.QDQ, per_channel=True, **types)
        return quantised.read_bytes()
