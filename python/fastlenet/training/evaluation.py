"""Evaluates models on test images: one model or an ensemble, with or without test-time augmentation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastlenet.backend import Array
from fastlenet.data.dataset import Dataset, Part
from fastlenet.fields import integer
from fastlenet.inference.forward import BATCH_SIZE, averaged, evaluating, expect_finite
from fastlenet.inference.losses import loss_of
from fastlenet.inference.raw import reported_part
from fastlenet.inference.scores import score
from fastlenet.nn import Sequential
from fastlenet.training.ranks import Ranks

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


def has_images(data: Dataset) -> bool:
    """Whether the data set has images to report on."""
    return len(data.test_images) > 0 or len(data.validation_images) > 0


def expect_images(data: Dataset) -> None:
    """Raises ValueError for a data set without images to report on."""
    reported_part(data)


def expect_fit(model: Sequential, data: Dataset) -> None:
    """Try the model on one training image. Raises TypeError or ValueError if it does not give one score per class."""
    if not isinstance(data, Dataset):
        raise TypeError(f"data expects a Dataset, got {type(data).__name__}")
    if not isinstance(model, Sequential):
        raise TypeError(f"model expects a Sequential such as LeNet, got {type(model).__name__}")
    x = model.ops.gather_images(data.train_images[:1], np.arange(1), mean=data.mean, std=data.std)
    try:
        with evaluating(model):
            got = model(x).shape
    except ValueError as error:
        channels, h, w = data.input_shape
        words = "one channel" if channels == 1 else f"{channels} channels"
        cure = f"{type(model).__name__}(input_shape={data.input_shape}, classes={data.classes}) takes them"
        message = f"{data.name}: images of {h}x{w} pixels in {words} are not for this model; {error}"
        is_network = hasattr(type(model), "of")  # whose layers follow from the shape and the classes
        raise ValueError(f"{message}; {cure}" if is_network else message) from None
    if got != (1, data.classes):
        scores = f"{got[1]} scores" if len(got) == 2 else f"an output of shape {got[1:]}"
        raise ValueError(f"{data.name}: model expects {data.classes} outputs, the data's classes, got {scores} for an image")


def evaluate(
    model: Sequential,
    data: Dataset,
    batch_size: int = BATCH_SIZE,
    *,
    tta: bool = False,
    part: Part | None = None,
    loss: str = "cross_entropy",
    ranks: Ranks | None = None,
) -> tuple[float, float]:
    """Returns the accuracy, a fraction, and the mean loss on the test images. Restores the model's mode.

    model: it preprocesses the images as its facts say. batch_size: images at a time, at least 1. tta: average the
    probabilities of each image and its four shifts by one pixel.
    part: "train", "validation" or "test"; None is the test images, or the validation images if there are no test images.
    loss: "cross_entropy" or "mse", as in a Recipe. ranks: processes that share the images, unless tta is on; each gets the
    whole result, with the bits of a process alone.
    Raises TypeError or ValueError for a wrong argument, a model that does not match the data, or parameters that are not
    finite.
    """
    if tta:
        probabilities = predict([model], data, batch_size, tta=True, part=part)
        return score(probabilities, data.part(reported_part(data, part)).labels, loss=loss)
    batch_size = integer("batch_size", batch_size, 1)
    expect_fit(model, data)
    expect_images(data)
    expect_finite(model)
    mean_loss = loss_of(loss).op(model.ops)
    all_images, all_labels = data.part(reported_part(data, part))
    ops, count = model.ops, len(all_images)
    starts = range(0, count, batch_size)
    views = model.preprocessing.kept_views(all_images)
    sums = np.zeros((len(starts), 2))  # of each batch: the losses, and the images that are right
    with evaluating(model):
        for number in _own(len(starts), ranks):
            start = starts[number]
            part_of = slice(start, start + batch_size)
            images, labels, transform = all_images[part_of], all_labels[part_of], None if views is None else views[part_of]
            x = ops.gather_images(images, np.arange(len(images)), mean=data.mean, std=data.std, transform=transform)
            logits = model(x)
            batch_loss, _ = mean_loss(logits, labels)
            sums[number] = float(batch_loss) * len(images), (logits.argmax(axis=1) == labels).sum()
    if ranks is not None:
        sums = ranks.gather(sums.reshape(-1)).sum(axis=0).reshape(-1, 2)  # of each batch, all but one rank have 0
    total = 0.0
    for part_loss in sums[:, 0].tolist():  # in order; Python's sum rounds as its version does
        total += part_loss
    return int(sums[:, 1].sum()) / count, total / count


def _own(count: int, ranks: Ranks | None) -> range:
    """The batches that this rank computes."""
    return range(count) if ranks is None else range(ranks.rank * count // ranks.size, (ranks.rank + 1) * count // ranks.size)


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
    weights: Sequence[float] | None = None,
) -> Array:
    """Returns the class probabilities of images, float64 (N, classes): the mean over models and, with tta, over shifts.

    models: one model or several, at least one, of the same classes. images: as gather_images takes them, as mean and std.
    weights: with which the models count, of sum 1; None counts all alike.
    Raises ValueError for images that do not fit a model and for a model whose parameters are not finite.
    """
    batch_size = integer("batch_size", batch_size, 1)
    starts = range(0, len(images), batch_size)
    batches = (images[start : start + batch_size] for start in starts)
    return averaged(_listed(models), batches, mean=mean, std=std, tta=tta, weights=weights)


def _listed(models: Sequential | Sequence[Sequential]) -> list[Sequential]:
    listed = [models] if isinstance(models, Sequential) else list(models)
    if not listed:
        raise ValueError("models expects at least one model, got none")
    for model in listed:
        if not isinstance(model, Sequential):
            raise TypeError(f"model expects a Sequential such as LeNet, got {type(model).__name__}")
    return listed
