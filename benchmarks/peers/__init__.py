"""The contenders, one file each with a class Peer: the same network, data, batches and optimizer, written as its users would.

    Peer(data, threads, variant)      data: images, labels, test_images, test_labels, mean, std, and trained parameters
    peer.version                      the name and version of the framework
    peer.train(batch, images)         trains on that many images in shuffled order: gathers them from uint8, normalises,
                                      forward, loss, backward, SGD with Nesterov momentum; returns the mean loss
    peer.infer(batch, images)         evaluates that many test images, normalised beforehand; returns the accuracy

Objects that only inference needs are made at the first inference, so that they do not count as memory of training. Each call of
train starts from the trained parameters, with a learning rate of LR, so that ReLU's zeros are those of real training.
"""

from __future__ import annotations

from typing import Any

LR, MOMENTUM = 0.005, 0.9
# What is left of a recipe of ours when it does what the peers do; and how the parameters were trained before.
PLAIN: dict[str, Any] = {"optimizer": "sgd", "weight_decay": 0.0, "label_smoothing": 0.0, "shift": 0}
TRAINED: dict[str, Any] = {**PLAIN, "epochs": 1, "batch_size": 128, "lr": 0.1, "algorithm": "direct"}
PARAMETERS = [f"{layer}.{part}" for layer in ("conv1", "conv2", "fc1", "fc2") for part in ("weight", "bias")]


def channels_last(parameters: dict[str, Any]) -> dict[str, Any]:
    """Filters (k, c, r, s) as (r, s, c, k), linear weights (out, in) as (in, out), fc1's inputs counted (h, w, c)."""
    changed = dict(parameters)
    for layer in ("conv1", "conv2"):
        changed[f"{layer}.weight"] = parameters[f"{layer}.weight"].transpose(2, 3, 1, 0).copy()
    fc1 = parameters["fc1.weight"].reshape(-1, 50, 4, 4).transpose(0, 2, 3, 1).reshape(-1, 800)
    changed["fc1.weight"], changed["fc2.weight"] = fc1.T.copy(), parameters["fc2.weight"].T.copy()
    return changed


def normalised(data: dict[str, Any], part: str = "test_images", count: int | None = None) -> Any:
    """The images of a part, or its first `count`, float32 (n, 1, 28, 28), as the network takes them."""
    mean, std = 255 * float(data["mean"]), 255 * float(data["std"])
    return ((data[part][:count, None].astype("float32") - mean) / std).astype("float32")
