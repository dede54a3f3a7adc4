"""ncnn, inference only: one image at a time, as it has no batches. With the variant "bf16" it stores bfloat16."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import ncnn
import numpy as np

from peers import PARAMETERS, normalised

# Its own text format: type, name, numbers of inputs and outputs, their names, then the settings by number.
NETWORK = """7767517
7 7
Input x 0 1 x 0=28 1=28 2=1
Convolution conv1 1 1 x a 0=20 1=5 5=1 6=500 9=1
Pooling pool1 1 1 a b 0=0 1=2 2=2
Convolution conv2 1 1 b c 0=50 1=5 5=1 6=25000 9=1
Pooling pool2 1 1 c d 0=0 1=2 2=2
InnerProduct fc1 1 1 d e 0=500 1=1 2=400000 9=1
InnerProduct fc2 1 1 e logits 0=10 1=1 2=5000
"""


class Peer:
    def __init__(self, data: dict[str, Any], threads: int, variant: str) -> None:
        self.version = " ".join(["ncnn", ncnn.__version__, variant]).strip()
        self.net = ncnn.Net()
        self.net.opt.num_threads = threads
        self.net.opt.use_bf16_storage = variant == "bf16"
        weights = b"".join(
            (b"\0\0\0\0" if name.endswith("weight") else b"") + data[name].astype(np.float32).tobytes() for name in PARAMETERS
        )
        with tempfile.TemporaryDirectory() as folder:
            text, binary = Path(folder, "lenet.param"), Path(folder, "lenet.bin")
            text.write_text(NETWORK)
            binary.write_bytes(weights)
            if self.net.load_param(str(text)) or self.net.load_model(str(binary)):
                raise RuntimeError("ncnn does not load the network")
        self.x, self.labels = normalised(data), data["test_labels"]

    def infer(self, batch: int, images: int) -> float:
        logits = np.empty((images, 10), np.float32)
        for i in range(images):
            extractor = self.net.create_extractor()
            extractor.input("x", ncnn.Mat(self.x[i]))
            logits[i] = np.asarray(extractor.extract("logits")[1])
        return float((logits.argmax(axis=1) == self.labels[:images]).mean())
