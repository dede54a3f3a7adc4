"""Evaluates models on test images: one model or an ensemble, with or without test-time augmentation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from fastlenet.backend import Array
from fastlenet.data.dataset import Dataset, Part
from fastlenet.fields import integer
from fastlenet.nn import Sequential

__all__ = [
    "BATCH_SIZE",
    "evaluate",
    "expect_fit",
    "expect_images",
    "has_images",
    "predict",
    "probabilities",
    "reported_part",
    "score",
]

BATCH_SIZE = 250  # the default number of test images at a time; their activations stay below 10 MB

_SHIFTS = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))


@contextmanager
def _evaluating(model: Sequential) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.training = training


def has_images(data: Dataset) -> bool:
    """Whether the data set has images to report on."""
    return len(data.test_images) > 0 or len(data.validation_images) > 0


def expect_images(data: Dataset) -> None:
    """Raises ValueError for a data set without images to report on."""
    reported_part(data)


def reported_part(data: Dataset, part: Part | None = None) -> Part:
    """Returns the part that is reported on: the one asked for, else the test part, else the validation part.

    Raises ValueError if it has no images.
    """
    choices: tuple[Part, ...] = ("test", "validation") if part is None else (part,)
    for choice in choices:
        if len(data.part(choice).labels):
            return choice
    raise ValueError(f"{data.name}: no {' or '.join(choices)} images to report on; data.split(0.1) takes some for validation")


def expect_fit(model: Sequential, data: Dataset) -> None:
    """Try the model on one training image. Raises TypeError or ValueError if it does not give one score per class."""
    if not isinstance(data, Dataset):
        raise TypeError(f"data expects a Dataset, got {type(data).__name__}")
    if not isinstance(model, Sequential):
        raise TypeError(f"model expects a Sequential, as LeNet is, got {type(model).__name__}")
    x = model.ops.gather_images(data.train_images[:1], np.arange(1), mean=data.mean, std=data.std)
    try:
        with _evaluating(model):
            got = model(x).shape
    except ValueError as error:
        channels, h, w = data.input_shape
        words = "one channel" if channels == 1 else f"{channels} channels"
        cure = f"{type(model).__name__}(input_shape={data.input_shape}, classes={data.classes}) takes them"
        message = f"{data.name}: images of {h}x{w} pixels in {words} are not for this model; {error}"
        raise ValueError(f"{message}; {cure}" if hasattr(model, "input_shape") else message) from None
    if got != (1, data.classes):
        scores = f"{got[1]} scores" if len(got) == 2 else f"an output of shape {got[1:]}"
        raise ValueError(f"{data.name}: model expects {data.classes} outputs, the data's classes, got {scores} for an image")


def _expect_finite(model: Sequential) -> None:
    """Raise ValueError for an infinity or NaN in a parameter, since NaN scores would silently give the first class."""
    odd = [name for name, array in model.parameters().items() if not np.isfinite(array).all()]
    if odd:
        raise ValueError(f"model expects finite parameters, got NaN or infinity in {', '.join(odd)}")


def evaluate(
    model: Sequential, data: Dataset, batch_size: int = BATCH_SIZE, *, tta: bool = False, part: Part | None = None
) -> tuple[float, float]:
    """Returns the accuracy, a fraction, and the mean loss on the test images. Restores the model's mode.

    batch_size: images at a time, at least 1. tta: average the probabilities of each image and its four shifts by one pixel.
    part: "train", "validation" or "test"; None is the test images, or the validation images if there are no test images.
    Raises TypeError or ValueError for a wrong argument, a model that does not match the data, or parameters that are not
    finite.
    """
    if tta:
        probabilities = predict([model], data, batch_size, tta=True, part=part)
        return score(probabilities, data.part(reported_part(data, part)).labels)
    batch_size = integer("batch_size", batch_size, 1)
    expect_fit(model, data)
    expect_images(data)
    _expect_finite(model)
    all_images, all_labels = data.part(reported_part(data, part))
    ops, count = model.ops, len(all_images)
    correct, loss = 0, 0.0
    with _evaluating(model):
        for start in range(0, count, batch_size):
            images, labels = all_images[start : start + batch_size], all_labels[start : start + batch_size]
            x = ops.gather_images(images, np.arange(len(images)), mean=data.mean, std=data.std)
            logits = model(x)
            batch_loss, _ = ops.softmax_cross_entropy(logits, labels)
            loss += float(batch_loss) * len(images)
            correct += int((logits.argmax(axis=1) == labels).sum())
    return correct / count, loss / count


def predict(
    models: Sequence[Sequential],
    data: Dataset,
    batch_size: int = BATCH_SIZE,
    *,
    tta: bool = False,
    part: Part | None = None,
) -> Array:
    """Returns the class probabilities of the test images, float64 (N, classes): the mean over models and, with tta, over
    shifts.

    models: one model or several, at least one. part: as in evaluate. Raises as evaluate does.
    """
    models = _listed(models)
    for model in models:
        expect_fit(model, data)
        expect_images(data)
    images = data.part(reported_part(data, part)).images
    return probabilities(models, images, mean=data.mean, std=data.std, batch_size=batch_size, tta=tta)


def probabilities(
    models: Sequential | Sequence[Sequential],
    images: Array,
    *,
    mean: float | Sequence[float],
    std: float | Sequence[float],
    batch_size: int = BATCH_SIZE,
    tta: bool = False,
) -> Array:
    """Returns the class probabilities of images, float64 (N, classes): the mean over models and, with tta, over shifts.

    models: one model or several, at least one, of the same classes. images: as gather_images takes them, as mean and std.
    Raises ValueError for images that do not fit a model and for a model whose parameters are not finite.
    """
    batch_size = integer("batch_size", batch_size, 1)
    models, shifts = _listed(models), _SHIFTS if tta else _SHIFTS[:1]
    for model in models:
        _expect_finite(model)
    means = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        views = [_shifted(batch, down, right) for down, right in shifts]
        seen = [_of_one_view(model, view, mean, std) for model in models for view in views]
        means.append(np.sum(seen, axis=0) / len(seen))
    return np.concatenate(means)


def _listed(models: Sequential | Sequence[Sequential]) -> list[Sequential]:
    listed = [models] if isinstance(models, Sequential) else list(models)
    if not listed:
        raise ValueError("models expects at least one model, got none")
    for model in listed:
        if not isinstance(model, Sequential):
            raise TypeError(f"model expects a Sequential, as LeNet is, got {type(model).__name__}")
    return listed


def _of_one_view(model: Sequential, images: Array, mean: float | Sequence[float], std: float | Sequence[float]) -> Array:
    x = model.ops.gather_images(images, np.arange(len(images)), mean=mean, std=std)
    with _evaluating(model):
        return _softmax(np.asarray(model(x)))


def score(probabilities: Array, labels: Array) -> tuple[float, float]:
    """Returns the accuracy, a fraction, and the mean loss -log p[label] of probabilities (N, classes) for labels (N,), N > 0.

    Raises ValueError for other shapes or labels out of range, and TypeError for labels that are not integers.
    """
    probabilities, labels = np.asarray(probabilities), np.asarray(labels)
    if probabilities.ndim != 2 or labels.shape != (len(probabilities),) or probabilities.size == 0:
        shapes = f"{probabilities.shape} and {labels.shape}"
        raise ValueError(f"score expects probabilities (N, classes) and labels (N,) with N > 0, got shapes {shapes}")
    if labels.dtype.kind not in "iu":
        raise TypeError(f"labels expects integers, got {labels.dtype}")
    if labels.min() < 0 or labels.max() >= probabilities.shape[1]:
        raise ValueError(f"labels expects 0..{probabilities.shape[1] - 1}, got {labels.min()}..{labels.max()}")
    of_label = np.take_along_axis(probabilities, labels.astype(np.int64)[:, None], axis=1)
    accuracy = float((probabilities.argmax(axis=1) == labels).mean())
    return accuracy, float(-np.log(np.maximum(of_label, np.finfo(np.float64).tiny)).mean())


def _shifted(images: Array, down: int, right: int) -> Array:
    """Images (n, h, w) or (n, c, h, w), moved by at most one pixel, with zeros at the border."""
    if (down, right) == (0, 0):
        return images
    h, w = images.shape[-2:]
    framed = np.pad(images, [(0, 0)] * (images.ndim - 2) + [(1, 1), (1, 1)])
    return np.ascontiguousarray(framed[..., 1 - down : 1 - down + h, 1 - right : 1 - right + w])


def _softmax(logits: Array) -> Array:
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probabilities: Array = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities
