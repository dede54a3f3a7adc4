"""TensorFlow: a step traced by tf.function, with channels last, which its convolutions on the CPU need."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from peers import LR, MOMENTUM, PARAMETERS, channels_last


class Peer:
    def __init__(self, data: dict[str, Any], threads: int, variant: str) -> None:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        self.version = f"TensorFlow {tf.__version__}"
        self.data = data
        self.images, self.labels = tf.constant(data["images"]), tf.constant(data["labels"].astype(np.int32))
        self.mean, self.std = 255 * float(data["mean"]), 255 * float(data["std"])
        self.parameters = channels_last({name: data[name] for name in PARAMETERS})
        self.p = {name: tf.Variable(array) for name, array in self.parameters.items()}
        self.v = {name: tf.Variable(tf.zeros_like(array)) for name, array in self.parameters.items()}
        self.step, self.predict = tf.function(self.one_step), tf.function(self.forward, reduce_retracing=True)

    @cached_property
    def x(self) -> Any:
        return tf.constant((self.data["test_images"][..., None].astype(np.float32) - self.mean) / self.std)

    def forward(self, x: Any) -> Any:
        p = self.p
        for layer in ("conv1", "conv2"):
            x = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, p[f"{layer}.weight"], 1, "VALID"), p[f"{layer}.bias"]))
            x = tf.nn.max_pool2d(x, 2, 2, "VALID")
        x = tf.nn.relu(tf.reshape(x, (-1, 800)) @ p["fc1.weight"] + p["fc1.bias"])
        return x @ p["fc2.weight"] + p["fc2.bias"]

    def one_step(self, index: Any) -> Any:
        x = (tf.cast(tf.gather(self.images, index), tf.float32) - self.mean) / self.std
        labels = tf.gather(self.labels, index)
        with tf.GradientTape() as tape:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, self.forward(x[..., None]))
            loss = tf.reduce_mean(losses)
        gradients = tape.gradient(loss, self.p)
        for name, g in gradients.items():
            v = self.v[name].assign(MOMENTUM * self.v[name] + g)
            self.p[name].assign_sub(LR * (g + MOMENTUM * v))
        return loss * tf.cast(len(index), tf.float32)

    def train(self, batch: int, images: int) -> float:
        for name, array in self.parameters.items():
            self.p[name].assign(array)
            self.v[name].assign(tf.zeros_like(array))
        order = np.random.default_rng(0).permutation(images)
        losses = [self.step(tf.constant(order[start : start + batch])) for start in range(0, images, batch)]
        return float(sum(losses)) / images

    def infer(self, batch: int, images: int) -> float:
        predictions = [self.predict(self.x[i : i + batch]).numpy() for i in range(0, images, batch)]
        return float((np.concatenate(predictions).argmax(axis=1) == self.data["test_labels"][:images]).mean())
