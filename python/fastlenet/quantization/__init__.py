"""Networks in integers of 8 bits: `quantize` makes one of a trained network.

Every tensor between layers is uint8, and a number q in it stands for scale * (q - zero_point). Weights are int8, one scale for
each output; biases and sums are int32. A sum becomes the next layer's uint8 by one product in float32, rounded to the nearest
integer, ties to even. All else is exact. So every program that computes these layers gets the same bits: NumPy here, C,
JavaScript, ONNX Runtime.

Sources: Jacob et al. 2018, https://arxiv.org/abs/1712.05877 (the scheme); Krishnamoorthi 2018, https://arxiv.org/abs/1806.08342
(a scale for each output).
"""

from fastlenet.quantization.layers import (
    QuantizedAvgPool2d,
    QuantizedConv2d,
    QuantizedFlatten,
    QuantizedLayer,
    QuantizedLinear,
    QuantizedMaxPool2d,
    QuantizedTable,
    Scores,
)
from fastlenet.quantization.model import QuantizedModel
from fastlenet.quantization.quantizer import quantize

__all__ = [
    "QuantizedAvgPool2d",
    "QuantizedConv2d",
    "QuantizedFlatten",
    "QuantizedLayer",
    "QuantizedLinear",
    "QuantizedMaxPool2d",
    "QuantizedModel",
    "QuantizedTable",
    "Scores",
    "quantize",
]
