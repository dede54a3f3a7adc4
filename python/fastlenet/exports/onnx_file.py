"""A model as an ONNX file, in float32 or in integers of 8 bits."""

from __future__ import annotations

from types import ModuleType

from fastlenet.backend import Shape
from fastlenet.config import config
from fastlenet.exports.content import Content, ExportError, Request, expect_normalised_images, kind_of, outputs_of
from fastlenet.exports.onnx import float32, int8
from fastlenet.exports.onnx.graph import Graph
from fastlenet.nn import Sequential
from fastlenet.quantization import QuantizedModel

__all__ = ["write"]

_OPSET, _IR = 13, 7  # of ONNX 1.8, which ONNX Runtime reads since 1.6
_MOST_BYTES = 2**31 - 2**20  # of constants: protobuf writes at most 2 GB


def write(request: Request) -> Content:
    """Returns a model in ONNX. Raises ExportError, also where the package onnx is missing, or TypeError."""
    onnx = _onnx()
    model, quantized = request.model, request.quantized
    shape = _expect_exportable(model, request.with_normalisation)
    raw = quantized is not None or request.with_normalisation
    source, result = "images" if raw else "input", "probabilities" if request.with_normalisation else "scores"
    graph = Graph(source, result)
    if quantized is not None:
        x = int8.add_layers(graph, quantized, source)
    else:
        assert isinstance(model, Sequential)
        x = float32.add_layers(graph, model, float32.add_normalisation(graph, model, source) if raw else source)
    if request.with_normalisation:
        graph.layer = "probabilities"
        x = graph.add("Softmax", x, axis=1)
    graph.end(x, result)
    inputs, outputs = (source, "uint8" if raw else "float32", model.input_shape or ()), (result, "float32", shape)
    content = _file(onnx, graph, model, inputs, outputs)
    return Content(content, (f"{_described(*inputs)} -> {_described(*outputs)}",))


def _onnx() -> ModuleType:
    try:
        import onnx
    except ImportError as error:
        raise ExportError(f"this format needs the package onnx ({error}); pip install 'fastlenet[onnx]'") from None
    return onnx


def _expect_exportable(model: Sequential | QuantizedModel, with_normalisation: bool) -> Shape:
    """The shape of one example's output. Raises ExportError or TypeError unless the model can be written."""
    shape = outputs_of(model)
    bytes_ = model.nbytes if isinstance(model, QuantizedModel) else model.parameter_buffer.nbytes
    if bytes_ > _MOST_BYTES:
        raise ExportError(f"an ONNX file holds at most {_MOST_BYTES:,} bytes of parameters, and the model has {bytes_:,}")
    if with_normalisation:
        expect_normalised_images(model, "with_normalisation")
    if with_normalisation and len(shape) != 1:
        cure = "add Flatten(), or leave with_normalisation out"
        raise ExportError(
            f"the model gives an output of shape {shape}, where probabilities need a score for each class; {cure}"
        )
    return shape


def _described(name: str, kind: str, shape: Shape) -> str:
    return f"{name}: {kind} (n, {', '.join(map(str, shape))})"


def _file(
    onnx: ModuleType,
    graph: Graph,
    model: Sequential | QuantizedModel,
    inputs: tuple[str, str, Shape],
    outputs: tuple[str, str, Shape],
) -> bytes:
    """The file, checked by onnx itself. inputs, outputs: name, type and shape of one example."""
    types = {"float32": onnx.TensorProto.FLOAT, "uint8": onnx.TensorProto.UINT8}
    nodes = [
        onnx.helper.make_node(node.operation, node.inputs, [node.output], node.name, **node.attributes) for node in graph.nodes
    ]
    ends = [[onnx.helper.make_tensor_value_info(name, types[kind], ["n", *shape])] for name, kind, shape in (inputs, outputs)]
    arrays = [onnx.numpy_helper.from_array(value, name) for name, value in graph.constants.items()]
    network, version = kind_of(model), config()["version"]
    made = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, network, *ends, arrays),
        opset_imports=[onnx.helper.make_opsetid("", _OPSET)],
        ir_version=_IR,
        producer_name="fastlenet",
        producer_version=version,
    )
    onnx.helper.set_model_props(made, {"network": network, **model.facts.as_metadata()})
    onnx.checker.check_model(made, full_check=True)
    content: bytes = made.SerializeToString()
    return content
