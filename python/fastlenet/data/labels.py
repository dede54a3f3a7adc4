"""Labels of any kind as numbers 0, 1, ... and the names of the classes that these stand for."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fastlenet.data.images import Array, as_array, owner_of, type_error, value_error
from fastlenet.fields import INT64_MAX, integer

__all__ = ["MAX_CLASSES", "Classes", "Labels", "as_labels", "as_numbers", "label_dtype"]

Labels = npt.NDArray[np.uint8 | np.int64]

MAX_CLASSES = 1 << 16
_EXPECTED = "a label for each image, (n,): whole numbers, words or letters"
_SHOWN = 5  # labels in an error


def label_dtype(classes: int) -> type[np.uint8] | type[np.int64]:
    """The type of the numbers of so many classes."""
    return np.uint8 if classes <= 256 else np.int64


class Classes:
    """The classes of a data set: their labels in order, as the user writes them (`as_given`), and as names.

    classes: None takes the labels that occur, sorted; a number k stands for the labels 0..k-1, or for any k labels that all
    occur; a sequence has the names in their order, and the labels are then names, or numbers of names. Raises FieldTypeError
    and FieldValueError.
    """

    _is_fixed = False

    def __init__(self, name: str, labels: Array, classes: int | Sequence[object] | Array | None) -> None:
        occurring = np.unique(labels)
        field = f"{owner_of(name)}classes"
        if classes is None:
            self.labels = occurring
        elif isinstance(classes, (str, bytes)) or not hasattr(classes, "__len__"):
            self.labels = _numbered(name, field, occurring, classes)
        else:
            self.labels = as_labels(field, classes)
            if len(np.unique(self.labels)) < len(self.labels) or not len(self.labels):
                raise value_error(field, classes, "a different name for each class", _some(self.labels) or "none")
        if len(self.labels) > MAX_CLASSES:
            cure = "classes are few, and have several images each"
            raise value_error(name, labels, f"at most {MAX_CLASSES:,} classes", f"{len(self.labels):,} different labels", cure)
        self.as_given: tuple[str | int, ...] = tuple(self.labels.tolist())
        self.names = tuple(map(str, self.as_given))
        if classes is not None and self.labels.dtype.kind == "U" and occurring.dtype.kind in "iu":
            self.labels = np.arange(len(self.names))

    @classmethod
    def named(cls, names: tuple[str, ...], labels: Array) -> Classes:
        """The classes of these names, for such labels: the names, or numbers that are names, or else numbers of names."""
        words = as_numbers(names)
        if labels.dtype.kind == "U":
            words = np.asarray(names, np.str_)
        elif words.dtype.kind == "U" or not np.isin(labels, words).all():
            words = np.arange(len(names))
        return cls.fixed(words)

    @classmethod
    def fixed(cls, labels: Array) -> Classes:
        """The classes of a data set or a model that is there, by their labels: no cure for a label can change them."""
        made = cls("labels", labels, labels)
        made._is_fixed = True
        return made

    def encode(self, name: str, labels: Array) -> Labels:
        """The numbers of labels, (n,). Raises FieldValueError for one that is of no class."""
        order = np.argsort(self.labels, kind="stable")
        known = self.labels[order]
        if (labels.dtype.kind == "U") != (known.dtype.kind == "U"):
            raise type_error(name, labels, f"labels like those of the classes, {_some(self.labels)}", _some(labels))
        places = np.minimum(np.searchsorted(known, labels), len(known) - 1)
        wrong = np.flatnonzero(known[places] != labels)
        if len(wrong):
            strangers, first = np.unique(labels[wrong]), int(wrong[0])
            got = f"{_some(strangers)}, first at place {first}"
            expected = f"labels of the {len(known)} classes, {_some(self.labels)}"
            raise value_error(name, labels, expected, got, self._cure(strangers, labels))
        numbers: Labels = order[places].astype(label_dtype(len(known)))
        return numbers

    def _cure(self, strangers: Array, labels: Array) -> str:
        if strangers.dtype.kind in "iu" and (int(labels.min()), int(labels.max())) == (1, len(self.labels)):
            return "subtract 1 from labels that count from 1"
        return "" if self._is_fixed else "pass the names of all classes in order as classes=[...]"


def _numbered(name: str, field: str, occurring: Array, classes: object) -> Array:
    """The labels of so many classes."""
    if isinstance(classes, (str, bytes)):
        raise type_error(field, classes, "the number of classes, or a list of their names", repr(classes)[:40])
    count = integer(field, classes, 1, MAX_CLASSES)
    if occurring.dtype.kind in "iu":
        return np.arange(count)
    if len(occurring) == count:
        return occurring
    cure = "pass the names of all classes as classes=[...]"
    raise value_error(name, occurring, f"{count} different labels, one for each class", f"{len(occurring)}", cure)


def as_labels(name: str, value: object) -> Array:
    """Labels as integers or text, (n,). Raises FieldTypeError and FieldValueError, with the cure where it is clear."""
    if isinstance(value, (list, tuple)) and any(isinstance(label, str) for label in value):
        value = np.asarray([*value, None], object)[:-1]  # which shows whether something else is among the words
    labels = as_array(name, value, _EXPECTED)
    if labels.ndim != 1:
        raise value_error(name, value, _EXPECTED, f"shape {labels.shape}", _cure_of_shape(labels))
    if labels.dtype.kind == "O":
        labels = _of_objects(name, labels)
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels.astype(np.bytes_), "utf-8", "backslashreplace")
    if labels.dtype.kind == "b":
        return labels.astype(np.int64)
    if labels.dtype.kind == "f":
        if not (np.isfinite(labels).all() and (labels == np.rint(labels)).all() and (abs(labels) < 2**53).all()):
            odd = labels[~np.isfinite(labels) | (labels != np.rint(labels))]
            raise value_error(name, value, _EXPECTED, f"{_some(odd)}", "a class is a word or a whole number")
        return labels.astype(np.int64)
    if labels.dtype.kind not in "iuU":
        raise type_error(name, value, _EXPECTED, str(labels.dtype))
    if labels.dtype.kind == "u" and labels.size and labels.max() > INT64_MAX:
        raise value_error(name, value, _EXPECTED, str(labels.max()))
    return labels if labels.dtype.kind == "U" else labels.astype(np.int64, copy=False)


def as_numbers(words: Sequence[str]) -> Array:
    """Labels that were read as text: as integers, so that 10 comes after 9, where all of them are; else as they are."""
    array = np.asarray(words, np.str_)
    if all(re.fullmatch(r"-?(0|[1-9]\d{0,17})", word) for word in np.unique(array).tolist()):
        return array.astype(np.int64)
    return array


def _cure_of_shape(labels: Array) -> str:
    if labels.ndim == 2 and labels.shape[1] == 1:
        return "take [:, 0] of it"
    if labels.ndim == 2:
        return "take .argmax(axis=1) of one-hot rows"
    return ""


def _of_objects(name: str, labels: Array) -> Array:
    """Of Python's objects, as pandas has them: all of them words, or all of them numbers."""
    values = labels.tolist()
    if all(isinstance(value, str) for value in values):
        return np.asarray(values, np.str_)
    if all(isinstance(value, (int, float, np.number)) for value in values):
        return np.asarray(values, np.float64 if any(isinstance(value, (float, np.floating)) for value in values) else None)
    kinds = sorted({type(value).__name__ for value in values})
    raise type_error(name, labels, _EXPECTED, f"a mixture of {', '.join(kinds[:_SHOWN])}", "make words of them by str")


def _some(labels: Array) -> str:
    """A few labels, on one line that is not too long."""
    values = [repr(value)[:40] for value in labels[:_SHOWN].tolist()]
    return ", ".join(values) + (", ..." if len(labels) > _SHOWN else "")
