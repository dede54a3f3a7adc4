"""How good predictions are: accuracy with its interval, loss, precision and recall of each class, the confusion matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from unicodedata import combining, east_asian_width

import numpy as np
import numpy.typing as npt

from fastlenet.backend import Array
from fastlenet.inference.facts import Label
from fastlenet.inference.losses import loss_of

__all__ = ["Evaluation", "score", "wilson_interval"]

_Z = 1.959963984540054  # of the normal distribution: 95 % lie within +-z
_MATRIX_WIDTH, _CONFUSIONS = 80, 10
_COLUMN = 3  # characters of a matrix's column, at least: two spaces and a digit
_MOST_CELLS = 100  # classes of which a notebook shows the matrix


def score(probabilities: Array, labels: Array, *, loss: str = "cross_entropy") -> tuple[float, float]:
    """Returns the accuracy, a fraction, and the mean loss of probabilities (N, classes) for labels (N,), N > 0.

    loss: "cross_entropy", which is -log p[label], or "mse", as in a Recipe.
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
    accuracy = float((probabilities.argmax(axis=1) == labels).mean())
    return accuracy, float(loss_of(loss).of_probabilities(probabilities, labels.astype(np.int64)).mean())


def wilson_interval(correct: int, count: int) -> tuple[float, float]:
    """Returns the 95 % interval of a share, of which `correct` out of `count` > 0 were seen.

    It stays within [0, 1] and is right for shares near 1 too. Source: Wilson, Probable inference, the law of succession, and
    statistical inference, Journal of the American Statistical Association 22(158), 1927.
    """
    share, weight = correct / count, _Z**2 / count
    centre = share + weight / 2
    half = _Z * math.sqrt(share * (1 - share) / count + weight / (4 * count))
    return max(0.0, (centre - half) / (1 + weight)), min(1.0, (centre + half) / (1 + weight))


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The result of evaluating a model on images whose labels are known.

    loss: the mean of -log p[label]. confusion_matrix: int64 (classes, classes); row i, column j counts the images of class i
    that were taken for class j. class_names: the label of each class. print(evaluation) shows tables.
    """

    loss: float
    confusion_matrix: npt.NDArray[np.int64]
    class_names: tuple[Label, ...]

    @classmethod
    def of(cls, probabilities: Array, labels: Array, names: tuple[Label, ...]) -> Evaluation:
        """probabilities: (N, classes). labels: (N,) in 0..classes-1. names: of the classes, or none."""
        _, loss = score(probabilities, labels)
        classes = probabilities.shape[1]
        pairs = labels.astype(np.int64) * classes + probabilities.argmax(axis=1)
        matrix = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
        return cls(loss, matrix, names or tuple(range(classes)))

    @property
    def count(self) -> int:
        """The number of images."""
        return int(self.confusion_matrix.sum())

    @property
    def correct(self) -> int:
        """The number of images that were classified correctly."""
        return int(np.trace(self.confusion_matrix))

    @property
    def accuracy(self) -> float:
        """The share of the images that were classified correctly."""
        return self.correct / self.count

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy, by Wilson's formula."""
        return wilson_interval(self.correct, self.count)

    @property
    def recall(self) -> Array:
        """The accuracy on the images of each class, float64 (classes,); NaN for a class without images."""
        return _share(np.diag(self.confusion_matrix), self.confusion_matrix.sum(axis=1))

    @property
    def precision(self) -> Array:
        """The share of the images taken for a class that belong to it, float64 (classes,); NaN if none was taken for it."""
        return _share(np.diag(self.confusion_matrix), self.confusion_matrix.sum(axis=0))

    def confusions(self) -> list[tuple[Label, Label, int]]:
        """Returns the mistakes, the most frequent first: the true class, the predicted class, and how often it happened."""
        rows, columns = np.nonzero(self.confusion_matrix)
        mistaken = rows != columns
        rows, columns = rows[mistaken], columns[mistaken]
        counts = self.confusion_matrix[rows, columns]
        places = np.argsort(-counts, kind="stable")
        pairs = zip(rows[places].tolist(), columns[places].tolist(), counts[places].tolist(), strict=True)
        return [(self.class_names[i], self.class_names[j], count) for i, j, count in pairs]

    def as_dict(self) -> dict[str, object]:
        """Returns everything as JSON can represent it; null stands for NaN and for an infinite loss.

        A class's accuracy is its recall.
        """
        rows = zip(self.class_names, self.confusion_matrix, self.precision, self.recall, strict=True)
        return {
            "accuracy": self.accuracy,
            "interval": list(self.interval),
            "loss": _finite(self.loss),
            "images": self.count,
            "correct": self.correct,
            "classes": [
                {
                    "label": name,
                    "images": int(row.sum()),
                    "correct": int(row[number]),
                    "accuracy": _finite(recall),
                    "precision": _finite(precision),
                    "recall": _finite(recall),
                }
                for number, (name, row, precision, recall) in enumerate(rows)
            ],
            "confusion_matrix": self.confusion_matrix.tolist(),
        }

    def as_json(self) -> str:
        """Returns as_dict() as one line of JSON."""
        import json  # here, since only files and commands need it

        return json.dumps(self.as_dict(), allow_nan=False)

    def __repr__(self) -> str:
        (low, high), count = self.interval, f"{self.count:,} images"
        return f"Evaluation(accuracy {self.accuracy:.2%}, 95 % in {low:.2%}..{high:.2%}, loss {self.loss:.4f}, {count})"

    def __str__(self) -> str:
        low, high = self.interval
        lines = [
            f"accuracy {self.accuracy:.2%}   {self.correct:,} of {self.count:,} images   95 % interval {low:.2%} to {high:.2%}",
            f"loss {self.loss:.4f}",
            "",
            *_aligned(self._class_rows(), left=1),
            "",
        ]
        if len(self.class_names) <= _MATRIX_WIDTH // _COLUMN:
            matrix = _aligned(self._matrix_rows(), left=1)
            if max(map(_width, matrix)) <= _MATRIX_WIDTH:
                return "\n".join(
                    [*lines, "confusion matrix: a row for each class, a column for what it was taken for", *matrix]
                )
        return "\n".join([*lines, *self._most_frequent()])

    def _class_rows(self) -> list[list[str]]:
        shown = [["class", "images", "correct", "accuracy (recall)", "precision"]]
        rows = zip(self.class_names, self.confusion_matrix, self.recall, self.precision, strict=True)
        for number, (name, row, recall, precision) in enumerate(rows):
            shown.append([_word(name), f"{row.sum():,}", f"{row[number]:,}", _percent(recall), _percent(precision)])
        return shown

    def _matrix_rows(self) -> list[list[str]]:
        head = ["", *map(_word, self.class_names)]
        rows = zip(self.class_names, self.confusion_matrix.tolist(), strict=True)
        return [head, *([_word(name), *("." if count == 0 else str(count) for count in row)] for name, row in rows)]

    def _most_frequent(self) -> list[str]:
        """Lines in place of a matrix that is wider than a terminal."""
        found = self.confusions()
        if not found:
            return ["no image was taken for another class"]
        rows = [[_word(name), "taken for", _word(other), f"{count:,} times"] for name, other, count in found[:_CONFUSIONS]]
        more = [f"and {len(found) - _CONFUSIONS} other pairs"] if len(found) > _CONFUSIONS else []
        return ["the most frequent mistakes", *_aligned(rows, left=3), *more]

    def _repr_html_(self) -> str:
        """The accuracy and the confusion matrix, or with many classes the most frequent mistakes, for notebooks."""
        if len(self.class_names) > _MOST_CELLS:
            return f"<div>{escape(repr(self))}<pre>{escape(chr(10).join(self._most_frequent()))}</pre></div>"
        head, *rows = [[escape(cell) for cell in row] for row in self._matrix_rows()]
        body = "".join(f"<tr><th>{row[0]}</th>{''.join(f'<td>{cell}</td>' for cell in row[1:])}</tr>" for row in rows)
        top = "".join(f"<th>{cell}</th>" for cell in head)
        return f"<div>{escape(repr(self))}<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"


def _share(part: Array, whole: Array) -> Array:
    shares: Array = np.full(len(part), np.nan)
    np.divide(part, whole, out=shares, where=whole > 0)
    return shares


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{share:.2%}"


def _word(name: Label) -> str:
    """A class's name on one line, not too long for a table."""
    text = str(name) if str(name).isprintable() else ascii(name)
    return text if len(text) <= 16 else f"{text[:13]}..."


def _aligned(rows: list[list[str]], left: int) -> list[str]:
    """The rows as lines; the first `left` columns are aligned at their left, the others at their right."""
    columns = []
    for number, column in enumerate(zip(*rows, strict=True)):
        width = max(map(_width, column))
        spaces = [" " * (width - _width(cell)) for cell in column]
        pairs = zip(column, spaces, strict=True)
        columns.append([cell + space if number < left else space + cell for cell, space in pairs])
    return ["  ".join(cells).rstrip() for cells in zip(*columns, strict=True)]


def _width(text: str) -> int:
    """The columns that a text takes on a terminal, where Chinese and Japanese letters take two, and accents none."""
    return sum(0 if combining(letter) else 2 if east_asian_width(letter) in "WF" else 1 for letter in text)
