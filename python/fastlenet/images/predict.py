"""Read the digit, or the digits, on a picture, and warn of reasons to doubt them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fastlenet.backend import Array
from fastlenet.data.mnist import MEAN_STD
from fastlenet.images.choosing import cut_off, find_figures, in_reading_order, of_one_size
from fastlenet.images.detector import how_likely_a_digit
from fastlenet.images.framing import SIDE, frame
from fastlenet.images.ink import Ink, find_ink
from fastlenet.images.reading import Picture, read_picture
from fastlenet.images.shapes import Shape
from fastlenet.inference.facts import Label
from fastlenet.nn import Sequential
from fastlenet.quantization import QuantizedModel
from fastlenet.training.evaluation import probabilities

__all__ = ["Page", "Prediction", "predict_image", "predict_page"]

# Set on images and fonts that no network was trained on: docs/predict.md has what passes, benchmarks/bench_pictures.py
# --calibrate measures it.
_A_DIGIT = 0.3  # least probability that a shape is a digit at all
_CERTAIN = 0.6  # least probability of the label

Models = Sequential | QuantizedModel | Iterable[Sequential | QuantizedModel]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model predicts for one shape on a picture.

    label: the most probable class, one of class_names, or None if there is no shape. probability: the probability of the label,
    or 0.0 if there is no shape.
    probabilities: float64 (classes,), the probability of each class. They add to 1, and are all equal if there is no shape.
    class_names: the class of each probability; 0, 1, ... if the model does not know the names.
    image: uint8 (28, 28), what the model saw, white on black as in MNIST.
    warnings: the reasons to doubt the label, each a line that starts with "blank", "no digit", "several shapes" or "uncertain";
    empty if there are none.
    box: the place of the shape on the picture in pixels, (top, left, bottom, right), or None.
    """

    label: Label | None
    probability: float
    probabilities: Array
    class_names: tuple[Label, ...]
    image: Array
    warnings: tuple[str, ...] = ()
    box: tuple[int, int, int, int] | None = None

    def __repr__(self) -> str:
        what = f"label={self.label!r}, probability={self.probability:.3f}"
        return f"Prediction({what}{f', warnings={self.warnings}' if self.warnings else ''})"


@dataclass(frozen=True, eq=False)
class Page:
    """The digits on a picture.

    number: their labels as text, in reading order, with a line break between lines. digits: the prediction for each digit.
    warnings: the reasons to doubt the number, of the page and of its digits; empty if there are none.
    """

    number: str
    digits: tuple[Prediction, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Found:
    """What is on a picture: figures of about one size, the largest first. scale: pixels of the picture to one of the ink."""

    ink: Ink
    figures: list[Shape]
    scale: int

    def cuts_off(self, figure: Shape) -> bool:
        return cut_off(figure, self.ink.smooth.shape)

    @property
    def trouble(self) -> str:
        """Why there is no figure."""
        if not self.ink.clear:
            return "blank: nothing on the picture differs enough from its background"
        return "no digit: there are only specks, and lines that cross the picture"

    def box(self, figure: Shape) -> tuple[int, int, int, int]:
        corners = (figure.top, figure.left, figure.bottom, figure.right)
        top, left, bottom, right = (corner * self.scale for corner in corners)
        return top, left, bottom, right


class _Reader:
    """One model or several, and what they know. Raises TypeError or ValueError for models of other images than 28x28, gray."""

    def __init__(self, models: Models, tta: bool) -> None:
        self.tta = tta
        self.weights: Sequence[float] | None = getattr(models, "weights", None)  # of an Ensemble
        self.models = [models] if isinstance(models, (Sequential, QuantizedModel)) else list(models)
        for model in self.models:
            if not isinstance(model, (Sequential, QuantizedModel)):
                raise TypeError(f"model expects a Sequential such as LeNet, got {type(model).__name__}")
            shape = model.facts.input_shape
            if shape not in (None, (1, SIDE, SIDE)):
                cure = "model.predict takes images of its own shape"
                raise ValueError(f"model expects one for images of shape (1, {SIDE}, {SIDE}), got one for {shape}; {cure}")
        if not self.models:
            raise ValueError("model expects at least one model, got none")

    def scores(self, images: Array) -> Array:
        """Probabilities (n, classes) of uint8 (n, 28, 28), normalised as MNIST if the model does not know better."""
        facts = self.models[0].facts
        mean, std = MEAN_STD if facts.mean is None or facts.std is None else (facts.mean, facts.std)
        networks = [model for model in self.models if isinstance(model, Sequential)]
        integers = [model for model in self.models if isinstance(model, QuantizedModel)]
        sums = [np.asarray(model.predict_proba(images, tta=self.tta)) for model in integers]
        if networks:
            found = probabilities(networks, images, mean=mean, std=std, tta=self.tta, weights=self.weights)
            if not integers:
                return found
            sums.append(len(networks) * found)
        return np.asarray(np.sum(sums, axis=0) / len(self.models))

    def class_names(self, count: int) -> tuple[Label, ...]:
        return self.models[0].facts.class_names or tuple(range(count))

    def judged(self, found: _Found, figures: Sequence[Shape]) -> list[Prediction]:
        images = np.stack([frame(found.ink, figure) for figure in figures])
        scores = self.scores(images)
        names = self.class_names(scores.shape[1])
        likely = how_likely_a_digit(images) if _are_digits(names) else np.ones(len(images))
        return [
            Prediction(
                names[int(row.argmax())],
                float(row.max()),
                row,
                names,
                image,
                _doubts(row, float(digit), names, found.cuts_off(figure)),
                found.box(figure),
            )
            for image, row, digit, figure in zip(images, scores, likely, figures, strict=True)
        ]

    def nothing(self, trouble: str) -> Prediction:
        count = self.scores(np.zeros((1, SIDE, SIDE), np.uint8)).shape[1]
        even, black = np.full(count, 1 / count), np.zeros((SIDE, SIDE), np.uint8)
        return Prediction(None, 0.0, even, self.class_names(count), black, (trouble,))


def predict_image(model: Models, image: Picture, *, tta: bool = False) -> Prediction:
    """Returns the digit on a picture: a photograph, a scan or a drawing, of any size and colours, dark on light or the reverse.

    If there are several shapes, the largest is read, with a warning; predict_page reads them all.
    model: a network for images of 28x28 pixels such as MNIST's, also a quantized one; or several, whose probabilities are
    averaged.
    image: a file's name, a Pillow image, or an array (h, w), (h, w, c) or (c, h, w) of pixels in 0..1 or 0..255. To read files,
    install the extra `image`.
    tta: average the probabilities of what the model sees and of its four shifts by one pixel.

    Raises ImageError, a ValueError, for a file that is not a picture, and TypeError or ValueError for an array that is not a
    picture or for a model that takes other images.
    """
    reader, found = _Reader(model, tta), _look_at(image)
    if not found.figures:
        return reader.nothing(found.trouble)
    prediction = reader.judged(found, found.figures[:1])[0]
    count = len(found.figures)
    if count == 1:
        return prediction
    several = f"several shapes: {count} of about the same size, of which the largest was read; predict_page reads them all"
    return replace(prediction, warnings=(several, *prediction.warnings))


def predict_page(model: Models, image: Picture, *, tta: bool = False) -> Page:
    """Returns all digits on a picture, line by line, and in each line from left to right.

    Arguments and errors are those of predict_image.
    """
    reader, found = _Reader(model, tta), _look_at(image)
    if not found.figures:
        reader.nothing(found.trouble)  # which raises what a model of other images does
        return Page("", (), (found.trouble,))
    lines = in_reading_order(found.figures)
    digits = reader.judged(found, [figure for line in lines for figure in line])
    labels = iter(digits)
    number = "\n".join("".join(str(next(labels).label) for _ in line) for line in lines)
    where = [f"digit {index}: " if len(digits) > 1 else "" for index in range(1, len(digits) + 1)]
    warnings = (place + line for place, digit in zip(where, digits, strict=True) for line in digit.warnings)
    return Page(number, tuple(digits), tuple(warnings))


def _look_at(image: Picture) -> _Found:
    pixels, scale = read_picture(image)
    ink = find_ink(pixels)
    return _Found(ink, of_one_size(find_figures(ink)) if ink.clear else [], scale)


def _are_digits(names: Sequence[Label]) -> bool:
    """Whether the classes are the ten digits, so that a shape that is not a digit has none of them."""
    return tuple(map(str, names)) == tuple(map(str, range(10)))


def _doubts(scores: Array, digit: float, names: Sequence[Label], cut: bool) -> tuple[str, ...]:
    """The warnings about one shape. digit: the probability that it is a digit. cut: whether a part of it may be missing."""
    if digit < _A_DIGIT:
        nearest = names[int(scores.argmax())]
        return (f"no digit: the shape is a digit with a probability of only {digit:.1%}; the nearest digit is {nearest}",)
    if cut:
        return ("uncertain: the border of the picture cuts the shape off",)
    if scores.max() >= _CERTAIN or len(scores) < 2:
        return ()
    first, second = np.argsort(-scores, kind="stable")[:2]
    return (f"uncertain: {names[first]} with {scores[first]:.1%}, or {names[second]} with {scores[second]:.1%}",)
