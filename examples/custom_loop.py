"""Trains LeNet in a loop of your own, with the ops and an optimizer of fastlenet, and prints the accuracy after each epoch.

    python examples/custom_loop.py

`fastlenet.fit` also has schedules, augmentation, checkpoints and early stopping. Write your own loop if you need something that
`fit` does not do.
"""

from __future__ import annotations

import numpy as np

from fastlenet import LeNet, ops, optim
from fastlenet.data import Dataset, load_mnist

BATCH = 64


def train_epoch(model: LeNet, optimizer: optim.Optimizer, data: Dataset, order: np.ndarray) -> float:
    """Returns the mean loss of an epoch over the training images in this order."""
    model.train()
    losses = []
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        x = ops.gather_images(data.train_images, batch, mean=data.mean, std=data.std)
        loss, dlogits = ops.softmax_cross_entropy(model(x), data.train_labels[batch])
        model.backward(dlogits)  # overwrites the gradients, so you need not set them to zero
        optimizer.step()
        losses.append(float(loss))
    return float(np.mean(losses))


def accuracy(model: LeNet, data: Dataset, count: int) -> float:
    """Returns the accuracy on the first `count` test images."""
    model.eval()
    x = ops.gather_images(data.test_images, np.arange(count), mean=data.mean, std=data.std)
    return float((model(x).argmax(axis=1) == data.test_labels[:count]).mean())


def main(images: int = 6400, epochs: int = 2) -> float:
    data = load_mnist()
    model = LeNet(seed=0)
    optimizer = optim.SGD(model, lr=0.02, momentum=0.9, nesterov=True)
    shuffled = np.random.default_rng(0)
    for epoch in range(epochs):
        loss = train_epoch(model, optimizer, data, shuffled.permutation(images))
        print(f"epoch {epoch + 1}   loss {loss:.4f}   accuracy {accuracy(model, data, 2000):.2%}")
    return accuracy(model, data, 2000)


if __name__ == "__main__":
    main()
