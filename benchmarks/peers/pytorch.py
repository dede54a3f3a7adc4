"""PyTorch: eager, or by variant: "compile" uses torch.compile, "bf16" autocast, "cuda" a GPU."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy, max_pool2d, relu

from peers import LR, MOMENTUM, PARAMETERS


class LeNet(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = torch.nn.Conv2d(1, 20, 5), torch.nn.Conv2d(20, 50, 5)
        self.fc1, self.fc2 = torch.nn.Linear(800, 500), torch.nn.Linear(500, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = max_pool2d(relu(self.conv1(x)), 2)
        x = max_pool2d(relu(self.conv2(x)), 2)
        return self.fc2(relu(self.fc1(x.flatten(1))))


class Peer:
    def __init__(self, data: dict[str, Any], threads: int, variant: str) -> None:
        torch.set_num_threads(threads)
        self.version = " ".join(["PyTorch", torch.__version__, variant or "eager"])
        if variant == "cuda":
            if not torch.cuda.is_available():
                raise ImportError("no GPU that this PyTorch can use")
            torch.set_default_device("cuda")
        self.images, self.labels = torch.tensor(data["images"]), torch.tensor(data["labels"].astype(np.int64))
        self.test_labels = torch.tensor(data["test_labels"].astype(np.int64))
        self.mean, self.std = 255 * float(data["mean"]), 255 * float(data["std"])
        self.test_images = torch.tensor(data["test_images"])
        self.parameters = {name: torch.tensor(data[name]) for name in PARAMETERS}
        self.net = LeNet()
        self.net.load_state_dict(self.parameters)
        self.run = torch.compile(self.net) if variant == "compile" else self.net
        self.autocast = variant == "bf16"

    @cached_property
    def x(self) -> torch.Tensor:
        return self.normalised(self.test_images)

    def normalised(self, images: torch.Tensor) -> torch.Tensor:
        return images.unsqueeze(1).float().sub_(self.mean).div_(self.std)

    def train(self, batch: int, images: int) -> float:
        self.net.load_state_dict(self.parameters)
        self.net.train()
        optimizer = torch.optim.SGD(self.net.parameters(), lr=LR, momentum=MOMENTUM, nesterov=True)
        total = torch.zeros(())  # read once, so that a GPU need not be waited for
        for index in torch.randperm(images).split(batch):
            x = self.normalised(self.images[index])
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
                loss = cross_entropy(self.run(x), self.labels[index])
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(index)
        return float(total) / images

    def infer(self, batch: int, images: int) -> float:
        self.net.eval()
        logits = torch.empty((images, 10))
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            for start in range(0, images, batch):
                logits[start : start + batch] = self.run(self.x[start : start + batch])
        return float((logits.argmax(1) == self.test_labels[:images]).float().mean())
