"""PyTorch on images of CIFAR's size: eager; by variant, "channels_last", "bf16" by autocast, or both, "channels_last_bf16"."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from peers import LR, MOMENTUM


class Peer:
    def __init__(self, data: dict[str, Any], threads: int, variant: str) -> None:
        torch.set_num_threads(threads)
        self.version = f"PyTorch {torch.__version__} {variant or 'eager'}"
        self.format = torch.channels_last if "channels_last" in variant else torch.contiguous_format
        self.autocast = "bf16" in variant
        self.images, self.labels = torch.tensor(data["images"]), torch.tensor(data["labels"].astype(np.int64))
        self.mean, self.std = 255 * float(data["mean"]), 255 * float(data["std"])
        padding, layers, c = int(data["padding"]), [], 3
        for k in (32, 64, 128):
            layers += [nn.Conv2d(c, k, 3, padding=padding), nn.ReLU(), nn.MaxPool2d(2)]
            c = k
        hidden, flat = data["10.weight"].shape
        layers += [nn.Flatten(), nn.Linear(flat, hidden), nn.ReLU(), nn.Linear(hidden, 10)]
        self.net = nn.Sequential(*layers)
        self.parameters = {name: torch.tensor(data[name]) for name in self.net.state_dict()}
        self.net.to(memory_format=self.format)

    def train(self, batch: int, images: int) -> float:
        self.net.load_state_dict(self.parameters)
        optimizer = torch.optim.SGD(self.net.parameters(), lr=LR, momentum=MOMENTUM, nesterov=True)
        total = torch.zeros(())
        for index in torch.randperm(images).split(batch):
            x = self.images[index].float().sub_(self.mean).div_(self.std).contiguous(memory_format=self.format)
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
                loss = cross_entropy(self.net(x), self.labels[index])
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(index)
        return float(total) / images
