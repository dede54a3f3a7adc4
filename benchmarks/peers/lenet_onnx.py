"""The network as an ONNX model, for the runtimes that read one."""

from __future__ import annotations

from typing import Any

from onnx import TensorProto, helper, numpy_helper

from peers import PARAMETERS


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


def test_batch(data: dict[str, Any]) -> Any:
    mean, std = 255 * float(data["mean"]), 255 * float(data["std"])
    return ((data["test_images"][:, None].astype("float32") - mean) / std).astype("float32")
