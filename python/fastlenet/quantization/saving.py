"""A quantized network in a safetensors file: its arrays as tensors, its layers and facts as words."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence

import numpy as np

from fastlenet.formats.tensor_file import write_tensors
from fastlenet.inference.facts import ModelFacts
from fastlenet.quantization.layers import QuantizedLayer

__all__ = ["KEY", "TENSORS", "WORDS", "save"]

KEY = "quantized"  # the word of the metadata that describes the layers
# What a file says of each kind: its tensors, and its words.
TENSORS: Mapping[str, Mapping[str, type[np.generic]]] = {
    "Conv2d": {"weight": np.int8, "bias": np.int32, "multiplier": np.float32, "padding_value": np.uint8},
    "Linear": {"weight": np.int8, "bias": np.int32, "multiplier": np.float32},
    "MaxPool2d": {},
    "AvgPool2d": {"zero_point": np.uint8, "multiplier": np.float32},
    "Table": {"table": np.uint8},
    "Flatten": {},
    "Scores": {"scale": np.float32},
}
WORDS: Mapping[str, tuple[str, ...]] = {
    "Conv2d": ("zero_point", "stride", "padding"),
    "Linear": ("zero_point",),
    "MaxPool2d": ("kernel_size", "stride", "padding"),
    "AvgPool2d": ("kernel_size", "stride", "padding"),
    "Table": ("activation",),
    "Flatten": (),
    "Scores": ("zero_point",),
}


def save(path: str | os.PathLike[str], layers: Sequence[QuantizedLayer], facts: ModelFacts, network: str) -> None:
    """Write a model to a safetensors file. Raises CheckpointError if that cannot be done; the old file then stays."""
    said = [
        {"name": layer.name, "layer": layer.kind, **{word: getattr(layer, word) for word in WORDS[layer.kind]}}
        for layer in layers
    ]
    tensors = {f"{layer.name}.{key}": np.asarray(getattr(layer, key)) for layer in layers for key in TENSORS[layer.kind]}
    words = {KEY: json.dumps({"network": network, "layers": said}), **facts.as_metadata()}
    write_tensors(path, tensors, words)
