"""The weights of a loss: of classes, which a recipe names, and of single images."""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, SupportsIndex, cast

import numpy as np

from fastlenet.backend import Array
from fastlenet.fields import FieldError, FieldTypeError, FieldValueError, Values, nearest, shown

if TYPE_CHECKING:  # `import fastlenet` reads no data
    from fastlenet.data.dataset import Dataset

__all__ = ["ClassWeight", "class_weight_text", "class_weights", "image_weights", "sample_weights", "weights_digest"]

# What a recipe's class_weight may be made of.
ClassWeight = str | Mapping[int, float] | Mapping[str, float] | Sequence[float] | Array | None

_EXPECTED = '"balanced", a weight for each class in order, or weights by class'
_WEIGHT = Values(float, "a non-negative number", 0, sys.float_info.max)


# --- of classes, in a recipe -----------------------------------------------------------------------------------------------


def class_weight_text(value: object) -> str:
    """Returns the weights in the form in which a recipe holds them.

    That is "" for none; "balanced"; "1,2,0.5", a weight for each class in order; or "0=2,8=0.5", weights of some classes, where
    all others weigh 1. The value is such a text, a sequence, a mapping, or None. Raises FieldTypeError or FieldValueError.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return _of_text(value)
    if isinstance(value, Mapping):
        return _of_pairs(value.items(), value)
    if not isinstance(value, (Sequence, np.ndarray)) or isinstance(value, bytes):
        raise FieldTypeError("class_weight", value, _EXPECTED)
    weights = ",".join(_weight_text(weight, value) for weight in cast("Iterable[object]", value))
    if not weights:
        raise FieldValueError("class_weight", value, _EXPECTED)
    return weights


def _of_pairs(pairs: Iterable[tuple[object, object]], value: object) -> str:
    words = [(_class_text(key, value), _weight_text(weight, value)) for key, weight in pairs]
    twice = [name for number, (name, _) in enumerate(words) if name in dict(words[:number])]
    if twice:
        raise FieldValueError("class_weight", value, "one weight for each class", got=f"two for {twice[0]}")
    return ",".join(f"{name}={weight}" for name, weight in words)


def _of_text(text: str) -> str:
    if text in ("", "balanced"):
        return str(text)
    parts = text.split(",")
    try:
        if "=" not in text:
            return class_weight_text([float(part) for part in parts])
        pairs = [part.rpartition("=")[::2] for part in parts]
        return _of_pairs(((name.strip(), float(weight)) for name, weight in pairs), text)
    except FieldError:
        raise
    except ValueError:
        cure = "write balanced, 1,2,0.5 or 0=2,8=0.5"
        raise FieldValueError("class_weight", text, _EXPECTED, cure=cure) from None


def _class_text(key: object, value: object) -> str:
    if isinstance(key, str):
        if not key or key != key.strip() or set(key) & {",", "="}:
            cure = "give a weight for each class in order"
            raise FieldValueError("class_weight", value, "classes without , and = in their names", cure=cure, got=shown(key))
        return str(key)
    try:
        if isinstance(key, (bool, np.bool_)):
            raise TypeError
        return str(operator.index(cast(SupportsIndex, key)))
    except TypeError:
        raise FieldTypeError("class_weight", value, "numbers or names of classes as keys", got=shown(key)) from None


def _weight_text(weight: object, value: object) -> str:
    try:
        number = _WEIGHT.convert("class_weight", weight)
    except FieldError as error:
        raise type(error)("class_weight", value, "non-negative numbers as weights", got=shown(weight)) from None
    return repr(number).removesuffix(".0")


# --- of a data set ---------------------------------------------------------------------------------------------------------


def image_weights(class_weight: str, samples: Array | None, data: Dataset) -> Array | None:
    """Returns the weight of each training image in the loss, float32 (N,), or None if all are 1.

    class_weight: as a recipe holds it. samples: the result of sample_weights, or None; they are multiplied. Raises
    FieldValueError for a class that the data do not have, or if all weights are 0.
    """
    if not class_weight and samples is None:
        return None
    of_classes = class_weights(class_weight, data)[data.train_labels]
    with np.errstate(over="ignore"):
        exact = of_classes if samples is None else of_classes * samples
        weights: Array = exact.astype(np.float32)
    field, value = ("class_weight", class_weight) if class_weight else ("sample_weight", samples)
    if not np.isfinite(weights).all():
        raise FieldValueError(field, value, "weights that fit float32", got=f"one of {exact.max():.3g}")
    if not weights.any():
        raise FieldValueError(field, value, "a weight above 0 of at least one training image", got="0 for all of them")
    return weights


def class_weights(text: str, data: Dataset) -> Array:
    """Returns the weight of each class, float64 (classes,). text: as a recipe holds it. Raises FieldValueError."""
    weights: Array = np.ones(data.classes)
    if text == "balanced":  # as in scikit-learn: the classes that occur get the same share of the sum, and the mean is 1
        counts = np.bincount(data.train_labels, minlength=data.classes)
        here = counts > 0
        weights[here] = len(data.train_labels) / (np.count_nonzero(here) * counts[here])
    elif "=" in text:
        for part in text.split(","):
            name, _, weight = part.rpartition("=")
            weights[_class_number(name, data)] = float(weight)
    elif text:
        given = [float(part) for part in text.split(",")]
        if len(given) != data.classes:
            expected = f"{data.classes} weights, one for each class"
            raise FieldValueError("class_weight", text, expected, got=str(len(given)))
        weights[:] = given
    return weights


def _class_number(name: str, data: Dataset) -> int:
    """The number of the class of this name, or of this number, if no class has the name."""
    names = data.class_names
    if name in names:
        return names.index(name)
    if name.isdecimal() and int(name) < data.classes:
        return int(name)
    near = "" if name.isdecimal() else nearest(name, names)
    raise FieldValueError(
        "class_weight",
        name,
        f"classes of {data.name}: {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}",
        cure=f"did you mean {near}?" if near else "",
    )


def sample_weights(value: object, data: Dataset) -> Array:
    """Returns the weights of single images, float64 (N,), from an array or a sequence of numbers. Raises FieldTypeError or
    FieldValueError unless it has a finite, non-negative number for each training image, not all 0.
    """
    count = len(data.train_labels)
    expected = f"a number for each of the {count} training images"
    if isinstance(value, np.ma.MaskedArray):
        raise FieldTypeError("sample_weight", value, expected, got="a masked array, whose mask would be ignored")
    try:
        weights = np.asarray(value)
    except ValueError:
        raise FieldTypeError("sample_weight", value, expected) from None
    if weights.dtype.kind not in "fiub":
        raise FieldTypeError("sample_weight", value, expected)
    if weights.shape != (count,):
        cure = "take [:, 0] of it" if weights.shape == (count, 1) else ""
        got = f"{len(weights)} numbers" if weights.ndim == 1 else f"shape {weights.shape}"
        raise FieldValueError("sample_weight", value, expected, cure=cure, got=got)
    weights = weights.astype(np.float64)
    odd = np.flatnonzero(~((weights >= 0) & (weights < np.inf)))
    if odd.size:
        got = f"{weights[odd[0]]} for image {odd[0]}"
        raise FieldValueError("sample_weight", value, "finite, non-negative numbers", got=got)
    return weights


def weights_digest(weights: Array) -> str:
    """A checksum, by which two runs compare their weights."""
    import hashlib  # loads OpenSSL

    return hashlib.sha256(weights.tobytes()).hexdigest()
