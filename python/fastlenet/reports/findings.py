"""The numbers and images of a report, which are computed before anything is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastlenet.backend import Array
from fastlenet.inference.facts import Label
from fastlenet.inference.judged import Judged
from fastlenet.inference.raw import RawImages
from fastlenet.inference.scores import Evaluation
from fastlenet.nn import Conv2d, Sequential
from fastlenet.nn.summary import LayerCost, costs
from fastlenet.nn.timing import step_seconds
from fastlenet.reports.calibration import Calibration
from fastlenet.reports.label_errors import LabelError, known_label_errors
from fastlenet.reports.repeating import Training
from fastlenet.training.history import History

if TYPE_CHECKING:
    from fastlenet.data.dataset import Part

__all__ = ["Example", "Findings", "Mistake", "Subject", "Timed"]

_EXAMPLES = 5  # whose activations are shown
_ACTIVATIONS = 250_000  # numbers of the activations of all examples


@dataclass(frozen=True)
class Subject:
    """The model and the data of a report.

    network: the name of its class. networks: in the ensemble, or 1. machine: what it ran on.
    """

    network: str
    networks: int
    input_shape: tuple[int, ...]
    data: str
    part: Part | None
    tta: bool
    machine: str


@dataclass(frozen=True, eq=False)
class Mistake:
    """An image that was taken for another class.

    index: its place among the images, from 0. probability: of the predicted class. probability_of_label: of the true class.
    image: its pixels, (h, w) or (c, h, w), as they were given. label_error: what is known about the label of an image of MNIST.
    """

    index: int
    label: Label
    predicted: Label
    probability: float
    probability_of_label: float
    image: Array
    label_error: LabelError | None


@dataclass(frozen=True, eq=False)
class Example:
    """An image and the output of each layer for it. label, predicted, probability: as in Mistake."""

    index: int
    label: Label
    predicted: Label
    probabilities: Array
    image: Array
    activations: Mapping[str, Array]


@dataclass(frozen=True)
class Timed:
    """Layers that run as one op, and their time for an image in a batch of `images`, in seconds."""

    layers: tuple[str, ...]
    seconds: float
    images: int


@dataclass(frozen=True, eq=False)
class Findings:
    """How good a model is on images whose labels are known, and what is inside it.

    evaluation: accuracy, interval, loss, precision and recall of each class, and the confusion matrix, as model.evaluate gives
    them. errors: the images that were taken for another class, the highest probability first. label_errors: the
    images of MNIST's test set whose label is known to be doubtful, by their places, whether the model errs there or not.
    filters: the weights of each convolution, (k, c, r, s). layers: what each costs. times: of the layers, where they run as one
    together. histories: the epochs of the training, for each network, if a history or a log was given.
    """

    subject: Subject
    evaluation: Evaluation
    calibration: Calibration
    errors: tuple[Mistake, ...]
    label_errors: Mapping[int, LabelError]
    filters: Mapping[str, Array]
    examples: tuple[Example, ...]
    layers: tuple[LayerCost, ...]
    times: tuple[Timed, ...]
    histories: tuple[History, ...]
    training: Training


def errors_of(judged: Judged, known: Mapping[int, LabelError]) -> tuple[Mistake, ...]:
    """The mistakes; the one with the highest probability first."""
    predicted = judged.probabilities.argmax(axis=1)
    places = np.flatnonzero(predicted != judged.labels)
    sure = judged.probabilities[places, predicted[places]]
    names = judged.evaluation.class_names
    return tuple(
        Mistake(
            index,
            names[judged.labels[index]],
            names[predicted[index]],
            float(judged.probabilities[index, predicted[index]]),
            float(judged.probabilities[index, judged.labels[index]]),
            judged.raw.images[index],
            known.get(index),
        )
        for index in places[np.argsort(-sure, kind="stable")].tolist()
    )


def label_errors_of(judged: Judged) -> Mapping[int, LabelError]:
    """The known label errors among the images."""
    return known_label_errors(judged.raw.images, judged.labels, scale=judged.raw.scale)


def filters_of(model: Sequential) -> dict[str, Array]:
    """The weights of the convolutions, by the names of their layers."""
    parameters = model.parameters()
    return {
        name: np.array(parameters[f"{name}.weight"])
        for name, layer in zip(model.names, model.layers, strict=True)
        if isinstance(layer, Conv2d)
    }


def costs_of(model: Sequential, raw: RawImages, batch_size: int) -> tuple[tuple[LayerCost, ...], tuple[Timed, ...]]:
    """What each layer costs, and the measured times in a batch of this size, or of all images if there are fewer."""
    layers = tuple(costs(model.layers, model.names, model.input_shape or ()))
    x = model._input("report", RawImages(raw.images[:batch_size], raw.scale, False))
    return layers, tuple(Timed(names, seconds / len(x), len(x)) for names, seconds in step_seconds(model, x))


def examples_of(model: Sequential, judged: Judged, errors: Sequence[Mistake]) -> tuple[Example, ...]:
    """A few images with the activations of a network: the worst errors, the least sure right answer, the first images."""
    right = judged.probabilities.argmax(axis=1) == judged.labels
    sure = np.where(right, judged.probabilities.max(axis=1), np.inf)
    chosen = [error.index for error in errors[: _EXAMPLES - 2]]
    chosen += [int(sure.argmin())] if right.any() else []
    chosen += [index for index in range(min(len(right), _EXAMPLES)) if index not in chosen]
    chosen = chosen[:_EXAMPLES]
    seen = model._activations("report", RawImages(judged.raw.images[chosen], judged.raw.scale, False))
    each = sum(array[0].size for array in seen.values())
    names = judged.evaluation.class_names
    return tuple(
        Example(
            index,
            names[judged.labels[index]],
            names[int(judged.probabilities[index].argmax())],
            judged.probabilities[index],
            judged.raw.images[index],
            {name: array[place] for name, array in seen.items()},
        )
        for place, index in enumerate(chosen[: max(1, _ACTIVATIONS // max(1, each))])
    )
