"""Small networks as files of Caffe, ONNX and NumPy, made without these programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fastlenet import Chain
from helpers.protobuf import message

__all__ = ["caffe", "npz", "onnx"]


def caffe(path: Path) -> Path:
    """A convolution, a pooling and a matrix, of 5x5 pixels."""
    kernel = {7: {1: np.array([2, 1, 2, 2])}, 5: np.ones(8, np.float32)}
    matrix = {7: {1: np.array([3, 8])}, 5: np.ones(24, np.float32)}
    layers = [
        {
            1: "c",
            2: "Convolution",
            3: "x",
            4: "c",
            7: [kernel, {5: np.ones(2, np.float32), 7: {1: np.array([2])}}],
            106: {4: 2},
        },
        {1: "p", 2: "Pooling", 3: "c", 4: "p", 121: {2: 2, 3: 2}},
        {1: "m", 2: "InnerProduct", 3: "p", 4: "m", 7: [matrix], 117: {2: 0}},
    ]
    path.write_bytes(message({1: "net", 4: [1, 1, 5, 5], 100: layers}))
    return path


def onnx(path: Path) -> Path:
    """The same."""

    def tensor(name: str, *shape: int) -> dict[int, object]:
        return {1: list(shape), 2: 1, 8: name, 9: np.ones(shape, np.float32).tobytes()}

    nodes = [
        {1: ["x", "w"], 2: "a", 4: "Conv"},
        {1: "a", 2: "b", 4: "MaxPool", 5: [{1: "kernel_shape", 8: [2, 2], 20: 7}, {1: "strides", 8: [2, 2], 20: 7}]},
        {1: "b", 2: "c", 4: "Flatten"},
        {1: ["c", "m"], 2: "y", 4: "Gemm", 5: [{1: "transB", 3: 1, 20: 2}]},
    ]
    shape = {1: {1: 1, 2: {1: [{2: "n"}, {1: 1}, {1: 5}, {1: 5}]}}}
    graph = {1: nodes, 5: [tensor("w", 2, 1, 2, 2), tensor("m", 3, 8)], 11: {1: "x", 2: shape}, 12: {1: "y"}}
    path.write_bytes(message({1: 8, 7: graph, 8: {2: 13}}))
    return path


def npz(path: Path) -> Path:
    np.savez(path, **Chain((1, 2, 3)).state_dict())
    return path
