"""How well models do on test images: one, several whose probabilities are averaged, with or without test-time augmentation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from fastlenet.data import Dataset
from fastlenet.nn import Sequential

__all__ = ["BATCH_SIZE", "evaluate", "predict", "score"]

Array = npt.NDArray[Any]

BATCH_SIZE = 250  # test images at a time, unless one says otherwise: their activations stay below 10 MB

_SHIFTS = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))


@contextmanager
def _evaluating(model: Sequential) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.training = training


def evaluate(model: Sequential, data: Dataset, batch_size: int = BATCH_SIZE, *, tta: bool = False) -> tuple[float, float]:
    """The accuracy (a fraction) and the mean loss on the test images; leaves the model's mode as it was.

    tta: average the probabilities of each image and of its shifts by one pixel.
    """
    if tta:
        return score(predict([model], data, batch_size, tta=True), data.test_labels)
    ops, count = model.ops, len(data.test_images)
    correct, loss = 0, 0.0
    with _evaluating(model):
        for start in range(0, count, batch_size):
            images, labels = data.test_images[start : start + batch_size], data.test_labels[start : start + batch_size]
            x = ops.gather_images(images, np.arange(len(images)), mean=data.mean, std=data.std)
            logits = model(x)
            batch_loss, _ = ops.softmax_cross_entropy(logits, labels)
            loss += float(batch_loss) * len(images)
            correct += int((logits.argmax(axis=1) == labels).sum())
    return correct / count, loss / count


def predict(models: Sequence[Sequential], data: Dataset, batch_size: int = BATCH_SIZE, *, tta: bool = False) -> Array:
    """The probabilities of the test images' classes, float64 (N, classes): the mean over models and, with tta, over shifts."""
    count, shifts = len(data.test_images), _SHIFTS if tta else _SHIFTS[:1]
    sums = np.zeros((count, data.classes))
    for model in models:
        with _evaluating(model):
            for start in range(0, count, batch_size):
                images = data.test_images[start : start + batch_size]
                for down, right in shifts:
                    view = _shifted(images, down, right)
                    x = model.ops.gather_images(view, np.arange(len(view)), mean=data.mean, std=data.std)
                    sums[start : start + batch_size] += _softmax(np.asarray(model(x)))
    return sums / (len(models) * len(shifts))


def score(probabilities: Array, labels: Array) -> tuple[float, float]:
    """The accuracy (a fraction) of probabilities (N, classes), and their mean loss -log p[label]."""
    of_label = np.take_along_axis(probabilities, labels.astype(np.int64)[:, None], axis=1)
    accuracy = float((probabilities.argmax(axis=1) == labels).mean())
    return accuracy, float(-np.log(np.maximum(of_label, np.finfo(np.float64).tiny)).mean())


def _shifted(images: Array, down: int, right: int) -> Array:
    """Images (n, h, w) moved by one pixel at most, with zeros where nothing was."""
    if (down, right) == (0, 0):
        return images
    h, w = images.shape[1:]
    framed = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    return np.ascontiguousarray(framed[:, 1 - down : 1 - down + h, 1 - right : 1 - right + w])


def _softmax(logits: Array) -> Array:
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probabilities: Array = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities
