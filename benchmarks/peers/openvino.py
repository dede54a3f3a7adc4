"""OpenVINO, inference only, in float32; with the variant "bf16" in bfloat16, where the CPU has it; with "int8" the network that
ONNX Runtime quantised."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino

from peers import normalised
from peers.lenet_onnx import lenet_onnx, lenet_onnx_int8


class Peer:
    def __init__(self, data: dict[str, Any], threads: int, variant: str) -> None:
        self.version = " ".join(["OpenVINO", openvino.__version__.split("-")[0], variant]).strip()
        self.model = lenet_onnx_int8(data) if variant == "int8" else lenet_onnx(data)
        self.settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "bf16" if variant == "bf16" else "f32",
        }
        self.requests: dict[int, Any] = {}
        self.x, self.labels = normalised(data), data["test_labels"]

    def infer(self, batch: int, images: int) -> float:
        if batch not in self.requests:  # compiled for its batch size, which is its fastest
            core = openvino.Core()
            model = core.read_model(self.model, b"")
            model.reshape([batch, 1, 28, 28])
            self.requests[batch] = core.compile_model(model, "CPU", self.settings).create_infer_request()
        request = self.requests[batch]
        logits = np.empty((images, 10), np.float32)
        for start in range(0, images, batch):
            logits[start : start + batch] = request.infer([self.x[start : start + batch]], share_inputs=True)[0]
        return float((logits.argmax(axis=1) == self.labels[:images]).mean())
