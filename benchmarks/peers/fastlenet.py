"""fastlenet: `fastlenet.fit`, and a frozen model. The variant is the algorithm of the convolutions, a precision
("bf16", "int8", of raw images), or "cuda" for a GPU."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from fastlenet import LeNet, bf16, config, fit, ops, set_num_threads
from fastlenet.data import Dataset
from peers import LR, MOMENTUM, PARAMETERS, PLAIN


class Peer:
    def __init__(self, data: dict[str, Any], threads: int, variant: str) -> None:
        set_num_threads(threads)
        self.ops, where = ops, " ".join([config()["level"], variant]).strip()
        if variant == "cuda":
            from fastlenet import cuda

            cuda.synchronize()  # or a DeviceError, which says why not
            self.ops, where = cuda, f"cuda: {config()['cuda']}"
        self.precision = variant if variant in ("bf16", "int8") else "float32"
        if variant == "bf16":
            where = f"{bf16.level()}"  # or a ValueError, which says why not
        if variant == "int8":
            where = f"{config()['level']} int8 by {config()['int8']}"
        self.version = f"fastlenet {config()['version']}, {where}"
        self.data = data
        self.parameters = {name: data[name] for name in PARAMETERS}
        self.algorithm = "winograd" if variant in ("winograd", "bf16") else "direct"
        self.mean_std = {"mean": float(data["mean"]), "std": float(data["std"])}

    @cached_property
    def frozen(self) -> Any:
        precision = "bf16" if self.precision == "bf16" else "float32"
        model = LeNet(algorithm=self.algorithm, ops=self.ops, precision=precision)
        model.load_state_dict(self.parameters)
        if self.precision == "int8":
            images = self.data["images"]
            model.set_facts(input_shape=(1, 28, 28), **self.mean_std)
            return model.quantize(images[np.arange(500) * len(images) // 500]).logits
        return model.freeze()

    @cached_property
    def x(self) -> Any:
        images = self.data["test_images"]
        if self.precision == "int8":
            return np.ascontiguousarray(images[:, None])
        return self.ops.gather_images(images, range(len(images)), **self.mean_std)

    def train(self, batch: int, images: int) -> float:
        d = self.data
        few = d["test_images"][:1], d["test_labels"][:1]  # fit evaluates at its end: let that cost nothing
        data = Dataset("MNIST", d["images"][:images], d["labels"][:images], *few, 10, **self.mean_std)
        model = LeNet(algorithm=self.algorithm, ops=self.ops)
        model.load_state_dict(self.parameters)
        plain = {**PLAIN, "algorithm": self.algorithm}
        options = {
            "epochs": 1,
            "batch_size": batch,
            "lr": LR,
            "momentum": MOMENTUM,
            "evaluate_every_epoch": False,
            "verbose": 0,
        }
        history = fit(model, data, **options, **plain)
        return history.epochs[-1].loss

    def infer(self, batch: int, images: int) -> float:
        logits = np.empty((images, 10), np.float32)
        for start in range(0, images, batch):
            logits[start : start + batch] = self.frozen(self.x[start : start + batch])
        return float((logits.argmax(axis=1) == self.data["test_labels"][:images]).mean())
