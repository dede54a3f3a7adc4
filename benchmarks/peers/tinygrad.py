"""tinygrad on the CPU, its steps captured by TinyJit."""

from __future__ import annotations

import os
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np

from peers import LR, MOMENTUM, PARAMETERS, normalised


class Peer:
    def __init__(self, data: dict[str, Any], threads: int, variant: str) -> None:
        os.environ |= {"DEV": "CPU", "CPU_COUNT": str(threads)}  # read when it is imported
        from tinygrad import Tensor, TinyJit

        self.version, self.Tensor = f"tinygrad {version('tinygrad')}", Tensor
        self.data, self.mean, self.std = data, 255 * float(data["mean"]), 255 * float(data["std"])
        self.images, self.labels = Tensor(data["images"]), Tensor(data["labels"].astype(np.int32))
        self.p = {name: Tensor(data[name]) for name in PARAMETERS}
        self.v = {name: Tensor.zeros(*data[name].shape).contiguous() for name in PARAMETERS}
        self.step, self.predict = TinyJit(self.one_step), TinyJit(self.one_batch)

    @cached_property
    def x(self) -> Any:
        return normalised(self.data)

    def forward(self, x: Any) -> Any:
        p = self.p
        for layer in ("conv1", "conv2"):
            x = x.conv2d(p[f"{layer}.weight"], p[f"{layer}.bias"]).relu().max_pool2d()
        x = x.flatten(1).linear(p["fc1.weight"].T, p["fc1.bias"]).relu()
        return x.linear(p["fc2.weight"].T, p["fc2.bias"])

    def one_step(self, index: Any) -> Any:
        x = ((self.images[index].float() - self.mean) / self.std).unsqueeze(1)
        loss = self.forward(x).sparse_categorical_crossentropy(self.labels[index])
        gradients = loss.gradient(*self.p.values())
        for name, g in zip(self.p, gradients, strict=True):
            v = self.v[name].assign(MOMENTUM * self.v[name] + g)
            self.p[name].assign(self.p[name] - LR * (g + MOMENTUM * v))
        return loss.realize(*self.p.values(), *self.v.values())

    def one_batch(self, x: Any) -> Any:
        return self.forward(x).realize()

    def train(self, batch: int, images: int) -> float:
        for name in PARAMETERS:
            self.p[name].assign(self.Tensor(self.data[name])).realize()
            self.v[name].assign(self.Tensor.zeros(*self.data[name].shape)).realize()
        order = np.random.default_rng(0).permutation(images)[: images // batch * batch].astype(np.int32)
        total = 0.0
        for start in range(0, len(order), batch):  # batches of one size only: its captured step takes no other
            total += self.step(self.Tensor(order[start : start + batch])).item() * batch
        return total / len(order)

    def infer(self, batch: int, images: int) -> float:
        logits = np.empty((images, 10), np.float32)
        for start in range(0, images, batch):
            logits[start : start + batch] = self.predict(self.Tensor(self.x[start : start + batch])).numpy()
        return float((logits.argmax(axis=1) == self.data["test_labels"][:images]).mean())
