"""ONNX Runtime, inference only; with the variant "int8", of a network that it has quantised."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime

from peers import normalised
from peers.lenet_onnx import lenet_onnx, lenet_onnx_int8


class Peer:
    def __init__(self, data: dict[str, Any], threads: int, variant: str) -> None:
        self.version = " ".join(["ONNX Runtime", onnxruntime.__version__, variant]).strip()
        model = lenet_onnx_int8(data) if variant == "int8" else lenet_onnx(data)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.x, self.labels = normalised(data), data["test_labels"]

    def infer(self, batch: int, images: int) -> float:
        logits = np.empty((images, 10), np.float32)
        for start in range(0, images, batch):
            logits[start : start + batch] = self.session.run(None, {"x": self.x[start : start + batch]})[0]
        return float((logits.argmax(axis=1) == self.labels[:images]).mean())
