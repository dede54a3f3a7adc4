"""The contenders, a file each, with a class Peer: same network, data, batches and optimizer, as its users would write it.

    Peer(data, threads, variant)      data: images, labels, test_images, test_labels, mean, std, and trained parameters
    peer.version                      what it is, in words
    peer.train(batch, images)         that many images in shuffled order: gathered from uint8 and normalised, forward, loss,
                                      backward, SGD with Nesterov momentum; returns the mean loss
    peer.infer(batch, images)         that many test images, normalised beforehand; returns the accuracy

What only inference needs is made when it is asked for, so that the memory of training is that of training.
Training starts from the trained parameters at each call, with a rate of LR, so that ReLU's zeros are those of real training.
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
