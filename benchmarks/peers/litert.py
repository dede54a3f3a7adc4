"""LiteRT, inference only, by XNNPACK, of a network that TensorFlow converts; with the variant "int8" it quantises it too."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from peers import PARAMETERS, channels_last, normalised


class Peer:
    def __init__(self, data: dict[str, Any], threads: int, variant: str) -> None:
        self.version = " ".join(["LiteRT", version("ai-edge-litert"), variant]).strip()
        p = channels_last({name: data[name] for name in PARAMETERS})

        @tf.function(input_signature=[tf.TensorSpec((None, 28, 28, 1), tf.float32)])
        def forward(x: Any) -> Any:
            for layer in ("conv1", "conv2"):
                x = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, p[f"{layer}.weight"], 1, "VALID"), p[f"{layer}.bias"]))
                x = tf.nn.max_pool2d(x, 2, 2, "VALID")
            x = tf.nn.relu(tf.reshape(x, (-1, 800)) @ p["fc1.weight"] + p["fc1.bias"])
            return x @ p["fc2.weight"] + p["fc2.bias"]

        def examples() -> Iterator[list[Any]]:
            for image in normalised(data, "images", 1000):
                yield [image.reshape(1, 28, 28, 1)]

        converter = tf.lite.TFLiteConverter.from_concrete_functions([forward.get_concrete_function()])
        if variant == "int8":
            converter.optimizations, converter.representative_dataset = [tf.lite.Optimize.DEFAULT], examples
        self.content, self.threads = converter.convert(), threads
        self.interpreters: dict[int, Any] = {}
        self.x, self.labels = normalised(data).reshape(-1, 28, 28, 1), data["test_labels"]

    def _interpreter(self, batch: int) -> Any:
        if batch not in self.interpreters:
            made = Interpreter(model_content=self.content, num_threads=self.threads)
            made.resize_tensor_input(made.get_input_details()[0]["index"], (batch, 28, 28, 1))
            made.allocate_tensors()
            self.interpreters[batch] = made
        return self.interpreters[batch]

    def infer(self, batch: int, images: int) -> float:
        interpreter = self._interpreter(batch)
        x, y = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
        logits = np.empty((images, 10), np.float32)
        for start in range(0, images, batch):
            interpreter.set_tensor(x, self.x[start : start + batch])
            interpreter.invoke()
            logits[start : start + batch] = interpreter.get_tensor(y)
        return float((logits.argmax(axis=1) == self.labels[:images]).mean())
