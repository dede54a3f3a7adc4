"""Trains the same recipe in PyTorch, so that speedrun can time it. Needs PyTorch and NumPy, but not fastlenet.

    python pytorch_twin.py JOB.json

speedrun writes the job: the recipe's fields, the learning rate of every step, the starts of each epoch's batches, and the files
of the data. The output is an object with accuracy and seconds, as `python -m fastlenet.train --json` prints them. The data are
preloaded. Batches are gathered by index: no DataLoader, no worker processes, no Python per image.
"""

from __future__ import annotations

import gzip
import itertools
import json
import math
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

Job = dict[str, Any]  # of JSON: what speedrun asks for


def read_idx(path: str) -> Tensor:
    data = Path(path).read_bytes()
    if path.endswith(".gz"):
        data = gzip.decompress(data)
    shape = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(data[3])]
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=4 + 4 * len(shape)).reshape(shape).copy())


def lenet(dropout_fc1: float, dropout: float) -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Dropout(dropout_fc1), nn.Linear(800, 500), nn.ReLU()),
        *(nn.Dropout(dropout), nn.Linear(500, 10)),
    )


def uniform(count: int, most: float) -> Tensor:
    return (2 * torch.rand(count) - 1) * most


def smoothing(size: int, sigma: float) -> Tensor:
    """The matrix that convolves `size` numbers with a Gaussian, cut off at 3 sigma and scaled to sum 1."""
    reach = math.ceil(3 * sigma)
    taps = torch.exp(-0.5 * torch.arange(-reach, reach + 1.0) ** 2 / sigma**2)
    distance = torch.arange(size) - torch.arange(size)[:, None]
    matrix = (taps / taps.sum())[distance.clamp(-reach, reach) + reach]
    return torch.where(distance.abs() <= reach, matrix, torch.zeros(()))


def augment(images: Tensor, recipe: Job) -> Tensor:
    """Distorts float images (n, h, w): one bilinear step for all maps and shifts, with black outside; then the cutout box."""
    n, h, w = images.shape
    most = recipe["shift"]
    shift = torch.randint(-most, most + 1, (2, n))
    if any(recipe[name] for name in ("rotation", "scale", "shear", "elastic")):
        images = warp(images, shift, recipe)
    elif most:
        framed = functional.pad(images, (most, most, most, most))
        rows = torch.arange(h) + most - shift[0][:, None]
        columns = torch.arange(w) + most - shift[1][:, None]
        images = framed[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]
    if recipe["cutout"]:
        row, column = torch.randint(h, (n, 1)), torch.randint(w, (n, 1))
        side = recipe["cutout"]

        def inside(place: Tensor, centre: Tensor) -> Tensor:
            return (place >= centre - side // 2) & (place < centre - side // 2 + side)

        hole = inside(torch.arange(h), row)[:, :, None] & inside(torch.arange(w), column)[:, None, :]
        images = images.masked_fill(hole, 0)
    return images


def warp(images: Tensor, shift: Tensor, recipe: Job) -> Tensor:
    n, h, w = images.shape
    angle = uniform(n, math.radians(recipe["rotation"]))
    taller, wider = 1 + uniform(n, recipe["scale"]), 1 + uniform(n, recipe["scale"])
    slant = uniform(n, recipe["shear"])
    zero, one = torch.zeros(n), torch.ones(n)
    turned = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(n, 2, 2)
    slanted = torch.stack([one, zero, slant, one], 1).view(n, 2, 2)
    scaled = torch.stack([taller, zero, zero, wider], 1).view(n, 2, 2)
    back = torch.linalg.inv(turned @ slanted @ scaled)
    centre = torch.tensor([h - 1, w - 1]) / 2
    pixels = torch.stack(torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij"), -1).view(1, h * w, 2)
    places = (pixels - shift.T[:, None, :] - centre) @ back.transpose(1, 2) + centre
    if recipe["elastic"]:
        noise = 2 * torch.rand(n, 2, h, w) - 1
        bent = smoothing(h, recipe["elastic_sigma"]) @ noise @ smoothing(w, recipe["elastic_sigma"]).T
        places = places + recipe["elastic"] * bent.view(n, 2, h * w).transpose(1, 2)
    grid = (places / centre - 1).flip(-1).view(n, h, w, 2)  # column first, -1 and 1 the middles of the outermost pixels
    return functional.grid_sample(images[:, None], grid, align_corners=True)[:, 0]


def sgd(parameters: Iterable[nn.Parameter], recipe: Job) -> torch.optim.Optimizer:
    momentum = recipe["momentum"]
    return torch.optim.SGD(
        parameters,
        lr=0.1,
        momentum=momentum,
        nesterov=recipe["nesterov"] and momentum > 0,
        weight_decay=recipe["weight_decay"],
        fused=True,
    )


class Muon:
    """Orthogonalised momentum for the convolutions' weights, as matrices, and SGD for the rest; as in fastlenet.optim."""

    def __init__(self, model: nn.Module, recipe: Job) -> None:
        self.matrices = [p for p in model.parameters() if p.ndim == 4]
        self.velocities = [torch.zeros_like(p) for p in self.matrices]
        self.sgd = sgd([p for p in model.parameters() if p.ndim != 4], recipe)
        self.param_groups, self.recipe = self.sgd.param_groups, recipe

    def zero_grad(self) -> None:
        self.sgd.zero_grad()
        for p in self.matrices:
            p.grad = None

    @torch.no_grad()
    def step(self) -> None:
        recipe = self.recipe
        self.sgd.step()
        for p, velocity in zip(self.matrices, self.velocities, strict=True):
            gradient = p.grad
            assert gradient is not None
            velocity.mul_(recipe["momentum"]).add_(gradient)
            direction = gradient.add(velocity, alpha=recipe["momentum"]) if recipe["nesterov"] else velocity
            x = direction.flatten(1) / direction.norm().clamp_min(1e-30)
            for _ in range(5):
                gram = x @ x.T
                x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
            rate = self.param_groups[0]["lr"] * recipe["muon_lr"] / recipe["lr"] * max(1, x.shape[0] / x.shape[1]) ** 0.5
            p.mul_(1 - rate * recipe["weight_decay"]).sub_(x.view_as(p), alpha=rate)


def make_optimizer(model: nn.Module, recipe: Job) -> torch.optim.Optimizer | Muon:
    if recipe["optimizer"] in ("adam", "adamw"):
        betas = (recipe["momentum"], 0.999)
        kind = torch.optim.Adam if recipe["optimizer"] == "adam" else torch.optim.AdamW
        return kind(model.parameters(), lr=0.1, betas=betas, weight_decay=recipe["weight_decay"], fused=True)
    return Muon(model, recipe) if recipe["optimizer"] == "muon" else sgd(model.parameters(), recipe)


def train(job: Job, model: nn.Module, images: Tensor, labels: Tensor) -> nn.Module:
    """Trains the model. Returns the model to evaluate: the average of its weights, if the recipe has one."""
    recipe = job["recipe"]
    optimizer = make_optimizer(model, recipe)
    swa_utils = torch.optim.swa_utils
    average = None
    step = 0
    for epoch, starts in enumerate(job["batch_starts"]):
        order = torch.randperm(len(images))
        for start, end in itertools.pairwise(starts):
            index = order[start:end]
            batch = images[index].float()
            if epoch < recipe["epochs"] - recipe["plain_epochs"]:
                batch = augment(batch, recipe)
            logits = model(normalised(batch, job))
            loss = mean_loss(logits, labels[index], job)
            optimizer.zero_grad()
            loss.backward()
            if recipe["clip_norm"]:
                torch.nn.utils.clip_grad_norm_(model.parameters(), recipe["clip_norm"])
            optimizer.param_groups[0]["lr"] = job["rates"][step]
            optimizer.step()
            step += 1
            if job["average_from"] is not None and step >= job["average_from"]:
                if average is None:
                    average = swa_utils.AveragedModel(model, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(recipe["ema"]))
                    average.update_parameters(model)
                elif (step - job["average_from"]) % recipe["ema_every"] == 0:
                    average.update_parameters(model)
    return model if average is None else average


def mean_loss(logits: Tensor, labels: Tensor, job: Job) -> Tensor:
    smoothing, weights = job["recipe"]["label_smoothing"], job["class_weights"]
    if job["recipe"]["loss"] == "cross_entropy" and weights is None:
        return functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    if job["recipe"]["loss"] == "cross_entropy":
        losses = functional.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
    else:
        target = functional.one_hot(labels, logits.shape[1]) * (1 - smoothing) + smoothing / logits.shape[1]
        losses = ((logits.softmax(1) - target) ** 2).mean(1)
    return losses.mean() if weights is None else (torch.tensor(weights)[labels] * losses).mean()


def normalised(images: Tensor, job: Job) -> Tensor:
    return ((images - 255 * job["mean"]) / (255 * job["std"]))[:, None]


@torch.inference_mode()
def accuracy(job: Job, model: nn.Module, images: Tensor, labels: Tensor) -> float:
    model.eval()
    shifts = [(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)] if job["recipe"]["tta"] else [(0, 0)]
    h, w = images.shape[1:]
    correct = 0
    for batch, of in zip(images.split(1000), labels.split(1000), strict=True):
        framed = functional.pad(batch.float(), (1, 1, 1, 1))
        views = [framed[:, 1 - down : 1 - down + h, 1 - right : 1 - right + w] for down, right in shifts]
        mean = torch.stack([model(normalised(view, job)).softmax(1) for view in views]).mean(0)
        correct += int((mean.argmax(1) == of).sum())
    return correct / len(labels)


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(job["threads"])
    torch.manual_seed(job["recipe"]["seed"])
    times = [time.perf_counter()]
    images, labels, test_images, test_labels = map(read_idx, job["files"])
    labels, test_labels = labels.long(), test_labels.long()
    times.append(time.perf_counter())
    model = lenet(job["recipe"]["dropout_fc1"], job["recipe"]["dropout"])
    model = train(job, model, images, labels)
    times.append(time.perf_counter())
    final = accuracy(job, model, test_images, test_labels)
    times.append(time.perf_counter())
    names = ("data", "training", "evaluation")
    pairs = zip(names, itertools.pairwise(times), strict=True)
    seconds = {name: after - before for name, (before, after) in pairs}
    print(json.dumps({"accuracy": final, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
